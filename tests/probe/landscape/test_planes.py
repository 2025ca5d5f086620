"""Directions, planes, grids and trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import probe
from weightspace.probe.landscape import surfaces

KEY = jax.random.key(0)
DATA = problems.data()
A, B, C = (problems.tree(seed) for seed in range(3))
KERNELS = {
  "Dense_0": {"kernel": (5, 3), "bias": (3,)},
  "Conv_0": {"kernel": (3, 3, 4, 6), "bias": (6,)},
  "Conv1d_0": {"kernel": (3, 4, 6)},
  "Embed_0": {"embedding": (9, 4)},
  "attention": {
    "query": {"kernel": (8, 2, 4), "bias": (2, 4)},
    "out": {"kernel": (2, 4, 8), "bias": (8,)},
  },
  "norm": {"scale": (8,)},
}
AXES = {
  "Dense_0/kernel": (0,),
  "Conv_0/kernel": (0, 1, 2),
  "Conv1d_0/kernel": (0, 1),
  "Embed_0/embedding": (1,),
  "attention/query/kernel": (0,),
  "attention/out/kernel": (0, 1),
}


def loss(params, data):
  return -problems.likelihood(params, data)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_each_filter_has_the_norm_of_its_weights(dtype):
  params = problems.tree(0, KERNELS, dtype)
  direction = probe.random_direction(params, KEY)
  for path, d in ws.trees.named(direction).items():
    w = ws.trees.named(params)[path]
    assert d.dtype == jnp.float32 and d.shape == w.shape
    if path not in AXES:
      assert not np.asarray(d, float).any(), path
      continue
    norms = [
      np.sqrt((np.asarray(x, float) ** 2).sum(AXES[path])) for x in (d, w)
    ]
    np.testing.assert_allclose(*norms, 1e-5, err_msg=path)


def test_zero_filters_vectors_and_integers():
  params = {"k": jnp.ones((3, 2)).at[:, 1].set(0.0), "b": jnp.ones(4), "n": 3}
  direction = probe.random_direction(params, KEY)
  assert not np.asarray(direction["k"][:, 1]).any() and direction["n"] == 0
  asked = probe.random_direction(params, KEY, vectors="random")
  np.testing.assert_allclose(jnp.linalg.norm(asked["b"]), 2.0, 1e-5)
  layer = probe.random_direction(params, KEY, normalize="layer")
  np.testing.assert_allclose(jnp.linalg.norm(layer["k"]), np.sqrt(3), 1e-5)
  np.testing.assert_allclose(jnp.linalg.norm(layer["b"]), 2.0, 1e-5)
  model = probe.random_direction(params, KEY, normalize="model")
  total = sum(
    float((x.astype(float) ** 2).sum()) for x in jax.tree.leaves(model)
  )
  assert total == pytest.approx(7.0, rel=1e-4)
  plain = probe.random_direction({"w": jnp.zeros(10_000)}, KEY, "none")["w"]
  assert abs(plain.mean()) < 0.05 and abs(plain.std() - 1) < 0.05


def test_directions_are_keyed_by_path():
  """A leaf's draw does not change when the tree gains a leaf."""
  small = probe.random_direction({"w": jnp.ones((3, 3))}, KEY)
  large = probe.random_direction(
    {"v": jnp.ones((3, 3)), "w": jnp.ones((3, 3))}, KEY
  )
  problems.close(small["w"], large["w"], 0, 0)
  assert not np.allclose(large["v"], large["w"])
  other = probe.random_direction({"w": jnp.ones((3, 3))}, jax.random.key(1))
  assert not np.allclose(small["w"], other["w"])


def test_own_axes_for_scanned_layers():
  params = {"layers": {"kernel": jnp.ones((4, 5, 3))}}
  own = {"layers/kernel": (1,)}
  d = probe.random_direction(params, KEY, axes=own)["layers"]["kernel"]
  np.testing.assert_allclose((d**2).sum(1), 5.0, 1e-5)
  with pytest.raises(ValueError, match="'conv' is no leaf"):
    probe.filter_axes(params, {"conv": (0,)})
  with pytest.raises(ValueError, match="'layers/kernel' has 3 axes"):
    probe.filter_axes(params, {"layers/kernel": (3,)})
  with pytest.raises(ValueError, match="normalize: 'filters'"):
    probe.random_direction(params, KEY, "filters")
  with pytest.raises(ValueError, match="vectors: 'no'"):
    probe.random_direction(params, KEY, vectors="no")


def flat(tree):
  return np.concatenate(
    [np.ravel(np.asarray(x, float)) for x in jax.tree.leaves(tree)]
  )


def test_a_triangle_has_its_corners_at_their_distances():
  plane = probe.triangle(A, B, C)
  u, v = flat(plane.u), flat(plane.v)
  np.testing.assert_allclose([u @ u, v @ v, u @ v], [1, 1, 0], atol=1e-6)
  side = np.linalg.norm(flat(B) - flat(A))
  np.testing.assert_allclose(plane.coordinates(A), (0, 0, 0), atol=1e-5)
  np.testing.assert_allclose(plane.coordinates(B), (side, 0, 0), atol=1e-4)
  x, y, rest = plane.coordinates(C)
  assert np.hypot(x, y) == pytest.approx(
    np.linalg.norm(flat(C) - flat(A)), 1e-5
  )
  assert rest < 1e-4
  problems.close(plane(x, y), C, 1e-4, 1e-5)
  away = problems.tree(7)
  x, y, rest = plane.coordinates(away)
  gap = flat(away) - flat(A)
  expected = gap - (gap @ u) * u - (gap @ v) * v
  assert rest == pytest.approx(np.linalg.norm(expected), 1e-4)
  assert (x, y) == pytest.approx((gap @ u, gap @ v), 1e-3)


def test_coordinates_of_oblique_directions():
  plane = probe.Plane(A, B, C)
  point = jax.tree.map(lambda o, u, v: o + 0.5 * u - 2.0 * v, A, B, C)
  np.testing.assert_allclose(
    plane.coordinates(point), (0.5, -2.0, 0), atol=1e-4
  )


@pytest.mark.parametrize("function", [loss, lambda p, d: loss(p, d).mean()])
def test_a_grid_is_the_loop_over_its_points(function):
  us, vs = [-1.0, 0.0, 0.7], [0.0, 0.1, 0.3, 2.0, -0.4]
  before = jax.tree.map(np.array, A)
  found = probe.surface(function, DATA, A, B, C, us, vs)
  assert found.shape == (3, 5) and found.dtype == jnp.float32
  for i, a in enumerate(us):
    for j, b in enumerate(vs):
      point = jax.tree.map(lambda o, u, v: o + a * u + b * v, A, B, C)  # noqa: B023
      assert found[i, j] == pytest.approx(float(loss(point, DATA).mean()), 1e-4)
  problems.close(A, before, 0, 0)
  chunked = probe.surface(function, DATA, A, B, C, us, vs, chunk=4)
  np.testing.assert_allclose(chunked, found, 1e-5)
  mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
  shared = probe.surface(function, DATA, A, B, C, us, vs, mesh=mesh)
  np.testing.assert_allclose(shared, found, 1e-5)


def test_a_grid_is_resumed_from_its_chunks(tmp_path, monkeypatch):
  grid = (loss, DATA, A, B, C, [0.0, 1.0], [0.0, 1.0, 2.0])
  whole = probe.surface(*grid)
  first = probe.surface(*grid, folder=tmp_path, chunk=2)
  np.testing.assert_allclose(first, whole, 1e-5)
  files = sorted(tmp_path.iterdir())
  assert len(files) == 3
  files[1].unlink()
  calls = []
  evaluate = surfaces.mixes.evaluate_mixes
  monkeypatch.setattr(
    surfaces.mixes,
    "evaluate_mixes",
    lambda *a, **k: calls.append(1) or evaluate(*a, **k),
  )
  np.testing.assert_allclose(
    probe.surface(*grid, folder=tmp_path, chunk=2), whole, 1e-5
  )
  assert len(calls) == 1
  with pytest.raises(ValueError, match="of another grid, expected"):
    probe.surface(loss, DATA, A, C, B, [0.0], [0.0], folder=tmp_path)


def test_nan_stays_in_the_grid_and_is_reported(caplog):
  def root(p, x):
    return jnp.sqrt(p["w"]) + x

  origin, u, v = ({"w": jnp.array(x)} for x in (0.0, 1.0, 1.0))
  found = probe.surface(
    root, jnp.zeros(()), origin, u, v, [-1.0, 1.0], [0.0, 3.0]
  )
  assert np.isnan(found).tolist() == [[True, False], [False, False]]
  assert "not finite at 1 of 4" in caplog.text


def test_coordinates_may_be_traced():
  grid = probe.surface(loss, DATA, A, B, C, [0.0, 0.5], [0.0, 1.0, 2.0])
  traced = jax.jit(lambda u, v: probe.surface(loss, DATA, A, B, C, u, v))(
    jnp.array([0.0, 0.5]), jnp.arange(3.0)
  )
  np.testing.assert_allclose(traced, grid, rtol=1e-5)


def test_bad_planes_are_refused():
  zero = jax.tree.map(np.zeros_like, A)
  with pytest.raises(ValueError, match="direction v is zero"):
    probe.surface(loss, DATA, A, B, zero, [0.0], [0.0])
  with pytest.raises(ValueError, match="direction u: 'out' is missing"):
    probe.surface(
      loss, DATA, A, {"dense": A["dense"], "gain": 1.0}, B, [0.0], [0.0]
    )
  with pytest.raises(ValueError, match=r"us has shape \(\), expected"):
    probe.surface(loss, DATA, A, B, C, 0.0, [0.0])
  with pytest.raises(ValueError, match=r"vs has shape \(0,\)"):
    probe.surface(loss, DATA, A, B, C, [0.0], [])
  with pytest.raises(ValueError, match=r"loss returned \(3,\)"):
    probe.surface(lambda p, d: p["out"][:3, 0], DATA, A, B, C, [0.0], [0.0])
  with pytest.raises(ValueError, match="NaN in 'gain'"):
    probe.surface(
      loss, DATA, A, A | {"gain": np.float32("nan")}, C, [0.0], [0.0]
    )
  with pytest.raises(ValueError, match="on one line"):
    probe.triangle(A, B, jax.tree.map(lambda a, b: 3 * b - 2 * a, A, B))
  with pytest.raises(ValueError, match="first two models are equal"):
    probe.triangle(A, A, B)
  with pytest.raises(ValueError, match="model 2: 'out' is missing"):
    probe.triangle(A, B, {"dense": A["dense"], "gain": A["gain"]})
  with pytest.raises(ValueError, match="coordinates: 'gain' is"):
    probe.triangle(A, B, C).coordinates(A | {"gain": np.ones(2, np.float32)})


@pytest.mark.parametrize("centre", [True, False])
def test_a_trajectory_is_its_principal_components(centre):
  steps = [problems.tree(seed) for seed in range(6)]
  rows = np.stack([flat(x) for x in steps])
  rows = rows - rows[-1]
  middle = rows - rows.mean(0) * centre
  _, sizes, directions = np.linalg.svd(middle, full_matrices=False)
  found = probe.trajectory(steps, centre=centre)
  np.testing.assert_allclose(
    found.explained, sizes[:2] ** 2 / (sizes**2).sum(), 1e-4
  )
  for direction, exact in zip((found.plane.u, found.plane.v), directions):
    assert abs(flat(direction) @ exact) == pytest.approx(1.0, abs=1e-4)
  for place, rest, model in zip(found.coordinates, found.residuals, steps):
    expected = found.plane.coordinates(model)
    np.testing.assert_allclose((*place, rest), expected, 1e-3, 1e-4)
  assert (found.coordinates[0] >= 0).all()


def test_bad_trajectories_are_refused():
  with pytest.raises(ValueError, match="2 checkpoints, expected at least 3"):
    probe.trajectory([A, B])
  middle = jax.tree.map(lambda a, b: (a + b) / 2, A, B)
  with pytest.raises(ValueError, match="lie on a line"):
    probe.trajectory([A, middle, B])


def torch_like(p, x):
  h = p["embed"]["weight"][x]
  h = h * p["norm"]["weight"][None, None] + p["norm"]["offset"][0]
  h = jnp.tanh(h @ p["fc"]["weight"].T + p["fc"]["bias"])
  return jnp.einsum("bti,oi->bto", h, p["head"]["weight"])


TORCH = {
  "embed": {"weight": jnp.ones((7, 3)) * jnp.arange(1.0, 8.0)[:, None]},
  "norm": {"weight": jnp.ones(3), "offset": jnp.ones((1, 1, 3))},
  "fc": {"weight": jnp.arange(1.0, 13.0).reshape(4, 3), "bias": jnp.ones(4)},
  "head": {"weight": jnp.ones((2, 4))},
}


def test_filters_are_read_off_the_program():
  x = jnp.zeros((2, 5), int)
  with jax.numpy_rank_promotion("allow"):
    found = probe.filter_axes(TORCH, apply=torch_like, x=x)
    assert found == {
      "embed/weight": (1,),
      "fc/bias": (),
      "fc/weight": (1,),
      "head/weight": (1,),
      "norm/offset": (),
      "norm/weight": (),
    }
    assert probe.filter_axes(TORCH, {"fc/weight": (0,)}, apply=torch_like, x=x)[
      "fc/weight"
    ] == (0,)
    direction = probe.random_direction(TORCH, KEY, apply=torch_like, x=x)
  norms = [
    jnp.linalg.norm(tree["fc"]["weight"], axis=1) for tree in (direction, TORCH)
  ]
  np.testing.assert_allclose(*norms, 1e-5)
  assert not direction["norm"]["offset"].any()
  with pytest.raises(ValueError, match="both of apply and x"):
    probe.filter_axes(TORCH, apply=torch_like)


def test_filters_of_scanned_layers():
  p = {
    "w": jnp.ones((3, 4, 4)),
    "b": jnp.ones((3, 4)),
    "t": jnp.ones((3, 5, 4)),
  }

  def apply(p, x):
    def body(h, layer):
      h = jnp.tanh(h @ layer["w"].T + layer["b"][None]) + layer["t"][x]
      return h, None

    return jax.lax.scan(body, jax.nn.one_hot(x, 4), p)[0]

  found = probe.filter_axes(p, apply=apply, x=jnp.array([0, 1]))
  assert found == {"b": (), "t": (2,), "w": (2,)}


def test_haikus_offsets_are_vectors():
  assert probe.filter_axes({"bn": {"offset": jnp.ones((1, 1, 1, 8))}}) == {
    "bn/offset": ()
  }
