"""Statistics of norms are found by what a program does with them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import weightspace as ws
from weightspace import match
from weightspace.symmetry import checks

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (6, 3))
SHAPES = {
  "w": (3, 4),
  "m": (4,),
  "v": (4,),
  "g": (4,),
  "b": (4,),
  "o": (4, 2),
}


def params(seed=0):
  keys = jax.random.split(jax.random.key(seed), len(SHAPES))
  return {
    n: jnp.abs(jax.random.normal(k, s)) + 0.1
    for k, (n, s) in zip(keys, SHAPES.items())
  }


def usual(p, y):
  return (y - p["m"][None]) / jnp.sqrt(p["v"] + 1e-5)[None] * p["g"][None]


def inverse(p, y):
  scale = p["g"] * jax.lax.rsqrt(p["v"] + 1e-5)
  return (y - p["m"][None]) * scale[None]


def folded(p, y):
  scale = p["g"] * jax.lax.rsqrt(p["v"] + 1e-5)
  return y * scale[None] + (p["b"] - p["m"] * scale)[None]


def clipped(p, y):
  scale = jnp.sqrt(jnp.maximum(p["v"], 1e-5))
  return (y - p["m"][None]) / scale[None] * p["g"][None]


def power(p, y):
  return (y - p["m"][None]) * ((p["v"] + 1e-5) ** -0.5)[None] * p["g"][None]


NORMS = [usual, inverse, folded, clipped, power]


@pytest.mark.parametrize("norm", NORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("scanned", [False, True])
def test_a_norm_written_in_any_way(norm, scanned):
  def apply(p, x):
    y = norm(p, x @ p["w"]) + p["b"][None]
    return jnp.tanh(y) @ p["o"]

  def stacked(p, x):
    inner = {n: x for n, x in p.items() if n != "o"}

    def body(y, layer):
      return jnp.tanh(norm(layer, y @ layer["w"]) + layer["b"][None]), None

    return jax.lax.scan(body, x, inner)[0] @ p["o"]

  p, x = params(), X
  if scanned:
    layers = [params(n) | {"w": jnp.eye(4) + n} for n in range(2)]
    p = jax.tree.map(lambda *x: jnp.stack(x), *layers) | {"o": p["o"]}
    x = jnp.ones((6, 4))
  axes = match.trace_axes(stacked if scanned else apply, p, x)
  assert axes.statistics == ("m", "v")
  again, _ = match.from_json(match.to_json(axes), p)
  assert again.statistics == axes.statistics
  if not scanned:
    perm = match.random(axes, p, KEY)
    moved = match.permute(axes, perm, p)
    np.testing.assert_allclose(apply(moved, X), apply(p, X), 1e-5, 1e-5)
    other = moved | {"m": moved["m"][::-1] * 1e6, "v": moved["v"][::-1]}
    found = match.match_weights(axes, p, other).perm
    back = match.permute(axes, found, moved)
    np.testing.assert_allclose(back["w"], p["w"])  # statistics not scored


def test_leaves_that_are_only_called_so_are_scored():
  def apply(p, x):
    return jnp.tanh(x @ p["mean"] + p["var"][None]) @ p["stats"]["o"]

  p = {
    "mean": jnp.ones((3, 4)),
    "var": jnp.ones(4),
    "stats": {"o": jnp.ones((4, 2))},
  }
  axes = match.trace_axes(apply, p, X)
  assert axes.statistics == ()
  assert not any(checks.is_statistic(path, axes) for path in ws.trees.names(p))


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    y = nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))
    return nn.Dense(2)(nn.relu(nn.LayerNorm()(y)))


def test_flax_linen():
  variables = Net().init(KEY, X)
  axes = match.trace_axes(Net().apply, variables, X)
  assert axes.statistics == (
    "batch_stats/BatchNorm_0/mean",
    "batch_stats/BatchNorm_0/var",
  )


def test_flax_nnx():
  rngs = nnx.Rngs(0)
  net = nnx.Sequential(
    nnx.Linear(3, 4, rngs=rngs),
    nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
    jax.nn.relu,
    nnx.Linear(4, 2, rngs=rngs),
  )
  graph, state = nnx.split(net)
  pure = nnx.to_pure_dict(state)

  def apply(tree, x):
    own = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(tree))
    return nnx.merge(graph, own)(x)

  axes = match.trace_axes(apply, pure, X)
  assert {path.rsplit("/", 1)[-1] for path in axes.statistics} == {
    "mean",
    "var",
  }
