"""Leaves that are no numbers: keys pass, functions are named everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import average, match, probe

KEY = jax.random.key(0)
X = jnp.ones((3, 2))
NET = {
  "act": jax.nn.relu,
  "layer": {"w": jnp.ones((2, 2))},
}


def apply(m, x):
  return m["act"](x @ m["layer"]["w"])


def loss(m, x):
  return apply(m, x).sum(-1)


CALLS = {
  "stack": lambda: ws.stack([NET, NET]),
  "ema": lambda: average.run(average.ema(0.9), [NET]),
  "init": lambda: average.window(2).init(NET),
  "line": lambda: ws.paths.line(NET, NET),
  "barrier": lambda: probe.barrier(loss, X, NET, NET, 3),
  "trace_axes": lambda: match.trace_axes(apply, NET, X),
  "hessian": lambda: probe.hessian(loss, NET, X),
  "average": lambda: probe.average_sharpness(loss, NET, X, KEY),
  "direction": lambda: probe.random_direction(NET, KEY),
  "distance": lambda: probe.distance(NET, NET),
  "cosine": lambda: probe.cosine(NET, NET),
  "curve": lambda: probe.fit_curve(loss, X, NET, NET, KEY, 2),
  "triangle": lambda: probe.triangle(NET, NET, NET),
  "trajectory": lambda: probe.trajectory([NET] * 3),
  "fisher": lambda: ws.statistics.fisher(apply, NET, X),
  "gram": lambda: ws.statistics.gram(apply, NET, X),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_are_named_with_the_remedy(name):
  with pytest.raises(ValueError, match="'act' is a") as error:
    CALLS[name]()
  assert "equinox.partition" in str(error.value)


def test_key_leaves_pass():
  p = {"drop": {"key": jax.random.key(0)}, "w": jnp.ones((2, 2))}
  q = p | {"w": p["w"].at[0, 0].set(5.0)}
  double = p | {"w": 2 * p["w"]}
  direction = probe.random_direction(p, KEY)
  assert direction["drop"]["key"].shape == ()
  assert float(probe.distance(p, q)) == 4.0
  np.testing.assert_allclose(probe.cosine(p, double), 1.0, 1e-6)
  plane = probe.triangle(p, double, q)
  assert plane.coordinates(q).residual < 1e-5
  probe.trajectory([p, double, q])

  def fit(m, x):
    return ((x @ m["w"]) ** 2).sum(-1)

  grid = probe.surface(fit, X, p, direction, direction, [0.0], [0.0])
  np.testing.assert_allclose(grid[0, 0], fit(p, X).mean())
  assert probe.barrier(fit, X, p, q, 3).losses.shape == (3,)
  path = probe.fit_curve(fit, X, p, q, KEY, 2)
  assert jnp.issubdtype(path(0.5)["drop"]["key"].dtype, jax.dtypes.prng_key)
  assert ws.trees.fingerprint(p) == ws.trees.fingerprint(dict(p))
  for found in (
    probe.average_sharpness(fit, p, X, KEY)[0],
    probe.trace(probe.hessian(fit, p, X), KEY, 2)[0],
    probe.learning_coefficient(fit, p, X, KEY, draws=2).value,
    ws.statistics.fisher(lambda m, x: x @ m["w"], p, X)["w"].sum(),
  ):
    assert np.isfinite(found)
