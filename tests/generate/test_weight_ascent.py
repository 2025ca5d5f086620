"""Steps of a fixed length up the loss of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.generate import directed_ascent


def loss(params, data):
  return -problems.likelihood(params, data)


def length(a, b):
  return float(ws.probe.distance(a, b))


def test_one_step_has_the_length_rho():
  params, data = problems.tree(0), problems.data()
  for rho in (1e-3, 0.1, 3.0):
    moved = directed_ascent(loss, params, data, rho, 1)
    assert np.isclose(length(params, moved), rho, rtol=1e-4)


def test_several_steps_stay_within_rho_and_climb():
  params, data = problems.tree(0), problems.data()
  before = loss(params, data).mean()
  heights = []
  for steps in (1, 3, 12):
    moved = directed_ascent(loss, params, data, 0.5, steps)
    assert length(params, moved) <= 0.5 * (1 + 1e-5)
    heights.append(float(loss(moved, data).mean()))
  assert min(heights) > before


def test_it_is_numpys_ascent():
  matrix = np.diag([1.0, 9.0])

  def bowl(w, a):
    return 0.5 * w @ a @ w

  w = np.array([1.0, 0.2])
  for _ in range(5):
    g = matrix @ w
    w = w + 0.3 / 5 * g / np.linalg.norm(g)
  found = directed_ascent(
    bowl, jnp.array([1.0, 0.2]), jnp.asarray(matrix), 0.3, 5
  )
  assert np.allclose(found, w, atol=1e-6)


def test_the_rise_is_rho_times_the_slope_to_first_order():
  params, data = problems.tree(0), problems.data()
  slope = jax.grad(lambda p: loss(p, data).mean())(params)
  norm = float(ws.probe.distance(slope, jax.tree.map(jnp.zeros_like, slope)))
  moved = directed_ascent(loss, params, data, 1e-2, 1)
  rise = float(loss(moved, data).mean() - loss(params, data).mean())
  assert np.isclose(rise, 1e-2 * norm, rtol=0.02)


def test_parallel_gradients_go_all_the_way():
  def tilt(params, x):
    return (params["w"] * x).sum()

  found = directed_ascent(
    tilt, {"w": jnp.zeros(2)}, jnp.array([3.0, 4.0]), 1.0, 7
  )
  assert np.allclose(found["w"], [0.6, 0.8], atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_nothing_moves_without_a_gradient_or_a_length(steps):
  params, data = problems.tree(0), problems.data()
  still = directed_ascent(lambda p, x: jnp.zeros(24), params, data, 1.0, steps)
  problems.close(still, params, 0, 0)
  problems.close(directed_ascent(loss, params, data, 0.0, steps), params, 0, 0)


def test_the_teacher_is_not_changed():
  params, data = problems.tree(0), problems.data()
  kept = jax.tree.map(np.copy, params)
  directed_ascent(loss, params, data, 1.0, 3)
  problems.close(params, kept, 0, 0)


def test_jit_and_vmap_over_batches_agree_with_single_calls():
  params = problems.tree(0)
  batches = [problems.data(seed=s) for s in range(3)]

  def one(params, data):
    return directed_ascent(loss, params, data, 0.3, 4)

  together = jax.jit(jax.vmap(one, (None, 0)))(params, ws.stack(batches))
  for moved, data in zip(ws.unstack(together), batches):
    problems.close(moved, one(params, data), 1e-5, 1e-6)


def test_low_precision_is_within_an_ulp():
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), problems.tree(0))
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), low)

  def tilt(params, x):
    total = 0.0
    for i, leaf in enumerate(jax.tree.leaves(params)):
      total += (i + 1) * leaf.astype(jnp.float32).sum()
    return total

  got = directed_ascent(tilt, low, None, 0.5, 64)
  exact = directed_ascent(tilt, wide, None, 0.5, 64)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(exact)):
    assert x.dtype == jnp.bfloat16
    ulp = 2.0**-8 * np.maximum(np.abs(y), 2.0**-8)
    assert (np.abs(np.asarray(x, np.float32) - y) <= ulp).all()


def test_leaves_that_are_not_floating_stay():
  params = {"w": jnp.ones(2), "step": jnp.array(3)}
  moved = directed_ascent(lambda p, x: p["w"].sum(), params, None, 1.0, 2)
  assert moved["step"] is params["step"]
  assert np.allclose(moved["w"], 1 + 0.5**0.5)


def test_a_convolution_climbs_as_eagerly():
  def conv(params, x):
    y = jax.lax.conv(x, params["w"], (1, 1), "SAME")
    return (jnp.tanh(y) ** 2).mean((1, 2, 3))

  x = jax.random.normal(jax.random.key(0), (2, 1, 5, 5))
  params = {"w": jax.random.normal(jax.random.key(1), (3, 1, 3, 3))}
  found = directed_ascent(conv, params, x, 0.2, 3)
  w = params["w"]
  for _ in range(3):
    g = jax.grad(lambda w: conv({"w": w}, x).mean())(w)
    w = w + 0.2 / 3 * g / jnp.linalg.norm(g)
  assert np.allclose(found["w"], w, atol=1e-5)


def test_bad_input_is_refused():
  params, data = problems.tree(0), problems.data()
  for rho in (-0.1, float("nan"), float("inf")):
    with pytest.raises(ValueError, match="rho is"):
      directed_ascent(loss, params, data, rho, 1)
  with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
    directed_ascent(loss, params, data, 0.1, 0)
  with pytest.raises(ValueError, match="NaN in 'w'"):
    directed_ascent(loss, {"w": jnp.array(jnp.nan)}, data, 0.1, 1)
  with pytest.raises(ValueError, match=r"the loss returned \(3,\)"):
    directed_ascent(lambda p, x: jnp.ones(3), params, data, 0.1, 1)
  with pytest.raises(ValueError, match="no floating leaves"):
    directed_ascent(lambda p, x: 0.0, {"n": jnp.array(1)}, data, 0.1, 1)
