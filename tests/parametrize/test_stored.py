"""Computed leaves in files of both formats, read whole and leaf by leaf."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import checkpoints, merge
from weightspace import parametrize as p
from weightspace.parametrize import stored

NAMES = ("model", "model.safetensors")
RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), "float32")


def leaves():
  kernel, key = normal(4, 6), jax.random.key(0)
  adapter = p.Adapter(normal(4, 2), normal(2, 6), 0.5)
  return {
    "adapter": adapter,
    "bone": p.Changed(kernel, p.Bone(normal(3, 2, 2))),
    "coarse": p.quantise(kernel.astype("bfloat16"), bits=3),
    "companded": p.companded(9.0, 1.0)(None, kernel),
    "dora": p.Changed(kernel, p.dora(2)(key, kernel)),
    "frozen": p.Frozen(kernel),
    "kronecker": p.Changed(kernel, p.kronecker(2)(key, kernel)),
    "learned": p.scale_learned(2)(None, kernel),
    "masked": p.Masked(kernel, kernel > 0),
    "merged": p.merge(p.Changed(kernel, adapter)),
    "miss": p.Changed(kernel, p.Miss(normal(2, 6))),
    "mixture": p.Mixture(normal(3, 4, 6), normal(3)),
    "on coarse": p.Changed(p.quantise(kernel, 4), adapter),
    "power": p.quantise(kernel, 4, curve="power", power=0.5),
    "shaped": p.attach(normal(3, 3, 2, 4), "*", p.lora(2), key),
    "stats": p.StatsQ(kernel, 2),
    "svd": p.Changed(kernel, p.svd_lora(2)(key, kernel)),
    "vera": p.Changed(kernel, p.vera(2, key)(None, kernel)),
  }


def tree():
  return {"layers": [leaves()], "plain": normal(3), "empty": np.zeros((0, 2))}


@pytest.mark.parametrize("name", NAMES)
def test_trees_come_back(tmp_path, name):
  given = tree()
  checkpoints.save(tmp_path / name, given)
  back = checkpoints.restore(tmp_path / name)
  assert jax.tree.structure(back) == jax.tree.structure(given)
  pairs = zip(jax.tree.leaves(back), jax.tree.leaves(given))
  for got, want in pairs:
    np.testing.assert_array_equal(got, want)
  values = ws.trees.named(p.value(given))
  for path, got in ws.trees.named(p.value(back)).items():
    np.testing.assert_array_equal(got, values[path], err_msg=path)


@pytest.mark.parametrize("name", NAMES)
def test_readers_show_values_or_factors(tmp_path, name):
  given = tree()
  checkpoints.save(tmp_path / name, given)
  reader = checkpoints.open(tmp_path / name)
  values = ws.trees.named(p.value(given))
  assert sorted(reader.keys()) == sorted(values)
  for path, want in values.items():
    assert reader.shape(path) == want.shape and reader.dtype(path) == want.dtype
    np.testing.assert_allclose(reader.read(path), want, atol=1e-6)
  path = "layers/0/bone"
  np.testing.assert_allclose(
    reader.read(path, slice(1, 3)), values[path][1:3], atol=1e-6
  )
  factors = checkpoints.open(tmp_path / name, factors=True)
  assert "layers/0/adapter/a" in factors.keys()
  assert path not in factors.keys()


def test_codes_are_packed(tmp_path):
  kernel = normal(64, 64)
  sizes = {}
  for bits in (2, 4, 8):
    path = tmp_path / f"{bits}.safetensors"
    checkpoints.save(path, {"w": p.quantise(kernel, bits)})
    sizes[bits] = checkpoints.open(path, factors=True).shape("w/packed")
  assert sizes == {bits: (64 * 64 * bits // 8,) for bits in sizes}


def test_every_leaf_of_the_room_can_be_stored():
  kinds = {type(x).__name__ for x in leaves().values()}
  kinds |= {
    type(x.change).__name__ for x in leaves().values() if hasattr(x, "change")
  }
  assert kinds == set(stored.KINDS)


def test_merges_stream_values(tmp_path):
  models = []
  for seed in range(2):
    one = {"w": p.quantise(normal(6, 4), 8), "b": normal(4)}
    checkpoints.save(tmp_path / f"{seed}.safetensors", one)
    models.append(p.value(one))
  merge.stream(
    merge.uniform(),
    [tmp_path / "0.safetensors", tmp_path / "1.safetensors"],
    tmp_path / "merged.safetensors",
  )
  found = checkpoints.open(tmp_path / "merged.safetensors")
  want = merge.uniform()(ws.stack(models))
  for path in ("w", "b"):
    np.testing.assert_allclose(found.read(path), want[path], atol=1e-6)


def test_rules_that_are_shared_are_kept_apart(tmp_path):
  one = p.attach(
    {"w": normal(4, 6)}, "w", p.kronecker(2, shared=True), jax.random.key(0)
  )
  path = tmp_path / "model.safetensors"
  checkpoints.save(path, {"rules": normal(2, 2, 2), "model": one})
  assert "model/w/change/left" in checkpoints.open(path).keys()
  back = checkpoints.restore(path)
  whole = p.value(p.share(back["model"], back["rules"]))
  np.testing.assert_array_equal(whole["w"], one["w"].base)


def test_what_is_not_ours_is_refused(tmp_path):
  class Thing:
    def value(self):
      return 1.0

  with pytest.raises(ValueError, match="'w' is a Thing"):
    checkpoints.save(tmp_path / "x", {"w": Thing()})
  with pytest.raises(ValueError, match="kind 'Thing'"):
    stored.put_together("Thing", {}, {})
  with pytest.raises(ValueError, match=r"a Miss has \['e'\]"):
    stored.put_together("Miss", {"e": 1}, {})


def test_a_record_that_was_tampered_with_is_one_error(tmp_path):
  path = tmp_path / "model"
  checkpoints.save(path, {"w": p.quantise(normal(4, 4), 4)})
  beside = path / "weightspace.json"
  record = json.loads(beside.read_text())
  record["tree"]["dict"]["w"]["computed"]["kind"] = "os.system"
  beside.write_text(json.dumps(record))
  with pytest.raises(ValueError, match=r"truncated or foreign.*os.system"):
    checkpoints.restore(path)
