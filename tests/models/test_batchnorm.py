"""BatchNorm statistics: population moments, for any split into batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import weightspace as ws

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (24, 3)) * 2.0 + 1.0


class TwoLayers(nn.Module):
  """Dense, BatchNorm, relu, twice: small enough for NumPy."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(ws.models.BatchNorm(name="first")(nn.Dense(4, name="a")(x)))
    return nn.relu(ws.models.BatchNorm(name="second")(nn.Dense(5, name="b")(x)))


@pytest.fixture(scope="module")
def two():
  model = ws.models.from_linen(TwoLayers())
  return model, model.init(KEY, X)


def reference(params, x):
  """Exact statistics layer by layer, over all rows at once."""
  params, stats, x = jax.tree.map(np.asarray, params), {}, np.asarray(x)
  for dense, norm in (("a", "first"), ("b", "second")):
    x = x @ params[dense]["kernel"] + params[dense]["bias"]
    stats[norm] = {"mean": x.mean(0), "var": x.var(0)}
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    x = np.maximum(x * params[norm]["scale"] + params[norm]["bias"], 0.0)
  return stats, x


def close(found, expected, tolerance=1e-5):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance),
    found,
    expected,
  )


def run(fold, batches):
  state = fold.init(batches[0])
  for x in batches:
    state = fold.update(state, x)
  return state


@pytest.mark.parametrize("cuts", [[], [8, 16], [1, 4, 23]])
def test_population_is_exact_for_every_split(two, cuts):
  model, params = two
  expected, logits = reference(params, X)
  stats = ws.models.population(model, params, jnp.split(X, cuts))
  close(stats, expected)
  found = model.apply(params, X[:1], stats)  # one row: no batch to lean on
  np.testing.assert_allclose(found, logits[:1], rtol=1e-4, atol=1e-5)


def test_one_pass_is_exact_in_the_first_layer_only(two):
  model, params = two
  expected, _ = reference(params, X)
  batches = jnp.split(X, [4, 8])
  stats = ws.models.population(model, params, batches, passes=1)
  close(stats["first"], expected["first"])
  gap = np.abs(stats["second"]["var"] - expected["second"]["var"])
  assert gap.max() > 1e-3
  fold = ws.models.batch_norm(model, params, stats)
  close(fold.value(run(fold, batches)), expected)


def test_one_batch_gives_what_training_mode_uses(two):
  model, params = two
  fold = ws.models.batch_norm(model, params)
  stats = fold.value(run(fold, [X]))
  np.testing.assert_allclose(
    model.apply(params, X, stats), model.apply(params, X), atol=1e-5
  )


def test_merge_and_scan_agree_with_the_loop(two):
  model, params = two
  fold = ws.models.batch_norm(model, params)
  batches = X.reshape(6, 4, 3)
  whole = fold.value(run(fold, batches))
  parts = fold.merge(run(fold, batches[:2]), run(fold, batches[2:]))
  close(fold.value(parts), whole)
  empty = fold.init(batches[0])
  close(fold.value(fold.merge(empty, parts)), whole)

  @jax.jit
  def scanned(params, batches):
    fold = ws.models.batch_norm(model, params)
    step = lambda state, x: (fold.update(state, x), None)  # noqa: E731
    return fold.value(jax.lax.scan(step, fold.init(batches[0]), batches)[0])

  close(scanned(params, batches), whole)


def test_moments_survive_a_large_offset():
  model = ws.models.from_linen(ws.models.BatchNorm())
  x = X + 4096.0
  params = model.init(KEY, x)
  stats = ws.models.population(model, params, jnp.split(x, 6))
  exact = np.asarray(x, np.float64)
  np.testing.assert_allclose(stats["mean"], exact.mean(0), rtol=1e-6)
  np.testing.assert_allclose(stats["var"], exact.var(0), rtol=1e-4)


@pytest.mark.parametrize(
  "name, hyper",
  [
    ("resnet", {"depth": 8, "width": 0.125, "norm": "batch"}),
    ("vgg", {"widths": [2], "depths": [2], "norm": "batch"}),
  ],
)
def test_statistics_mirror_the_parameters(name, hyper):
  model = ws.models.build(name, **hyper)
  x = jax.random.normal(KEY, (4, 4, 4, 3))
  params = model.init(KEY, x)
  stats = ws.models.population(model, params, [x], passes=1)
  layers = {p[: -len("/mean")] for p in ws.trees.names(stats) if "mean" in p}
  named = ws.trees.named(params)
  assert layers == {p[:-6] for p in named if "norm" in p and "scale" in p}
  for path, leaf in ws.trees.named(stats).items():
    assert leaf.shape == named[path.rsplit("/", 1)[0] + "/scale"].shape
  assert "mean" not in str(ws.trees.names(params))


def test_permuted_channels_need_permuted_statistics(two):
  model, params = two
  order = jnp.array([2, 0, 3, 1])
  stats = ws.models.population(model, params, [X])
  moved = {
    **params,
    "a": jax.tree.map(lambda w: w[..., order], params["a"]),
    "first": jax.tree.map(lambda w: w[order], params["first"]),
    "b": {**params["b"], "kernel": params["b"]["kernel"][order]},
  }
  permuted = {
    **stats,
    "first": jax.tree.map(lambda w: w[order], stats["first"]),
  }
  expected = model.apply(params, X, stats)
  np.testing.assert_allclose(
    model.apply(moved, X, permuted), expected, atol=1e-5
  )
  assert jnp.abs(model.apply(moved, X, stats) - expected).max() > 1e-2


def test_dtype_is_given_back():
  layer = ws.models.BatchNorm()
  x = X.astype(jnp.bfloat16)
  params = layer.init(KEY, x)["params"]
  found = layer.apply({"params": params}, x, mutable=["moments"])[0]
  exact = layer.apply(
    {"params": params}, x.astype(jnp.float32), mutable=["moments"]
  )[0]
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


def test_models_without_it_ignore_statistics():
  model = ws.models.build("mlp", hidden=(4,))
  params = model.init(KEY, X)
  assert ws.models.population(model, params, [X]) == {}
  found = model.apply(params, X, {"first": 1.0})
  np.testing.assert_array_equal(found, model.apply(params, X))


def test_refused(two):
  model, params = two
  stats = ws.models.population(model, params, [X], passes=1)
  del stats["second"]
  with pytest.raises(ValueError, match="stats: 'second' has no mean and var"):
    model.apply(params, X, stats)
  with pytest.raises(ValueError, match="batches: none, expected at least one"):
    ws.models.population(model, params, [])
  with pytest.raises(ValueError, match="passes: 0, expected at least 1"):
    ws.models.population(model, params, [X], passes=0)
