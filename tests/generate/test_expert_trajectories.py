"""How far a student follows an expert's trajectory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace.generate import (
  balance,
  gradient_penalty,
  loss_factor,
  step_lengths,
  trajectory_distance,
)


def between(a, b, share):
  return jax.tree.map(lambda x, y: x + np.float32(share) * (y - x), a, b)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_it_is_quadratic_along_the_straight_way(share):
  start, target = problems.models(2)
  found = trajectory_distance(between(start, target, share), start, target)
  assert np.isclose(found, (1 - share) ** 2, atol=1e-6)


def test_it_is_numpys_ratio_and_free_of_scale():
  student, start, target = problems.models(3)
  rows = [
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(m)]).astype(float)
    for m in (student, start, target)
  ]
  expected = ((rows[0] - rows[2]) ** 2).sum() / ((rows[1] - rows[2]) ** 2).sum()
  assert np.isclose(trajectory_distance(student, start, target), expected)
  for c in (1e-4, 1e3):
    scaled = [
      jax.tree.map(lambda x, c=c: np.float32(c) * x, m)
      for m in (student, start, target)
    ]
    assert np.isclose(trajectory_distance(*scaled), expected, rtol=1e-4)


def test_jit_vmap_and_gradient():
  student, start, target = problems.models(3)
  eager = trajectory_distance(student, start, target)
  assert np.isclose(jax.jit(trajectory_distance)(student, start, target), eager)
  students = ws.stack(problems.models(4))
  each = jax.vmap(trajectory_distance, (0, None, None))(students, start, target)
  alone = [trajectory_distance(s, start, target) for s in ws.unstack(students)]
  assert np.allclose(each, alone, rtol=1e-5)
  slope = jax.grad(trajectory_distance)(target, start, target)
  assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(slope))


def test_low_precision_is_summed_in_float32():
  start = {"w": jnp.zeros(4096, jnp.bfloat16)}
  target = {"w": jnp.ones(4096, jnp.bfloat16)}
  student = {"w": jnp.full(4096, 0.5, jnp.bfloat16)}
  found = trajectory_distance(student, start, target)
  assert found.dtype == jnp.float32 and found == 0.25


def test_integer_leaves_do_not_count():
  a, b = ({"w": jnp.array([v]), "n": jnp.array(7)} for v in (0.0, 2.0))
  assert trajectory_distance(a, a, b) == 1.0


def test_bad_input_is_refused():
  start, target = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
  with pytest.raises(ValueError, match="equal, expected an expert that moved"):
    trajectory_distance(target, start, start)
  with pytest.raises(ValueError, match="student: 'w' is missing"):
    trajectory_distance({"v": jnp.ones(2)}, start, target)
  with pytest.raises(ValueError, match=r"target: 'w' is \(3,\) float32"):
    trajectory_distance(start, start, {"w": jnp.ones(3)})
  with pytest.raises(ValueError, match="student: NaN in 'w'"):
    trajectory_distance({"w": jnp.array([0.0, jnp.nan])}, start, target)
  whole = {"n": jnp.array(1)}
  with pytest.raises(ValueError, match="expected an expert that moved"):
    trajectory_distance(whole, whole, whole)


def test_step_lengths_are_distances():
  models = problems.models(4)
  found = step_lengths(ws.stack(models))
  by_hand = [ws.probe.distance(a, b) for a, b in itertools.pairwise(models)]
  assert np.allclose(found, by_hand, rtol=1e-5)
  with pytest.raises(ValueError, match="expected at least 2"):
    step_lengths(ws.stack(models[:1]))


def test_the_factor_rises_for_ten_epochs():
  factor = loss_factor(7)
  found = [float(factor(7 * epoch)) for epoch in range(13)]
  assert np.allclose(found[:10], 0.5 + 0.05 * np.arange(10))
  assert found[10:] == [1.0] * 3 and float(factor(6)) == 0.5
  for settings in ((0,), (1, 0.0), (1, 1.5), (1, 0.5, 0)):
    with pytest.raises(ValueError, match="loss_factor"):
      loss_factor(*settings)


def test_the_factor_scales_steps():
  tx = optax.chain(optax.scale_by_schedule(loss_factor(1)), optax.sgd(1.0))
  w = jnp.ones(2)
  state, sizes = tx.init(w), []
  for _ in range(12):
    updates, state = tx.update(w, state)
    sizes.append(-float(updates[0]))
  assert np.allclose(sizes, [*(0.5 + 0.05 * np.arange(10)), 1.0, 1.0])


def test_the_penalty_is_of_pixels_or_of_examples():
  random = np.random.default_rng(0)
  w = jnp.asarray(random.normal(size=(4, 4, 3, 5)), jnp.float32)

  def apply(params, x):
    return jnp.tensordot(x, params, 3)

  batch = {"x": jnp.ones((2, 4, 4, 3))}
  slope = np.asarray(w).sum(-1)
  by_pixel = ((np.sqrt((slope**2).sum(-1)) - 1) ** 2).mean()
  whole = (np.sqrt((slope**2).sum()) - 1) ** 2
  assert np.allclose(gradient_penalty(apply)(w, batch), by_pixel, rtol=1e-5)
  found = gradient_penalty(apply, "example")(w, batch)
  assert np.allclose(found, whole, rtol=1e-5) and found.shape == (2,)
  with pytest.raises(ValueError, match="norm is 'pixel'"):
    gradient_penalty(apply, "pixel")


def test_a_flat_model_has_a_penalty_and_no_nan():
  penalty = gradient_penalty(lambda params, x: x * params)
  value, slope = jax.value_and_grad(
    lambda p: penalty(p, {"x": jnp.ones((1, 2))}).mean()
  )(0.0)
  assert value == 1.0 and np.isfinite(slope)


def test_balance_jumps_in_the_middle():
  found = [float(balance(t, 20)) for t in range(21)]
  assert np.isclose(found[9], 1 / (np.log(9) / np.log(5)))
  assert np.isclose(found[10], np.log(8) / np.log(5))
  assert np.isclose(found[20], np.log(18) / np.log(5))
  assert (np.diff(found[:10]) > 0).all() and 1.0 not in found
