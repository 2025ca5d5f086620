"""Weighted means: closed forms, NumPy, dtypes, weights of three shapes."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems
from weightspace import means


def reference(models, weights):
  """Return sum_m w_m theta_m / sum_m w_m in float64, weights [M]."""
  share = np.asarray(weights, float) / np.sum(weights)
  return jax.tree.map(
    lambda *xs: sum(w * np.asarray(x, float) for w, x in zip(share, xs)),
    *models,
  )


numbers = st.floats(0.125, 4.0, width=32)


@settings(deadline=None, max_examples=15)
@given(st.lists(numbers, min_size=3, max_size=3))
def test_mean_is_numpys(weights):
  mean = ws.weighted_mean(problems.stack(3), weights)
  problems.close(mean, reference(problems.models(3), weights))
  scaled = ws.weighted_mean(problems.stack(3), [7 * w for w in weights])
  problems.close(mean, scaled)


def test_one_hot_weights_return_a_model_exactly():
  stacked = problems.stack(3)
  for m, model in enumerate(problems.models(3)):
    problems.close(ws.weighted_mean(stacked, np.eye(3)[m]), model, 0, 0)


def test_equal_weights_are_the_default_and_a_model_is_its_own_mean():
  stacked = problems.stack(4)
  ones = ws.weighted_mean(stacked, jnp.ones(4))
  problems.close(ws.weighted_mean(stacked), ones, 0, 0)
  model = problems.tree(0)
  problems.close(ws.weighted_mean(ws.stack([model] * 3)), model, 3e-7)
  problems.close(ws.weighted_mean(ws.stack([model])), model, 0, 0)


def test_weights_by_layer_and_by_parameter():
  stacked = problems.stack(2)
  by_layer = {"dense": jnp.array([1.0, 0.0]), "out": jnp.array([0.0, 2.0])}
  mean = ws.weighted_mean(stacked, {**by_layer, "gain": jnp.ones(2)})
  a, b = problems.models(2)
  problems.close(mean["dense"], a["dense"], 0, 0)
  problems.close(mean["out"], b["out"], 0, 0)
  one_each = jax.tree.map(lambda x: jnp.abs(x) + 0.1, stacked)
  expected = jax.tree.map(
    lambda x, w: (np.asarray(x) * w).sum(0) / np.asarray(w).sum(0),
    stacked,
    one_each,
  )
  problems.close(ws.weighted_mean(stacked, one_each), expected)


def test_sum_takes_the_weights_as_they_are():
  a, b = problems.models(2)
  total = ws.weighted_sum(problems.stack(2), [2.0, -1.0])
  problems.close(total, jax.tree.map(lambda x, y: 2 * x - y, a, b))


@pytest.mark.parametrize("count", [means.UNROLL, means.UNROLL + 1])
@pytest.mark.parametrize("shape", ["model", "parameter"])
def test_many_models_leave_the_unrolled_loop(count, shape):
  random = np.random.default_rng(0)
  x = random.normal(size=(count, 3)).astype(np.float32)
  w = random.normal(size=x.shape if shape == "parameter" else count)
  expected = (x * (w if w.ndim == 2 else w[:, None])).sum(0)
  found = ws.weighted_sum({"x": x}, {"x": w.astype(np.float32)})["x"]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("dtype", "bits"), [(ml_dtypes.bfloat16, 8), (np.float16, 11)]
)
def test_narrow_floats_are_within_an_ulp(dtype, bits):
  models = problems.models(30, dtype)
  mean = ws.weighted_mean(ws.stack(models))
  exact = reference(models, np.ones(30))
  for path, leaf in ws.trees.named(mean).items():
    assert leaf.dtype == dtype
    wanted = ws.trees.named(exact)[path]
    ulp = 2.0 ** (np.floor(np.log2(np.abs(wanted))) + 1 - bits)
    error = np.abs(np.asarray(leaf, float) - wanted)
    # Half an ulp from the cast, and a little of float32.
    assert (error <= 0.51 * ulp + 1e-7).all()


def test_what_is_no_number_is_model_zeros():
  leaves = {
    "int": (3, 4),
    "bool": (True, False),
    "none": (None, None),
    "complex": (1 + 1j, 3 - 1j),
    "float8": (jnp.ones(2, jnp.float8_e5m2), 3 * jnp.ones(2, jnp.float8_e5m2)),
    "key": (jax.random.key(5), jax.random.key(6)),
    "float": (1.0, 3.0),
  }
  first = {name: pair[0] for name, pair in leaves.items()}
  second = {name: pair[1] for name, pair in leaves.items()}
  mean = ws.weighted_mean(ws.stack([first, second]))
  assert (mean["int"].item(), mean["bool"].item()) == (3, True)
  assert mean["none"] is None
  assert mean["complex"].item() == 2 + 0j
  assert mean["float8"].dtype == jnp.float8_e5m2
  assert mean["float8"].astype(float).tolist() == [2.0, 2.0]
  assert jax.random.key_data(mean["key"]).tolist() == [0, 5]
  assert mean["float"].item() == 2.0


def test_float64_stays_when_it_is_on():
  with jax.enable_x64(True):
    models = problems.models(3, np.float64)
    weights = [0.1, 0.3, 0.7]
    mean = ws.weighted_mean(ws.stack(models), weights)
    assert mean["out"].dtype == np.float64
    problems.close(mean, reference(models, weights), 1e-14, 1e-15)


def test_jit_vmap_and_grad():
  stacked, weights = problems.stack(3), jnp.array([[1.0, 2.0, 3.0], [1, 0, 0]])
  both = jax.jit(jax.vmap(ws.weighted_mean, (None, 0)))(stacked, weights)
  for k in range(2):
    one = ws.weighted_mean(stacked, weights[k])
    problems.close(jax.tree.map(lambda x, k=k: x[k], both), one)
  slope = jax.grad(lambda w: ws.weighted_sum(stacked, w)["gain"])(weights[0])
  np.testing.assert_allclose(slope, stacked["gain"], rtol=1e-6)


def test_inputs_are_left_as_they_were():
  stacked, weights = problems.stack(3), np.array([1.0, 2.0, 3.0])
  before = jax.tree.map(np.array, stacked)
  ws.weighted_mean(stacked, weights)
  problems.close(stacked, before, 0, 0)
  assert weights.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
  ("weights", "words"),
  [
    ([1.0, 2.0], r"'dense/bias' has shape \(2,\), expected \(3,\)"),
    (np.ones((3, 1)), r"shape \(3, 1\)"),
    ([1.0, -2.0, 1.0], "'dense/bias' sum to zero"),
    ([0.3, 0.6, -0.9], "'dense/bias' sum to zero"),
    ([1.0, np.nan, 1.0], "weights: NaN"),
    ({"dense": np.ones(3)}, "weights: nothing for 'gain'"),
  ],
)
def test_bad_weights_are_named(weights, words):
  with pytest.raises(ValueError, match=words):
    ws.weighted_mean(problems.stack(3), weights)


def test_a_dead_parameter_has_no_mean():
  weights = jax.tree.map(jnp.ones_like, problems.stack(2))
  weights["out"] = weights["out"].at[:, 1, 1].set(0.0)
  with pytest.raises(ValueError, match="'out' sum to zero"):
    ws.weighted_mean(problems.stack(2), weights)


def test_traced_weights_are_not_looked_at():
  mean = jax.jit(ws.weighted_mean)(problems.stack(2), jnp.array([1.0, -1.0]))
  assert not np.isfinite(mean["out"]).any()


@pytest.mark.parametrize("function", [ws.weighted_mean, ws.weighted_sum])
def test_nan_in_a_model_is_named(function):
  bad = {"w": jnp.ones((3, 2)).at[1, 0].set(jnp.nan)}
  with pytest.raises(ValueError, match="NaN in 'w' of model 1"):
    function(bad, jnp.ones(3))
