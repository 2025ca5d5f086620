"""Lines, losses along them, and barriers in the conventions of the field."""

import itertools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems
from weightspace import paths
from weightspace.paths import barriers

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


def control(points, t):
  """De Casteljau's construction, on one leaf."""
  while len(points) > 1:
    points = [(1 - t) * p + t * q for p, q in itertools.pairwise(points)]
  return points[0]


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 1.2])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_bezier_curve_is_de_casteljaus(count, t):
  points = [problems.tree(seed) for seed in range(count)]
  expected = jax.tree.map(lambda *x: control(list(x), t), *points)
  problems.close(ws.probe.bezier(points)(t), expected, 1e-4, 1e-5)
  problems.close(ws.probe.bezier(ws.stack(points))(t), expected, 1e-4, 1e-5)


def test_losses_on_curves_are_those_of_their_points():
  points = [problems.tree(seed) for seed in range(3)]
  ts = np.linspace(0, 1, 5)
  for path in (ws.probe.bezier(points), ws.probe.polyline(points)):
    expected = [float(loss(path(t), DATA).mean()) for t in ts]
    np.testing.assert_allclose(ws.along(path, ts, loss, DATA), expected, 1e-4)
    each = ws.along(path, ts, loss, DATA, per_example=True)
    np.testing.assert_allclose(each.mean(1), expected, 1e-4)


def test_padding_weighs_nothing_even_where_it_is_nan():
  padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:2]]), DATA)
  padded["x"] = padded["x"].at[-2:].set(jnp.nan)
  weights = np.r_[np.ones(24), 0, 0]
  line, ts = ws.line(A, B), np.linspace(0, 1, 4)
  expected = ws.along(line, ts, loss, DATA)
  found = ws.along(line, ts, loss, padded, weights=weights)
  np.testing.assert_allclose(found, expected, 1e-5)
  plain = ws.along(lambda t: line(t), ts, loss, padded, weights=weights)
  np.testing.assert_allclose(plain, expected, 1e-5)
  settings = {"key": jax.random.key(0), "draws": 50}
  for found in (
    ws.barrier(loss, DATA, A, B, 4, **settings),
    ws.barrier(loss, padded, A, B, 4, weights=weights, **settings),
  ):
    np.testing.assert_allclose(found.losses, expected, 1e-5)
    assert found.intervals["mean"].mean == pytest.approx(found.mean, abs=1e-5)
    assert found.intervals["chord"].size == 24


def test_places_shared_by_devices_are_the_same():
  mesh = jax.make_mesh(
    (4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  ts = np.linspace(0, 1, 11)
  found = ws.along(ws.line(A, B), ts, loss, DATA, mesh=mesh)
  np.testing.assert_allclose(
    found, ws.along(ws.line(A, B), ts, loss, DATA), 1e-5
  )


def test_intervals_cover_the_barrier_of_the_population():
  """Losses with a known barrier of 1: the interval holds it, mostly."""
  ts, hits = np.linspace(0, 1, 5), 0
  shape = 4 * ts * (1 - ts)
  for seed in range(20):
    random = np.random.default_rng(seed)
    sizes = random.normal(1.0, 0.5, 200)
    found = barriers.intervals(
      ts, shape[:, None] * sizes, jax.random.key(seed), 200
    )
    hits += found["chord"].low <= 1.0 <= found["chord"].high
  assert hits >= 16
  with pytest.raises(ValueError, match="draws 0"):
    barriers.intervals(ts, np.ones((5, 3)), jax.random.key(0), 0)


def test_refinement_finds_the_top_between_grid_points():
  def hill(p, x):
    return jnp.exp(-50.0 * (p["w"] - 0.37) ** 2) + x

  a, b = {"w": jnp.array(0.0)}, {"w": jnp.array(1.0)}
  coarse = ws.barrier(hill, jnp.zeros(()), a, b, points=5)
  fine = ws.barrier(hill, jnp.zeros(()), a, b, points=5, refine=20)
  assert fine.at == pytest.approx(0.37, abs=1e-3)
  assert fine.chord > coarse.chord and (np.diff(fine.ts) >= 0).all()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_violation_is_the_largest_rise(losses):
  rises = [b - a for i, a in enumerate(losses) for b in losses[i:]]
  found = paths.summarise(np.linspace(0, 1, len(losses)), np.array(losses))
  assert found.violation == pytest.approx(max(rises), abs=1e-12)


def test_nan_on_the_path_is_kept_and_located():
  def hole(p, x):
    return jnp.where(p["w"] == 0.5, jnp.nan, p["w"]) + x

  a, b = {"w": jnp.array(0.0)}, {"w": jnp.array(1.0)}
  found = ws.barrier(hole, jnp.zeros(()), a, b, points=5)
  assert np.isnan(found.losses).tolist() == [False, False, True, False, False]
  assert np.isnan(found.chord) and np.isnan(found.mean) and found.at == 0.5


def test_more_bad_input_is_named():
  with pytest.raises(
    ValueError, match="polyline: 1 point, expected at least 2"
  ):
    ws.probe.polyline([A])
  with pytest.raises(ValueError, match="bezier: 1 point, expected at least 2"):
    ws.probe.bezier([A])
  with pytest.raises(ValueError, match="model 1: 'out' is missing"):
    ws.probe.bezier([A, {"dense": A["dense"], "gain": A["gain"]}])
  line = ws.line(A, B)
  with pytest.raises(ValueError, match=r"loss returned \(3,\), expected one"):
    ws.along(line, [0.0, 1.0], lambda p, d: p["out"][:3, 0], DATA)
  with pytest.raises(ValueError, match="returned a tuple"):
    ws.along(lambda t: line(t), [0.0], lambda p, d: (1.0, 2.0), DATA)
  with pytest.raises(ValueError, match=r"weights need a loss that returns"):
    ws.along(line, [0.0], lambda p, d: loss(p, d).mean(), DATA, weights=[1.0])
  with pytest.raises(ValueError, match=r"per_example needs"):
    ws.barrier(
      lambda p, d: loss(p, d).mean(), DATA, A, B, key=jax.random.key(0)
    )
