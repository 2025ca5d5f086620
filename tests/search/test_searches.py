"""Searches over coefficients and hyper-parameters."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import merge
from weightspace.search import searches

KEY = jax.random.key(3)
CURVES = np.array([1.0, 4.0, 9.0, 0.5, 2.0], np.float32)
MODELS = {"w": jnp.asarray(problems.tree(0, (4, 5)))}
GOAL = jnp.asarray(problems.tree(1, (5,)))


def quadratic(params, goal):
  return -(jnp.asarray(CURVES) * (params["w"] - goal) ** 2).sum()


def best_affine():
  """The constrained least squares: a* of -(D H D')^-1 D g."""
  w = np.asarray(MODELS["w"], np.float64)
  d, h = w[1:] - w[:1], np.diag(CURVES)
  a = np.linalg.solve(d @ h @ d.T, d @ h @ (np.asarray(GOAL) - w[0]))
  return np.concatenate([[1 - a.sum()], a])


def test_a_quadratic_is_searched_to_its_constrained_minimum():
  found = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=2000)
  np.testing.assert_allclose(found.weights, best_affine(), 0.02, 0.02)
  np.testing.assert_allclose(found.weights.sum(), 1.0, 1e-5)
  mixed = ws.weighted_sum(MODELS, found.weights)
  np.testing.assert_allclose(quadratic(mixed, GOAL), found.score, 1e-4)


def test_free_weights_reach_what_affine_ones_do_not():
  free = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=1500, affine=False)
  w, h = np.asarray(MODELS["w"], np.float64), np.diag(CURVES)
  wanted = np.linalg.solve(w @ h @ w.T, w @ h @ np.asarray(GOAL))
  np.testing.assert_allclose(free.weights, wanted, 0.02, 0.02)


def test_the_best_is_never_lost_and_singles_and_mean_are_tried():
  found = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=200)
  assert (np.diff(found.history[:, 1]) >= 0).all()
  assert found.history[-1, 0] == found.evaluations == 200
  rows = np.concatenate([np.eye(4), np.full((1, 4), 0.25)])
  least = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=5)
  values = ws.merge.evaluate_mixes(MODELS, jnp.asarray(rows), quadratic, GOAL)
  np.testing.assert_allclose(least.score, values.max(), 1e-5)
  assert least.evaluations == 5
  # Later broods are wide of the mark: what is returned is what was scored.
  wild = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=64, step=50.0)
  mixed = ws.weighted_sum(MODELS, wild.weights)
  np.testing.assert_allclose(quadratic(mixed, GOAL), wild.score, 1e-4)
  ema = best_affine()[None]
  seeded = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=6, first=ema)
  np.testing.assert_allclose(seeded.weights, ema[0], 1e-5)


@pytest.mark.parametrize("host", [None, True])
def test_held_out_data_score_the_best_and_change_nothing(host):
  settings = dict(budget=60, host=host)
  plain = merge.evolve(MODELS, quadratic, GOAL, KEY, **settings)
  found = merge.evolve(
    MODELS, quadratic, GOAL, KEY, held_out=GOAL + 1.0, **settings
  )
  np.testing.assert_array_equal(found.weights, plain.weights)
  mixed = ws.weighted_sum(MODELS, found.weights)
  wanted = quadratic(mixed, GOAL + 1.0)
  np.testing.assert_allclose(found.held_out, wanted, 1e-5)
  assert plain.held_out is None and found.held_out < found.score
  with pytest.raises(ValueError, match="held_out is given and data are None"):
    merge.evolve(MODELS, lambda p: 0.0, None, KEY, held_out=GOAL)


def test_one_seed_gives_one_result_on_the_host_too():
  once, again = (
    merge.evolve(MODELS, quadratic, GOAL, KEY, budget=100) for _ in range(2)
  )
  np.testing.assert_array_equal(once.weights, again.weights)
  seen = []

  def on_host(params):
    seen.append(type(params["w"]))
    return float(quadratic(params, GOAL))

  host = merge.evolve(MODELS, on_host, None, KEY, budget=100)
  assert len(seen) == 100
  np.testing.assert_allclose(host.weights, once.weights, 1e-3, 1e-4)
  with_data = merge.evolve(
    MODELS, lambda p, goal: float(quadratic(p, goal)), GOAL, KEY, budget=100
  )
  np.testing.assert_array_equal(with_data.weights, host.weights)


def test_a_search_that_stops_goes_on_as_if_it_had_not(tmp_path):
  whole = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=160)
  half = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=96)
  rest = merge.evolve(
    MODELS, quadratic, GOAL, KEY, budget=160, resume=half.state
  )
  np.testing.assert_array_equal(rest.weights, whole.weights)
  np.testing.assert_array_equal(rest.history, whole.history)
  path = tmp_path / "search.safetensors"
  merge.evolve(MODELS, quadratic, GOAL, KEY, budget=96, checkpoint=path)
  kept = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=160, checkpoint=path)
  np.testing.assert_array_equal(kept.weights, whole.weights)
  with pytest.raises(ValueError, match="evolve: the state is of another"):
    merge.evolve(MODELS, quadratic, GOAL, jax.random.key(9), resume=half.state)


def test_a_time_limit_breaks_off_on_the_host():
  calls = []

  def slow(params):
    calls.append(1)
    time.sleep(0.02)
    return float(quadratic(params, GOAL))

  found = merge.evolve(MODELS, slow, None, KEY, time_limit=0.1)
  assert found.stopped == "time"
  assert 1 <= len(calls) < 60 and found.evaluations == len(calls)
  assert np.isfinite(found.score)


def test_boxes_ridges_and_scores_that_fail():
  found = merge.evolve(
    MODELS, quadratic, GOAL, KEY, budget=300, box=(0.0, 1.0), affine=False
  )
  assert (found.weights >= 0).all() and (found.weights <= 1).all()
  for box in ((0.0, 1.0), (0.1, 0.4)):
    found = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=200, box=box)
    assert (box[0] <= found.weights).all() and (found.weights <= box[1]).all()
    np.testing.assert_allclose(found.weights.sum(), 1.0, 1e-6)
  tight = merge.evolve(MODELS, quadratic, GOAL, KEY, budget=400, ridge=1e4)
  np.testing.assert_allclose(tight.weights, 0.25, atol=0.02)

  def partly(params, goal):
    return jnp.where(params["w"][0] > 0, jnp.nan, quadratic(params, goal))

  some = merge.evolve(MODELS, partly, GOAL, KEY, budget=100)
  assert np.isfinite(some.score)
  with pytest.raises(ValueError, match="no vector has a finite score"):
    merge.evolve(MODELS, lambda p, g: jnp.nan * g[0], GOAL, KEY, budget=10)


def test_weights_in_a_box_are_the_nearest_that_sum_to_one():
  drawn = np.random.default_rng(0).normal(0.25, 0.5, (20, 4))
  drawn += (1 - drawn.sum(1, keepdims=True)) / 4
  got = searches._within(drawn, (0.0, 0.6))
  np.testing.assert_allclose(got.sum(1), 1.0, 1e-12)
  assert got.min() >= 0 and got.max() <= 0.6
  # The gradient of the distance points out of the box wherever it is not even.
  slope = drawn - got
  for x, s in zip(got, slope):
    free = (x > 1e-9) & (x < 0.6 - 1e-9)
    even = s[free].mean() if free.any() else np.median(s)
    np.testing.assert_allclose(s[free], even, atol=1e-9)
    assert (s[x < 1e-9] <= even + 1e-9).all()
    assert (s[x > 0.6 - 1e-9] >= even - 1e-9).all()


def test_a_host_score_without_data_may_take_them():
  seen = []

  def score(params, data):
    seen.append(data)
    return float(quadratic(params, GOAL))

  found = merge.evolve(MODELS, score, None, KEY, budget=6)
  alone = merge.evolve(
    MODELS, lambda p: float(quadratic(p, GOAL)), None, KEY, budget=6
  )
  np.testing.assert_array_equal(found.weights, alone.weights)
  assert seen == [None] * 6


def test_scores_per_example_are_searched_by_their_mean():
  data = problems.data(16)
  found = merge.evolve(
    problems.stack(3), problems.likelihood, data, KEY, budget=40
  )
  mixed = ws.weighted_sum(problems.stack(3), found.weights)
  value = problems.likelihood(mixed, data).mean()
  np.testing.assert_allclose(found.score, value, 1e-4)


def test_a_recipes_numbers_are_tuned_on_the_device():
  stack, start = problems.stack(3), problems.tree(9)
  data = problems.data(16)
  space = {"scale": (0.0, 1.5), "density": (0.1, 0.9)}
  found = merge.tune(
    merge.ties,
    space,
    stack,
    problems.mean_likelihood,
    data,
    KEY,
    given={"base": start},
    budget=80,
  )
  recipe = merge.ties(**found.hyper)
  value = problems.mean_likelihood(recipe(stack, base=start), data)
  np.testing.assert_allclose(found.score, value, 1e-3)
  grid = [
    problems.mean_likelihood(
      merge.ties(density=0.5, scale=s)(stack, base=start), data
    )
    for s in (0.0, 0.75, 1.5)
  ]
  assert found.score >= max(grid) - 1e-3
  again = merge.tune(
    merge.ties,
    space,
    stack,
    problems.mean_likelihood,
    data,
    KEY,
    given={"base": start},
    budget=80,
    resume=found.state,
  )
  assert again.hyper == found.hyper


def test_a_python_score_tunes_as_the_compiled_one_does():
  stack, start = problems.stack(3), problems.tree(9)
  data = problems.data(16)
  space = {"scale": (0.0, 1.5)}
  more = {"given": {"base": start}, "budget": 20}

  def python(params):
    return float(problems.mean_likelihood(params, data))

  compiled = merge.tune(
    merge.task_arithmetic,
    space,
    stack,
    problems.mean_likelihood,
    data,
    KEY,
    **more,
  )
  host = merge.tune(
    merge.task_arithmetic, space, stack, python, None, KEY, **more
  )
  np.testing.assert_allclose(host.score, compiled.score, 1e-5)
  np.testing.assert_allclose(
    host.hyper["scale"], compiled.hyper["scale"], atol=1e-3
  )
  with pytest.raises(ValueError, match="score: returned shape"):
    merge.tune(
      merge.task_arithmetic, space, stack, lambda p: [1, 2], None, KEY, **more
    )


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: merge.evolve(MODELS, quadratic, GOAL, KEY, budget=4),
      "budget is 4, expected at least 5",
    ),
    (
      lambda: merge.evolve(MODELS, quadratic, GOAL, KEY, first=np.ones((2, 3))),
      r"first is \(2, 3\), expected \[K, 4\]",
    ),
    (
      lambda: merge.evolve(MODELS, quadratic, GOAL, KEY, first=np.ones((2, 4))),
      r"first has sums \[4. 4.\], expected 1",
    ),
    (
      lambda: merge.evolve(MODELS, quadratic, GOAL, KEY, box=(0.0, 0.1)),
      r"box is \(0.0, 0.1\), expected low < high that 4 weights",
    ),
    (
      lambda: merge.evolve(MODELS, quadratic, GOAL, KEY, box=(1.0, 0.0)),
      r"box is \(1.0, 0.0\), expected low < high",
    ),
    (
      lambda: merge.evolve({"w": MODELS["w"][:1]}, quadratic, GOAL, KEY),
      "evolve: 1 model, expected at least 2",
    ),
    (
      lambda: merge.evolve(MODELS, quadratic, GOAL, KEY, brood=0),
      "evolve: brood is 0 and step 0.3, expected",
    ),
    (
      lambda: merge.evolve(
        {"w": jnp.array([[1.0], [jnp.nan]])}, quadratic, GOAL, KEY
      ),
      "NaN in 'w' of model 1",
    ),
    (
      lambda: merge.evolve(MODELS, lambda p: [1.0, 2.0], None, KEY, budget=9),
      r"score: returned shape \(2,\)",
    ),
    (
      lambda: merge.tune(merge.ties, {}, MODELS, quadratic, GOAL, KEY),
      "space is {}, expected low < high",
    ),
    (
      lambda: merge.tune(
        merge.ties, {"scale": (1.0, 0.0)}, MODELS, quadratic, GOAL, KEY
      ),
      "expected low < high",
    ),
    (
      lambda: merge.tune(
        merge.ties,
        {"scale": (0.0, 1.0)},
        MODELS,
        quadratic,
        GOAL,
        KEY,
        budget=0,
      ),
      "budget is 0, expected at least 1",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_the_average_room_reaches_it_too():
  assert searches.evolve is merge.evolve is ws.average.evolve
