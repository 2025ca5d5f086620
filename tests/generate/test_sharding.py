"""Populations that lie on several devices give what they give on one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import symmetry


@pytest.fixture(scope="module")
def placed():
  """The same population of four models, on one device and on four."""
  stack = problems.stack(4)
  mesh = jax.make_mesh(
    (4,), ("population",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  layout = jax.NamedSharding(mesh, jax.P("population"))
  return stack, jax.device_put(stack, layout)


def test_a_matrix_and_its_basis(placed):
  one, several = (ws.generate.flatten(stack)[0] for stack in placed)
  assert np.array_equal(one, several)
  one, several = (ws.generate.basis(stack, 2) for stack in placed)
  assert np.allclose(one.directions, several.directions, atol=1e-5)


def test_distances_and_ascents(placed):
  start, target = problems.models(6)[4:]
  data = problems.data()

  def loss(params, data):
    return -problems.likelihood(params, data)

  @jax.jit
  def each(stack):
    far = jax.vmap(ws.generate.trajectory_distance, (0, None, None))
    moved = jax.vmap(
      lambda p: ws.generate.directed_ascent(loss, p, data, 0.3, 2)
    )
    return far(stack, start, target), moved(stack)

  one, several = (each(stack) for stack in placed)
  problems.close(one, several, 1e-5, 1e-5)


def test_features_and_the_best(placed):
  axes = symmetry.Axes(
    {"dense": {"kernel": "3 h", "bias": "h"}, "out": "h 2", "gain": ""},
    {"h": 4},
    {},
  )
  one, several = (ws.generate.features(axes, stack) for stack in placed)
  assert np.allclose(one, several, atol=1e-4)
  chosen = [
    ws.generate.best_of(stack, problems.likelihood, problems.data()).chosen
    for stack in placed
  ]
  assert chosen[0] == chosen[1]
  assert jnp.ndim(one) == 2
