"""Probes of models kept in few bits: the points are float32, not rounded.

Each probe of a model in bfloat16, float16 or float8 gives what it gives of the
same numbers in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import probe

KEY = jax.random.key(0)
DTYPES = [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn]
DATA = {
  "x": jax.random.normal(jax.random.key(1), (12, 3)),
  "y": jnp.arange(12) % 2,
}


def apply(p, x):
  return jnp.tanh(x @ p["u"].astype(x.dtype)) @ p["v"].astype(x.dtype)


def loss(p, d):
  return ws.losses.cross_entropy(apply(p, d["x"]), d["y"])


def model(seed, dtype):
  keys = jax.random.split(jax.random.key(seed), 2)
  tree = {
    "n": jnp.array(seed),
    "u": 0.5 * jax.random.normal(keys[0], (3, 4)),
    "v": 0.5 * jax.random.normal(keys[1], (4, 2)),
  }
  return jax.tree.map(
    lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
    tree,
  )


def surface(a, b):
  u, v = (probe.random_direction(a, jax.random.key(k)) for k in (1, 2))
  return probe.surface(loss, DATA, a, u, v, [0.0, 1e-4, 1.0], [0.0, 1e-3])


def in_a_plane(a, b):
  c = jax.tree.map(lambda x: (x * 0.5).astype(x.dtype), a)
  plane = probe.triangle(a, b, c)
  return loss(plane(0.01, 0.02), DATA)


def curve(a, b):
  path = probe.fit_curve(loss, DATA, a, b, KEY, 10, batch_size=4)
  return probe.barrier_on(path, loss, DATA, 5).losses


def directional(a, b):
  operator = probe.hessian(loss, a, DATA)
  return probe.top_eigenpairs(operator, 2, 6, KEY)[0]


PROBES = {
  "barrier": lambda a, b: probe.barrier(loss, DATA, a, b, 9, refine=3).losses,
  "polyline": lambda a, b: (
    probe.barrier_on(ws.paths.polyline([a, b, a]), loss, DATA, 9).losses
  ),
  "bezier": lambda a, b: ws.paths.along(
    ws.paths.bezier([a, b, a]), [0.1, 0.2], loss, DATA, per_example=True
  ),
  "surface": surface,
  "plane": in_a_plane,
  "curve": curve,
  "summary": lambda a, b: (
    probe.summary(ws.paths.line(a, b), loss, DATA, 5).losses
  ),
  "profile": lambda a, b: (
    probe.profile(
      apply, ws.paths.line(a, b), [DATA], classes=2, points=5
    ).losses
  ),
  "radial": lambda a, b: probe.radial_losses(
    loss, a, DATA, KEY, [1e-4, 1.0], 3
  ),
  "average": lambda a, b: probe.average_sharpness(loss, a, DATA, KEY, 1e-3, 4),
  "sam": lambda a, b: probe.sam_sharpness(loss, a, DATA, 1e-3),
  "worst": lambda a, b: probe.worst_sharpness(loss, a, DATA, 1e-3, 5),
  "keskar": lambda a, b: probe.keskar_sharpness(loss, a, DATA, key=KEY),
  "coefficient": lambda a, b: (
    probe.learning_coefficient(
      loss, a, DATA, KEY, draws=6, burn_in=2, step_size=1e-6
    ).losses
  ),
  "noise": lambda a, b: probe.noise_scale(loss, a, DATA)[:4],
  "hessian": directional,
  "ggn": lambda a, b: probe.trace(probe.ggn(loss, a, DATA), KEY, 4),
  "fisher": lambda a, b: probe.trace(probe.fisher(apply, a, DATA), KEY, 4),
  "tangent": lambda a, b: probe.tangent_kernel(apply, a, DATA["x"]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROBES)
def test_as_in_float32(name, dtype):
  few = [model(seed, dtype) for seed in (0, 1)]
  wide = [ws.trees.widened(m) for m in few]
  found, wanted = (
    jax.tree.map(lambda x: np.asarray(x, float), PROBES[name](*pair))
    for pair in (few, wide)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, 2e-7), found, wanted
  )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_convex_loss_has_no_barrier_between_neighbours(dtype):
  step = float(jnp.finfo(dtype).eps)
  a, b = ({"w": jnp.full(400, x, dtype)} for x in (1.0, 1.0 + step))
  assert float(b["w"][0] - a["w"][0]) > 0

  def convex(p, d):
    return 50.0 * ((p["w"].astype(jnp.float32) - 1.0) ** 2).sum() + 0.0 * d

  found = probe.barrier(convex, jnp.zeros(4), a, b, 9)
  assert found.chord <= 1e-6 * found.losses.max()
  middle = found.losses[4] / found.losses[-1]
  np.testing.assert_allclose(middle, 0.25, 1e-5)
