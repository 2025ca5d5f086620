"""Lines, losses along them, and barriers in the conventions of the field."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from weightspace import paths

A, B = problems.tree(0), problems.tree(1)
DATA = problems.data()


def loss(params, data):
  return -problems.likelihood(params, data)


@pytest.mark.parametrize("t", [0.0, 0.25, 1.0, -0.5, 1.5])
def test_a_line_is_one_minus_t_and_t(t):
  expected = jax.tree.map(lambda a, b: (1 - t) * a + t * b, A, B)
  problems.close(ws.line(A, B)(t), expected)


def test_ends_are_exact():
  path = ws.line(A, B)
  problems.close(path(0.0), A, 0, 0)
  problems.close(path(1.0), B, 0, 0)


def test_a_polyline_passes_its_points_and_goes_straight_between():
  points = [problems.tree(seed) for seed in range(4)]
  path = paths.Polyline(ws.stack(points))
  for k, point in enumerate(points):
    problems.close(path(k / 3), point, 1e-5, 1e-5)
  halfway = jax.tree.map(lambda a, b: (a + b) / 2, points[1], points[2])
  problems.close(path(0.5), halfway)
  grid = jax.vmap(path.weights)(jnp.linspace(-0.2, 1.2, 29))
  np.testing.assert_allclose(grid.sum(1), 1.0, rtol=1e-6)
  one = paths.Polyline(ws.stack([A]))
  problems.close(one(0.7), A, 0, 0)


def test_a_path_is_a_pytree_under_jit():
  value = jax.jit(lambda path, t: path(t))(ws.line(A, B), 0.3)
  problems.close(value, ws.line(A, B)(0.3))


@flax.struct.dataclass
class Arc:
  """A half circle, as a user would write a path of their own."""

  radius: jax.Array

  def __call__(self, t):
    return {"w": self.radius * jnp.sin(jnp.pi * t)}


def test_losses_along_a_line_a_struct_and_a_function():
  ts = np.linspace(0, 1, 5)
  expected = [float(loss(ws.line(A, B)(t), DATA).mean()) for t in ts]
  found = ws.along(ws.line(A, B), ts, loss, DATA)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  radius = jnp.array(2.0)

  def distance(p, x):
    return p["w"] + x

  by_struct = ws.along(Arc(radius), ts, distance, jnp.ones(3))
  np.testing.assert_allclose(by_struct, 2 * np.sin(np.pi * ts) + 1, atol=1e-5)
  by_function = ws.along(lambda t: {"w": t}, ts, distance, jnp.ones(3))
  np.testing.assert_allclose(by_function, ts + 1, rtol=1e-6)


def reference(ts, losses):
  """The four barriers, each from its definition."""
  first, last, middle = losses[0], losses[-1], len(ts) // 2
  chord = [v - ((1 - t) * first + t * last) for t, v in zip(ts, losses)]
  away = [v - (first + last) / 2 for v in losses]
  return {
    "chord": max(chord),
    "mean": max(away),
    "half": away[middle],
    "connectivity": -max(away, key=abs),
    "at": ts[int(np.argmax(chord))],
  }


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9))
def test_barriers_follow_their_definitions(losses):
  losses = np.array(losses[: len(losses) // 2 * 2 - 1])
  ts = np.linspace(0, 1, len(losses))
  found = paths.summarise(ts, losses)
  for name, value in reference(ts, losses).items():
    assert getattr(found, name) == pytest.approx(value, abs=1e-12), name
  assert found.chord >= 0


def test_the_barrier_of_a_parabola_is_known():
  def bump(p, x):
    return x - p["w"] ** 2

  a, b = {"w": np.float32(-2.0)}, {"w": np.float32(2.0)}
  found = ws.barrier(bump, jnp.zeros(()), a, b, points=5)
  assert found.losses.tolist() == [-4.0, -1.0, 0.0, -1.0, -4.0]
  assert (found.chord, found.mean, found.at) == (4.0, 4.0, 0.5)
  assert (found.half, found.connectivity) == (4.0, -4.0)
  assert len(ws.barrier(bump, jnp.zeros(()), a, b).ts) == 25


def test_a_convex_loss_has_no_barrier():
  def bowl(p, x):
    return ((p["w"] - x) ** 2).sum()

  a, b = {"w": jnp.array([0.0, 1.0])}, {"w": jnp.array([3.0, -1.0])}
  found = ws.barrier(bowl, jnp.ones(2), a, b)
  assert found.chord == 0.0
  assert found.at in (0.0, 1.0)


def test_the_models_are_left_as_they_were():
  a, b = jax.tree.map(np.array, A), jax.tree.map(np.array, B)
  ws.barrier(loss, DATA, a, b, points=3)
  problems.close(a, A, 0, 0)
  problems.close(b, B, 0, 0)


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="model 1: 'out' is missing"):
    ws.line(A, {"dense": A["dense"], "gain": A["gain"]})
  with pytest.raises(ValueError, match="points is 1, expected at least 2"):
    ws.barrier(loss, DATA, A, B, points=1)
  with pytest.raises(ValueError, match=r"ts has shape \(\), expected \[T\]"):
    ws.along(ws.line(A, B), 0.5, loss, DATA)
