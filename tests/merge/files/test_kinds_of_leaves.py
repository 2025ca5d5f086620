"""Leaves of every dtype, and values that are no weights, in many recipes."""

import jax
import ml_dtypes
import numpy as np
import pytest

import weightspace as ws
from weightspace import checkpoints
from weightspace.checkpoints import writers
from weightspace.merge.files import masks

RECIPES = {
  "uniform": ws.merge.uniform(),
  "linear": ws.merge.linear([0.3, 0.0, 0.7]),
  "task_arithmetic": ws.merge.task_arithmetic(0.7),
  "ties": ws.merge.ties(0.5),
  "dare": ws.merge.dare(0.5),
  "magmax": ws.merge.magmax(),
  "karcher": ws.merge.karcher(),
  "model_stock": ws.merge.model_stock(),
  "breadcrumbs": ws.merge.breadcrumbs(0.5, 0.1),
  "iso_c": ws.merge.iso_c(),
}
FP8 = ml_dtypes.float8_e4m3fn
EXACT = {
  "steps": np.array(2**40 + 7, np.int64),
  "large": np.array([2**63 + 1], np.uint64),
  "flag": np.array([True, False]),
  "bytes": np.array([3, -3], np.int8),
  "none": np.zeros((0, 3), np.float32),
  "nothing": np.zeros((4, 0), np.float64),
}


def model(seed):
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return rng.normal(size=shape)

  waves = normal(3) + 1j * normal(3)
  return EXACT | {
    "double": normal(3, 4) * (1 + 1e-12),
    "single": normal(3, 4).astype(np.float32),
    "half": normal(5).astype(np.float16),
    "bf16": normal(5).astype(ml_dtypes.bfloat16),
    "fp8": normal(5).astype(FP8),
    "wave": waves.astype(np.complex64),
    "scalar": np.float32(normal()),
    "one": normal(1).astype(np.float32),
    "wide_scalar": np.float64(normal()),
  }


BASE, MODELS = model(0), [model(seed) for seed in (1, 2, 3)]


def stored(folder, name, tree):
  kinds = {path: (np.shape(x), np.asarray(x).dtype) for path, x in tree.items()}
  writer = writers.begin(folder / name, kinds)
  for path, x in tree.items():
    writer.write(path, x)
  writer.finish()
  return folder / name


def streamed(folder, recipe, trees, base, **options):
  inputs = [stored(folder, f"m{n}", tree) for n, tree in enumerate(trees)]
  start = stored(folder, "base", base)
  needs = {"base": start} if "base" in recipe.needs else {}
  key = jax.random.key(0) if "key" in recipe.needs else None
  ws.merge.stream(recipe, inputs, folder / "out", key=key, **needs, **options)
  reader = checkpoints.open(folder / "out")
  return {name: reader.read(name) for name in reader.keys()}


def in_memory(recipe, trees, base):
  needs = {"base": base} if "base" in recipe.needs else {}
  key = jax.random.key(0) if "key" in recipe.needs else None
  return ws.merge.run(recipe, trees, key=key, **needs)


@pytest.mark.parametrize("name", RECIPES)
def test_every_dtype_is_merged_or_copied_exactly(tmp_path, name):
  merged = streamed(tmp_path, RECIPES[name], MODELS, BASE)
  assert set(merged) == set(BASE)
  for path, x in merged.items():
    assert x.dtype == np.asarray(BASE[path]).dtype
    assert x.shape == np.shape(BASE[path])
  for path, x in EXACT.items():
    np.testing.assert_array_equal(merged[path], x)
  # In memory it is the same, in 64 bits too.
  floats = [{p: x for p, x in m.items() if p not in EXACT} for m in MODELS]
  start = {p: x for p, x in BASE.items() if p not in EXACT}
  whole = in_memory(RECIPES[name], floats, start)
  for path, x in whole.items():
    near = 1e-13 if merged[path].dtype == np.float64 else 1e-6
    if merged[path].dtype.itemsize < 4:
      near = 0.13 if path == "fp8" else 1e-2
    a, b = (np.asarray(y).astype(complex) for y in (x, merged[path]))
    np.testing.assert_allclose(a, b, near, near)


def test_float64_is_merged_in_float64(tmp_path):
  merged = streamed(tmp_path, RECIPES["task_arithmetic"], MODELS, BASE)
  deltas = sum(m["double"] - BASE["double"] for m in MODELS)
  expected = BASE["double"] + 0.7 * deltas
  np.testing.assert_allclose(merged["double"], expected, 1e-14)


def test_in_memory_64_bits_are_kept_or_refused():
  trees = [{"w": np.array([1 + 1e-12]), "n": np.int64(2**40 + 7)}]
  trees += [{"w": np.array([1 + 3e-12]), "n": np.int64(0)}]
  merged = ws.merge.run(ws.merge.uniform(), trees)
  assert merged["n"] == 2**40 + 7 and merged["w"].dtype == np.float64
  np.testing.assert_allclose(merged["w"] - 1, 2e-12, 1e-3)
  mean = ws.average.run(ws.average.running_mean(), trees)
  np.testing.assert_allclose(mean["w"] - 1, 2e-12, 1e-3)
  with pytest.raises(ValueError, match="model 0: 'n' holds 1099511627783"):
    ws.stack(trees)
  small = [{"n": np.int64(3), "w": np.ones(2)}] * 2
  assert ws.stack(small)["n"].tolist() == [3, 3]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("value", [-np.inf, np.finfo(np.float32).min])
def test_masks_stay_as_they_are_and_do_not_spread(tmp_path, name, value):
  mask = np.where(np.triu(np.ones((4, 4), bool), 1), np.float32(value), 0)

  def masked(seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(4, 4)).astype(np.float32)
    return {
      "kernel": kernel,
      "mask": mask,
      "mixed": np.where(mask, mask, kernel),
    }

  trees, base = [masked(seed) for seed in (1, 2, 3)], masked(0)
  merged = streamed(tmp_path, RECIPES[name], trees, base)
  np.testing.assert_array_equal(merged["mask"], mask)
  np.testing.assert_array_equal(merged["mixed"][mask != 0], value)
  *rest, start = [
    t | {"mixed": np.where(mask, 0, t["mixed"]), "mask": 0 * t["kernel"]}
    for t in (*trees, base)
  ]
  if name != "dare":  # whose draws depend on the leaf's path alone
    alone = in_memory(RECIPES[name], rest, start)["mixed"]
    np.testing.assert_allclose(
      merged["mixed"][mask == 0], alone[mask == 0], 1e-5, 1e-6
    )


def test_what_a_merge_makes_infinite_is_named(tmp_path):
  trees = [{"x": np.full(4, 4e4, np.float16)} for _ in range(3)]
  doubled = ws.merge.linear([1.0, 1.0, 1.0], normalize=False)
  with pytest.raises(ValueError, match=r"'x': the merge makes inf .* 6.55e.04"):
    streamed(tmp_path, doubled, trees, trees[0])


def test_an_infinity_in_one_model_only_is_refused(tmp_path):
  trees = [{"x": np.float32([1.0, value])} for value in (1.0, np.inf, 2.0)]
  with pytest.raises(ValueError, match="'x' is infinite in some models"):
    streamed(tmp_path, ws.merge.uniform(), trees, trees[0])


def test_what_was_taken_out_is_put_back():
  models = [np.float16([65504, -np.inf, x]) for x in (1, 3)]
  held, rest, base = masks.take("m", models, None)
  assert [x.tolist() for x in rest] == [[0, 0, 1], [0, 0, 3]] and base is None
  back = masks.put(held, np.float16([0, 0, 2]))
  assert back.tolist() == [65504, -np.inf, 2]
  plain = [np.float32([1.0]), np.float32([2.0])]
  assert masks.take("m", plain, None)[0] is None
