"""Unrolled steps on synthetic data, and data learned to follow experts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace.generate import match, matching_loss

KEY = jax.random.key(0)


def loss(params, batch):
  return -problems.likelihood(params, batch)


def steps_by_hand(start, data, rate, order, momentum=0.0):
  """Return the student after each step, in plain Python."""
  params, speed, students = start, None, []
  for rows in np.asarray(order):
    batch = jax.tree.map(lambda x, rows=rows: x[rows], data)
    g = jax.grad(lambda p, b: loss(p, b).mean())(params, batch)
    speed = (
      g
      if speed is None
      else jax.tree.map(lambda m, g: momentum * m + g, speed, g)
    )
    params = jax.tree.map(lambda p, m: p - rate * m, params, speed)
    students.append(params)
  return students


def setting(steps=6, size=8):
  start, *targets = problems.models(4)
  random = np.random.default_rng(0)
  order = jnp.asarray(random.integers(0, size, (steps, 4)))
  return start, targets, problems.data(size), order


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_the_distance_of_a_student_trained_by_hand(momentum):
  start, targets, data, order = setting()
  found = matching_loss(
    loss, start, ws.stack(targets), data, 0.3, order, momentum=momentum
  )
  student = steps_by_hand(start, data, 0.3, order, momentum)[-1]
  expected = ws.generate.trajectory_distance(student, start, targets[-1])
  assert np.isclose(found, expected, rtol=1e-5)


def test_targets_on_the_way_are_met_at_their_steps():
  start, targets, data, order = setting(7)
  weights = jnp.array([1.0, 2.0, 0.5])
  found = matching_loss(
    loss, start, ws.stack(targets), data, 0.3, order, weights=weights
  )
  students = steps_by_hand(start, data, 0.3, order)
  expected = sum(
    w * ws.generate.trajectory_distance(students[at], start, target)
    for w, at, target in zip(weights, (1, 3, 6), targets)
  )
  assert np.isclose(found, expected, rtol=1e-5)


def test_its_gradient_is_that_of_differences():
  start, targets, data, order = setting(3)
  stack = ws.stack(targets)

  def value(rate, x):
    return matching_loss(loss, start, stack, data | {"x": x}, rate, order)

  slope, by_data = jax.grad(value, (0, 1))(0.3, data["x"])
  gap = 1e-2
  numeric = (value(0.3 + gap, data["x"]) - value(0.3 - gap, data["x"])) / 0.02
  assert np.isclose(slope, numeric, rtol=0.02)
  direction = jax.random.normal(KEY, data["x"].shape)
  ends = [value(0.3, data["x"] + s * gap * direction) for s in (1, -1)]
  along = jnp.sum(by_data * direction)
  assert np.isclose(along, (ends[0] - ends[1]) / 0.02, rtol=0.05, atol=1e-4)
  assert np.isclose(jax.jit(value)(0.3, data["x"]), value(0.3, data["x"]))


def test_data_are_learned_that_lead_to_the_target():
  """Experts descend on one set; another set learns to do the same."""
  real, start = problems.data(32), problems.tree(0)
  order = np.tile(np.arange(32), (12, 1))
  expert = [start, *steps_by_hand(start, real, 0.5, order)]
  trajectories = ws.stack([ws.stack(expert)])
  begin = {"x": 0.1 * jax.random.normal(KEY, (4, 3)), "y": jnp.arange(4) % 2}
  found = match(
    loss,
    trajectories,
    begin,
    KEY,
    rounds=150,
    steps=4,
    ahead=2,
    rate=0.3,
    tx=optax.adam(0.03),
    between=True,
    balanced=True,
  )
  assert found.distances[-10:].mean() < 0.7 * found.distances[:10].mean()
  assert np.array_equal(found.data["y"], begin["y"])
  assert found.data["x"].shape == (4, 3) and found.rate > 0
  assert not np.array_equal(found.data["x"], begin["x"])


@pytest.mark.slow
def test_the_same_key_learns_the_same():
  trajectories = ws.stack([ws.stack(problems.models(4))])
  given = loss, trajectories, problems.data(8), KEY
  one, two = (match(*given, rounds=3, steps=2, batch_size=4) for _ in "ab")
  problems.close(one.data, two.data, 0, 0)
  assert one.distances.shape == (3,)


@pytest.mark.parametrize(
  "change,words",
  [
    ({"ahead": 0}, "ahead is 0, expected 1 to 3"),
    ({"ahead": 4}, "ahead is 4, expected 1 to 3"),
    ({"steps": 1}, "1 steps, expected at least ahead, 2"),
    ({"last": 2}, "last is 2, expected 0 to 1"),
    ({"rate": 0.0}, "rate is 0.0, expected above 0"),
    ({"batch_size": 9}, "batch_size is 9, expected 1 to 8"),
    ({"momentum": 1.0}, "momentum is 1.0"),
  ],
)
def test_numbers_out_of_range_are_named(change, words):
  trajectories = ws.stack([ws.stack(problems.models(4))])
  given = loss, trajectories, problems.data(8), KEY
  with pytest.raises(ValueError, match=words):
    match(*given, rounds=1, **change)


def test_other_bad_input_is_refused():
  trajectories = ws.stack([ws.stack(problems.models(4))])
  with pytest.raises(ValueError, match="no floating leaves"):
    match(loss, trajectories, {"y": jnp.ones(3, int)}, KEY, rounds=1)
  bad = problems.data(4) | {"x": jnp.full((4, 3), jnp.nan)}
  with pytest.raises(ValueError, match="data: NaN in 'x'"):
    match(loss, trajectories, bad, KEY, rounds=1)
  start, targets, data, order = setting(2)
  with pytest.raises(ValueError, match="at least 3 steps for 3 targets"):
    matching_loss(loss, start, ws.stack(targets), data, 0.1, order)
  with pytest.raises(ValueError, match=r"weights are \(2,\), expected \(3,\)"):
    matching_loss(
      loss,
      start,
      ws.stack(targets),
      data,
      0.1,
      jnp.zeros((3, 1), int),
      weights=jnp.ones(2),
    )
