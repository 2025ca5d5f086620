"""Task vectors as things, comparisons, adapters."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge


def make(seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return {
    "dense": {
      "kernel": jnp.asarray(rng.normal(size=(3, 5)), dtype),
      "bias": jnp.asarray(rng.normal(size=5), dtype),
    },
    "scale": jnp.asarray(rng.normal(), dtype),
    "steps": jnp.int32(7),
  }


def flat(tree):
  return {n: np.asarray(x, np.float64) for n, x in ws.trees.named(tree).items()}


def close(got, wanted, atol=1e-6):
  got, wanted = flat(got), flat(wanted)
  assert got.keys() == wanted.keys()
  for path, x in got.items():
    np.testing.assert_allclose(x, wanted[path], atol=atol, err_msg=path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_apply_undoes_delta(dtype):
  a, base = make(1, dtype), make(2, dtype)
  change = merge.delta(a, base)
  back = merge.apply(base, change)
  close(back, a, 0 if dtype == "bfloat16" else 1e-6)
  assert back["scale"].dtype == dtype and change["scale"].dtype == "float32"
  assert change["steps"] == 0 and back["steps"].dtype == jnp.int32
  close(merge.apply(base, change, 0.0), base, 0)


def test_a_scaled_delta_is_task_arithmetic():
  a, base = make(1), make(2)
  wanted = merge.task_arithmetic(0.3)(ws.stack([a]), base=base)
  close(merge.apply(base, merge.delta(a, base), 0.3), wanted)


@pytest.mark.parametrize("scope", ["tensor", "row"])
@pytest.mark.parametrize("bits, levels", [(8, 127), (4, 7)])
def test_codes_are_within_half_a_level(bits, levels, scope):
  change = merge.delta(make(1), make(2))
  back = merge.unpack(merge.pack(change, bits, scope), make(2))
  for path, x in flat(change).items():
    rows = x[None] if x.ndim == 0 else x
    axis = -1 if scope == "row" else None
    top = np.abs(rows).max(axis, keepdims=True)
    error = np.abs(flat(back)[path] - x)
    assert (error <= top / (2 * levels) + 1e-6).all(), path
    if x.ndim and levels * np.abs(x).max() > 0:  # and no better by chance
      assert error.max() > 0.05 * top.max() / (2 * levels), path


def test_one_bit_keeps_signs_at_the_mean_size():
  change = merge.delta(make(1), make(2))
  packed = merge.pack(change, 1)
  kernel = flat(change)["dense/kernel"]
  assert packed["dense"]["kernel"]["sign"].nbytes == 2  # 15 bits
  got = flat(merge.unpack(packed, make(2)))["dense/kernel"]
  wanted = np.where(kernel >= 0, 1, -1) * np.abs(kernel).mean()
  np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["kept", "kept.safetensors"])
@pytest.mark.parametrize("bits", [8, 4, 1])
def test_packed_deltas_are_saved_and_restored(tmp_path, bits, name):
  change = merge.delta(make(1), make(2))
  packed = merge.pack(change, bits, "row")
  ws.checkpoints.save(tmp_path / name, packed)
  restored = ws.checkpoints.restore(tmp_path / name)
  close(merge.unpack(restored, change), merge.unpack(packed, change), 0)


def test_zero_deltas_stay_zero():
  zeros = jax.tree.map(jnp.zeros_like, merge.delta(make(1), make(2)))
  for bits in (8, 4, 1):
    close(merge.unpack(merge.pack(zeros, bits), zeros), zeros, 0)


@pytest.mark.parametrize("with_base", [False, True])
def test_compare_against_numpy(with_base):
  a, b, base = make(1), make(2), make(3) if with_base else None
  found = merge.compare(a, b, base)
  start = flat(base) if with_base else dict.fromkeys(flat(a), 0.0)
  xs = {n: (flat(a)[n] - start[n]).ravel() for n in flat(a) if n != "steps"}
  ys = {n: (flat(b)[n] - start[n]).ravel() for n in xs}
  xs |= {"": np.concatenate(list(xs.values()))}
  ys |= {"": np.concatenate(list(ys.values()))}
  assert found.leaves.keys() == xs.keys() - {""}
  for path, x in xs.items():
    y, got = ys[path], found.leaves.get(path, found.total)
    lengths = [np.linalg.norm(z) for z in (x, y, x - y)]
    wanted = [*lengths, x @ y / lengths[0] / lengths[1], np.mean(x * y < 0)]
    np.testing.assert_allclose(list(got.values()), wanted, rtol=1e-5)


def test_a_comparison_is_text_and_json():
  a = {"w": jnp.zeros(3), "v": jnp.ones(2)}
  found = merge.compare(a, a)
  assert np.isnan(found.leaves["w"]["cosine"])
  assert "v " in found.text() and "total" in found.text()
  data = json.loads(found.json())
  assert data["leaves"]["w"]["cosine"] is None
  assert data["total"]["distance"] == 0


def adapters(count=2, rank=2):
  rng = np.random.default_rng(5)

  def one():
    a, b = (
      jnp.asarray(rng.normal(size=s), "f4") for s in ((3, rank), (rank, 5))
    )
    return {"dense": {"kernel": merge.Adapter(a, b, 0.5)}}

  return [one() for _ in range(count)]


def test_adapters_by_product_are_the_merge_of_full_models():
  base, both = make(1), adapters()
  recipe = merge.task_arithmetic(0.4)
  got = merge.run_adapters(recipe, both, base)
  leaves = [x["dense"]["kernel"] for x in both]
  change = sum(0.5 * np.asarray(x.a) @ np.asarray(x.b) for x in leaves)
  wanted = np.asarray(base["dense"]["kernel"]) + 0.4 * change
  np.testing.assert_allclose(got["dense"]["kernel"], wanted, atol=1e-6)
  close(
    {**got, "dense": got["dense"]["bias"]},
    {**base, "dense": base["dense"]["bias"]},
    0,
  )


def test_adapters_by_factors_average_them_apart():
  base, both = make(1), adapters()
  got = merge.run_adapters(merge.uniform(), both, base, "factors")
  a, b = (
    sum(np.asarray(getattr(x["dense"]["kernel"], n)) for x in both) / 2
    for n in "ab"
  )
  wanted = np.asarray(base["dense"]["kernel"]) + 0.5 * a @ b
  np.testing.assert_allclose(got["dense"]["kernel"], wanted, atol=1e-6)
  ranks = adapters(1, 1) + adapters(1, 3)
  merge.run_adapters(merge.uniform(), ranks, base)  # products may be mixed


def test_bad_deltas_are_named():
  a, base = make(1), make(2)
  with pytest.raises(ValueError, match="'scale' is missing"):
    merge.delta({k: v for k, v in a.items() if k != "scale"}, base)
  with pytest.raises(ValueError, match="NaN in 'scale'"):
    merge.delta(a | {"scale": jnp.float32(jnp.nan)}, base)
  with pytest.raises(ValueError, match="'scale' is"):
    merge.apply(base, merge.delta(a, base) | {"scale": jnp.ones(2)})
  with pytest.raises(ValueError, match="bits is 3"):
    merge.pack(a, bits=3)
  with pytest.raises(ValueError, match="scope is 'layer'"):
    merge.pack(a, scope="layer")
  packed = merge.pack(a, 4)
  with pytest.raises(ValueError, match="'scale' is missing"):
    merge.unpack({k: v for k, v in packed.items() if k != "scale"}, a)
  with pytest.raises(ValueError, match="'dense/bias' has 3 codes"):
    wider = {"bias": jnp.ones(9), "kernel": a["dense"]["kernel"]}
    merge.unpack(packed, a | {"dense": wider})
  with pytest.raises(ValueError, match="'steps' is missing"):
    merge.compare(a, {k: v for k, v in a.items() if k != "steps"})
  with pytest.raises(ValueError, match="factors is 'both'"):
    merge.run_adapters(merge.uniform(), adapters(), base, "both")
  odd = merge.Adapter(jnp.ones((3, 2)), jnp.ones((1, 5)))
  with pytest.raises(ValueError, match="'dense/kernel' has factors"):
    merge.run_adapters(merge.uniform(), [{"dense": {"kernel": odd}}], base)
  with pytest.raises(ValueError, match="'head' is not in the base"):
    merge.run_adapters(
      merge.uniform(), [{"head": adapters()[0]["dense"]["kernel"]}], base
    )
