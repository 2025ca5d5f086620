"""REPAIR and layer-wise least squares: closed forms and NumPy references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import match
from weightspace.match.repairs import layers, layerwise, repairing

X = np.random.default_rng(0).normal(size=(40, 6)).astype("f")


def draw(name, seed):
  _, params, _, _ = architectures.build(name)
  random = np.random.default_rng(seed)
  leaves = [
    random.normal(size=x.shape).astype("f") for x in jax.tree.leaves(params)
  ]
  return jax.tree.unflatten(jax.tree.structure(params), leaves)


def setting(name, count=2):
  apply, _, x, _ = architectures.build(name)
  models = [draw(name, seed) for seed in range(count)]
  x = np.random.default_rng(9).normal(size=(40, *x.shape[1:])).astype("f")
  return apply, models, x


def hidden(p, x):
  return np.asarray(x) @ np.asarray(p["a"]) + np.asarray(p["b"])


def test_first_layer_is_as_in_the_closed_form():
  apply, (a, b), x = setting("mlp")
  found = match.repair(apply, [a, b], x, weights=[0.3, 0.7])
  mean = {k: 0.3 * a[k] + 0.7 * b[k] for k in a}
  u, v, w = (hidden(p, x) for p in (a, b, mean))
  goal = 0.3 * u.std(0) + 0.7 * v.std(0)
  cross = ((u - u.mean(0)) * (v - v.mean(0))).mean(0)
  var = 0.09 * u.var(0) + 0.49 * v.var(0) + 2 * 0.21 * cross
  np.testing.assert_allclose(w.var(0), var, 1e-3)
  scale = goal / np.sqrt(var)
  np.testing.assert_allclose(found["a"], mean["a"] * scale, 1e-3, 1e-4)
  centre = 0.3 * u.mean(0) + 0.7 * v.mean(0)
  np.testing.assert_allclose(hidden(found, x).mean(0), centre, 1e-3, 1e-3)


@pytest.mark.parametrize("spread", repairing.SPREADS)
@pytest.mark.parametrize("name", ["mlp", "conv_flatten", "residual"])
def test_every_layer_has_the_statistics_of_the_members(name, spread):
  apply, models, x = setting(name, 3)
  found = match.repair(apply, models, x, last=True, spread=spread)
  maps = layers.find(apply, found, x, "test")
  beside = layers.biases(apply, found, x)
  of = [repairing.measure(apply, m, [x], tuple(maps)) for m in (*models, found)]
  for k, at in enumerate(maps):
    power = 1 if spread == "deviation" else 2
    goal = np.mean([m[k][1] ** power for m in of[:3]], 0) ** (1 / power)
    np.testing.assert_allclose(of[3][k][1], goal, 1e-2)
    if at.path in beside:
      named = [ws.trees.named(m)[beside[at.path]] for m in (*models, found)]
      means = [m[k][0].ravel() + b for m, b in zip(of, named)]
      np.testing.assert_allclose(means[3], np.mean(means[:3], 0), 1e-2, 1e-2)


def test_repair_of_equal_models_is_the_model():
  apply, (a, _), x = setting("mlp")
  problems.close(match.repair(apply, [a, a], x), a, 1e-3, 1e-4)
  stack = ws.stack([a, a])
  problems.close(match.repair(apply, stack, x, batch_size=7), a, 1e-3, 1e-4)


def test_scale_alone_leaves_the_bias():
  apply, (a, b), x = setting("mlp")
  found = match.repair(apply, [a, b], x, shift=False)
  np.testing.assert_allclose(found["b"], (a["b"] + b["b"]) / 2, 1e-6)
  chosen = match.repair(apply, [a, b], x, only=["c"])
  np.testing.assert_allclose(chosen["a"], (a["a"] + b["a"]) / 2, 1e-6)
  assert not np.allclose(chosen["c"], (a["c"] + b["c"]) / 2)


def test_scanned_layers_are_repaired_one_by_one():
  apply, models, x = setting("scanned")
  found = match.repair(apply, models, x)
  maps = layers.find(apply, found, x, "test")[:-1]
  of = [repairing.measure(apply, m, [x], tuple(maps)) for m in (*models, found)]
  for k in range(len(maps)):
    goal = (of[0][k][1] + of[1][k][1]) / 2
    np.testing.assert_allclose(of[2][k][1], goal, 1e-2)


def test_least_squares_is_ordinary_least_squares():
  apply, (a, b), x = setting("mlp")
  found = match.least_squares(apply, [a, b], x, ridge=0.0)
  z = [np.maximum(hidden(p, x), 0) for p in (a, b)]
  y = [u @ p["c"] for u, p in zip(z, (a, b))]
  expected = np.linalg.lstsq((z[0] + z[1]) / 2, (y[0] + y[1]) / 2)[0]
  np.testing.assert_allclose(found["c"], expected, 1e-2, 1e-2)
  # The first layer has the same inputs in both: there the mean is exact.
  np.testing.assert_allclose(found["a"], (a["a"] + b["a"]) / 2, 1e-3, 1e-3)
  np.testing.assert_allclose(found["b"], (a["b"] + b["b"]) / 2, 1e-6)


@pytest.mark.parametrize(
  "name", ["mlp", "conv_flatten", "heads_einsum", "experts"]
)
def test_least_squares_is_no_worse_than_the_mean(name):
  apply, models, x = setting(name, 3)
  found = match.least_squares(apply, models, x, batch_size=16)
  mean = ws.weighted_mean(ws.stack(models))
  best = layerwise.residual(apply, models, found, x)
  assert best <= layerwise.residual(apply, models, mean, x) * (1 + 1e-6)


def test_least_squares_of_equal_models_is_the_model():
  apply, (a, _), x = setting("mlp")
  problems.close(match.least_squares(apply, [a, a], x), a, 1e-3, 1e-3)


@pytest.mark.parametrize("name", ["mlp", "conv_flatten", "group_norm"])
def test_few_inputs_leave_equal_models_as_they_are(name):
  apply, (a, _), x = setting(name)
  found = match.least_squares(apply, [a, a], x[:2])
  problems.close(found, a, 1e-3, 1e-3)


def test_a_table_of_positions_is_no_bias():
  def apply(p, x):
    h = x @ p["w"] + p["at"][None]
    return jnp.tanh(h + p["b"]) @ p["o"]

  random = np.random.default_rng(0)
  shapes = {"w": (6, 4), "at": (5, 4), "b": (4,), "o": (4, 2)}
  models = [
    {n: random.normal(size=s).astype("f") for n, s in shapes.items()}
    for _ in range(2)
  ]
  x = random.normal(size=(30, 5, 6)).astype("f")
  with jax.numpy_rank_promotion("allow"):
    assert layers.biases(apply, models[0], x) == {}
    found = match.repair(apply, models, x)
  at = (models[0]["at"] + models[1]["at"]) / 2
  np.testing.assert_allclose(found["at"], at, 1e-6)


def test_bad_input_is_named():
  apply, (a, b), x = setting("mlp")
  with pytest.raises(ValueError, match="'z' is no linear map of the model"):
    match.repair(apply, [a, b], x, only=["z"])
  with pytest.raises(ValueError, match="spread: 'median', expected one of"):
    match.repair(apply, [a, b], x, spread="median")
  with pytest.raises(ValueError, match=r"repair: inputs of \[0\] examples"):
    match.repair(apply, [a, b], x[:0])
  with pytest.raises(ValueError, match="repair: inputs: '' is not finite"):
    match.repair(apply, [a, b], x * np.nan)
  with pytest.raises(ValueError, match="repair: merged: 'b' is not finite"):
    match.repair(apply, [a, b], x, merged={**b, "b": b["b"] * np.nan})
  with pytest.raises(ValueError, match=r"weights .* expected 2 that sum"):
    match.repair(apply, [a, b], x, weights=[0.5, 0.6])
  with pytest.raises(ValueError, match="ridge is -1, expected at least 0"):
    match.least_squares(apply, [a, b], x, ridge=-1)
  with pytest.raises(ValueError, match="model 1: 'c' is not finite"):
    match.least_squares(apply, [a, {**b, "c": b["c"] * np.inf}], x)
  with pytest.raises(ValueError, match="no linear map in apply"):
    match.repair(lambda p, x: x + p["b"].sum(), [a, b], x)
  with pytest.raises(ValueError, match="'c' is missing"):
    match.repair(apply, [a, {k: b[k] for k in "abd"}], x)


def test_repair_lowers_the_barrier_of_a_mean():
  """Averaged independent units lose variance: REPAIR gives it back."""
  model = ws.models.build("mlp", hidden=(64, 64, 64), classes=4)
  models = [model.init(jax.random.key(k), X) for k in range(2)]
  x = jnp.asarray(X)
  mean = ws.weighted_mean(ws.stack(models))
  found = match.repair(model.apply, models, x, last=True)
  spread = [
    float(model.apply(p, x).std(0).mean()) for p in (*models, mean, found)
  ]
  assert spread[2] < 0.7 * min(spread[:2])
  assert spread[3] == pytest.approx(sum(spread[:2]) / 2, rel=1e-2)
