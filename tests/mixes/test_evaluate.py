"""Scores of mixes: the loop over mixes, in every block size and layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.mixes import evaluate, plans

DATA = problems.data(30)
MODELS = 3


def rows(count, seed=0):
  """Coefficients that do not sum to one."""
  random = np.random.default_rng(seed)
  return random.normal(size=(count, MODELS)).astype(np.float32)


def loop(stack, weights, score, data):
  """Build and score each mix."""
  mixed = [ws.weighted_sum(stack, w) for w in weights]
  return np.array([np.mean(score(params, data)) for params in mixed])


def mean_of(stack, weights, score, data, made):
  values = evaluate._evaluate(stack, weights, data, score, made)
  return values if values.ndim == 1 else values.mean(1)


@pytest.mark.parametrize(
  "score", [problems.likelihood, problems.mean_likelihood, problems.accuracy]
)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_scores_are_those_of_the_loop(score, count):
  stack, weights = problems.stack(MODELS), rows(count)
  found = ws.merge.evaluate_mixes(stack, weights, score, DATA)
  assert (found.shape, found.dtype) == ((count,), np.float32)
  expected = loop(stack, weights, score, DATA)
  np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


@pytest.mark.parametrize(
  ("stem", "ahead"), [(False, False), (True, False), (True, True)]
)
@pytest.mark.parametrize(("batch", "block"), [(1, 7), (2, 64), (7, 1)])
def test_every_plan_gives_the_same(stem, ahead, batch, block):
  stack, weights = problems.stack(MODELS), jnp.asarray(rows(5))
  made = plans.Plan(30, block, batch, stem, ahead)
  score = problems.likelihood
  found = mean_of(stack, weights, score, DATA, made)
  plain = plans.Plan(30, 30, 1, False, False)
  expected = mean_of(stack, weights, score, DATA, plain)
  np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


def test_the_plan_weighs_the_stem_and_the_memory():
  x = jax.ShapeDtypeStruct((1000, 784), np.float32)
  data = {"x": x, "y": jax.ShapeDtypeStruct((1000,), np.int32)}
  shapes = {"dense": {"kernel": (784, 64), "bias": (64,)}, "out": (64, 10)}
  stack = ws.stack([problems.tree(s, {**shapes, "gain": ()}) for s in (0, 1)])

  def plan(count, memory=2**28, weights=None):
    weights = jnp.zeros((count, 2)) if weights is None else weights
    return plans.plan(stack, weights, problems.likelihood, data, memory)

  assert plan(100).stem
  assert not plan(2).stem  # the members themselves
  assert not plan(100, weights={"dense": jnp.zeros((100, 2))}).stem
  assert plan(2).block == 1000
  assert 1 <= plan(2, memory=2**16).block < 1000
  assert plan(2, memory=1).block == 1
  tiny = evaluate.evaluate_mixes(
    problems.stack(MODELS), rows(4), problems.likelihood, DATA, max_memory=1
  )
  whole = evaluate.evaluate_mixes(
    problems.stack(MODELS), rows(4), problems.likelihood, DATA
  )
  np.testing.assert_allclose(tiny, whole, 1e-5, 1e-6)


def test_a_score_is_traced_once_for_its_shapes():
  calls = []

  def score(params, data):
    calls.append(1)
    return problems.mean_likelihood(params, data)

  stack = problems.stack(MODELS)
  evaluate.evaluate_mixes(stack, rows(2), score, DATA)
  first = len(calls)
  known = plans._work.cache_info().hits
  evaluate.evaluate_mixes(stack, rows(2, seed=1), score, DATA)
  assert len(calls) == first <= 3
  assert plans._work.cache_info().hits == known + 1


def test_scores_per_example():
  stack, weights = problems.stack(MODELS), rows(4)
  each = ws.merge.evaluate_mixes(
    stack, weights, problems.accuracy, DATA, per_example=True
  )
  assert (each.shape, each.dtype) == ((4, 30), np.float32)
  means = ws.merge.evaluate_mixes(stack, weights, problems.accuracy, DATA)
  np.testing.assert_allclose(each.mean(1), means, rtol=1e-6)
  with pytest.raises(ValueError, match=r"per_example needs .* \[N\]"):
    ws.merge.evaluate_mixes(
      stack, weights, problems.mean_likelihood, DATA, per_example=True
    )


def test_coefficients_by_layer():
  stack = problems.stack(MODELS)
  tree = {"dense": rows(4), "out": rows(4, 1), "gain": rows(4, 2)}
  found = ws.merge.evaluate_mixes(stack, tree, problems.likelihood, DATA)
  each = [jax.tree.map(lambda w, k=k: w[k], tree) for k in range(4)]
  expected = loop(stack, each, problems.likelihood, DATA)
  np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


@pytest.mark.parametrize("data", [None, (), jnp.ones(4)])
def test_data_may_be_anything_for_one_number(data):
  stack = {"w": jnp.array([1.0, 2.0])}
  weights = [[1.0, 1.0], [0.5, 0.0]]
  found = ws.merge.evaluate_mixes(stack, weights, lambda p, d: p["w"], data)
  assert found.tolist() == [3.0, 0.5]


def test_numpy_lists_of_arrays_and_no_mixes():
  stack = jax.tree.map(np.asarray, problems.stack(MODELS))
  data = jax.tree.map(np.asarray, DATA)
  weights = rows(2)
  score = problems.likelihood
  expected = ws.merge.evaluate_mixes(stack, weights, score, data)
  for given in (weights.tolist(), list(weights)):
    again = ws.merge.evaluate_mixes(stack, given, score, data)
    np.testing.assert_array_equal(again, expected)
  nothing = ws.merge.evaluate_mixes(stack, weights[:0], score, data)
  assert nothing.shape == (0,)
  layers = [np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)]
  by_layer = [np.eye(2, dtype=np.float32)] * 2
  sums = ws.merge.evaluate_mixes(
    layers, by_layer, lambda p, d: p[0].sum() + p[1].sum(), None
  )
  assert sums.tolist() == [5.0, 5.0]


def test_integer_parameters_are_those_of_model_zero_with_the_stem_too():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 30)), jnp.float32)
  stack = {"w": jnp.ones((2, 30, 2)), "n": jnp.array([2, 5])}
  weights = jnp.asarray(rows(60)[:, :2])

  def score(p, x):
    return jnp.tanh((x @ p["w"]) * p["n"]).sum(1) + p["n"]

  assert plans.plan(stack, weights, score, x, 2**28).stem
  found = ws.merge.evaluate_mixes(stack, weights, score, x)
  np.testing.assert_allclose(found, loop(stack, weights, score, x), 1e-4, 1e-4)


def test_sharded_models_and_examples_score_alike():
  auto = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((8,), ("models",), axis_types=auto)
  stack, weights = problems.stack(8), np.eye(8, dtype=np.float32)[:4] + 0.1
  expected = evaluate.evaluate_mixes(stack, weights, problems.likelihood, DATA)
  place = jax.sharding.NamedSharding(mesh, jax.P("models"))
  found = evaluate.evaluate_mixes(
    jax.device_put(stack, place), weights, problems.likelihood, DATA
  )
  np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


@pytest.mark.parametrize(
  ("weights", "words"),
  [
    (np.ones((2, 4)), r"shape \(2, 4\), expected \[K, 3\]"),
    (np.ones(3), r"shape \(3,\), expected \[K, 3\]"),
    (np.full((1, 3), np.nan), "weights: NaN"),
    ({"dense": np.ones((2, 3))}, "weights: nothing for 'gain'"),
    (
      {"dense": np.ones((2, 3)), "gain": np.ones((1, 3)), "out": 0.0},
      r"'gain' have shape \(1, 3\)",
    ),
  ],
)
def test_bad_coefficients_are_named(weights, words):
  with pytest.raises(ValueError, match=words):
    evaluate.evaluate_mixes(problems.stack(3), weights, problems.accuracy, DATA)


@pytest.mark.parametrize(
  ("score", "words"),
  [
    (lambda p, d: problems.apply(p, d["x"]), r"returned \(30, 2\), expected"),
    (lambda p, d: p["gain"][None], r"returned \(1,\)"),
    (lambda p, d: (p["gain"], 1.0), "returned tuple"),
  ],
)
def test_bad_scores_are_named(score, words):
  with pytest.raises(ValueError, match=words):
    evaluate.evaluate_mixes(problems.stack(3), rows(1), score, DATA)


def test_nan_in_a_model_is_named():
  stack = problems.stack(3)
  stack["out"] = stack["out"].at[2, 0, 0].set(jnp.nan)
  with pytest.raises(ValueError, match="NaN in 'out' of model 2"):
    evaluate.evaluate_mixes(stack, rows(1), problems.accuracy, DATA)
