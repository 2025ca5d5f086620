"""Scores of blocks against models with a gate written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import grow


def network(count=3):
  block = {"w": (4, 5), "b": (5,), "v": (5, 4), "c": (4,)}
  shapes = {f"block_{k}": block for k in range(count)}
  return problems.tree(3, shapes | {"in": (3, 4), "head": (4, 2)})


def branch(p, x):
  return jnp.tanh(x @ p["w"] + p["b"][None]) @ p["v"] + p["c"][None]


def by_hand(p, x, gates):
  x = x @ p["in"]
  for k in range(3):
    x = x + gates[k] * branch(p[f"block_{k}"], x)
  return x @ p["head"]


def apply(p, x):
  return by_hand(p, x, jnp.ones(3))


def plain(p, x):
  x = x @ p["in"]
  for k in range(3):
    x = x + branch(p[f"block_{k}"], x)
  return x @ p["head"]


def loss(p, gates, data):
  logits = by_hand(p, data["x"], gates)
  return ws.losses.cross_entropy(logits, data["y"]).mean()


def expected(p, data, kind):
  ones, each = jnp.ones(3), np.arange(3)
  if kind == "snip":
    return np.abs(jax.grad(loss, 1)(p, ones, data))
  if kind == "grasp":

    def norm(gates):
      gradient = jax.grad(loss)(p, gates, data)
      return sum((g**2).sum() / 2 for g in jax.tree.leaves(gradient))

    return jax.grad(norm)(ones)
  without = [ones.at[k].set(0.0) for k in each]
  if kind == "drop":
    return [abs(loss(p, g, data) - loss(p, ones, data)) for g in without]
  whole = by_hand(p, data["x"], ones)
  return [1 - ws.probe.cka(by_hand(p, data["x"], g), whole) for g in without]


@pytest.mark.parametrize("kind", ["snip", "grasp", "drop", "cka"])
def test_scores_are_those_of_gates_written_by_hand(kind):
  p, data = network(), problems.data()
  scores = grow.block_scores(plain, p, data, "block_*", kind)
  np.testing.assert_allclose(scores, expected(p, data, kind), 1e-3, 1e-5)
  assert (scores.dtype, scores.shape) == (jnp.float32, (3,))
  jitted = jax.jit(lambda p: grow.block_scores(plain, p, data, kind=kind))
  np.testing.assert_allclose(jitted(p), scores, 1e-3, 1e-5)


def test_a_block_of_zeros_does_not_matter():
  p, data = network(), problems.data()
  p["block_1"] = jax.tree.map(np.zeros_like, p["block_1"])
  for kind in ("snip", "drop", "cka"):
    scores = grow.block_scores(plain, p, data, kind=kind)
    assert abs(scores[1]) < 1e-5 < min(scores[0], scores[2])


@pytest.mark.parametrize("name", ["vit", "lm", "moe"])
def test_a_closed_gate_is_a_block_left_out(name):
  x = jnp.arange(10).reshape(2, 5) % 7
  hyper = {"vocab": 7, "width": 16, "hidden": 8}
  if name == "vit":
    x, hyper = jax.random.normal(jax.random.key(1), (2, 8, 8, 3)), {"width": 16}
  model = ws.models.build(name, layers=3, **hyper)
  small = ws.models.build(name, layers=2, **hyper)
  params = model.init(jax.random.key(0), x)
  function, found = grow.gated(model.apply, params, x)
  assert found == [True] * 3
  problems.close(
    function(params, x, jnp.ones(3)), model.apply(params, x), 1e-5, 1e-6
  )
  for place, kept in ((1, [0, 2]), (2, [0, 1]), (0, [1, 2])):
    without = function(params, x, jnp.ones(3).at[place].set(0.0))
    shallow = grow.restack(params, "block_*", kept)
    problems.close(without, small.apply(shallow, x), 1e-4, 1e-5)


def test_blocks_that_change_the_width_stay():
  model = ws.models.build("resnet", depth=14, width=0.25, norm="batch")
  x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  params = model.init(jax.random.key(0), x)
  data = {"x": x, "y": jnp.arange(4)}
  scores = grow.block_scores(model.apply, params, data, kind="drop")
  # Three stages of two blocks; the second and third begin with a projection.
  assert np.isinf(scores).tolist() == [False, False, True, False, True, False]
  function, _ = grow.gated(model.apply, params, x)
  values = function(params, x, jnp.ones(6))
  problems.close(values, model.apply(params, x), 1e-5, 1e-6)


def test_models_without_a_stream_are_refused():
  p, data = network(), problems.data()
  with pytest.raises(ValueError, match="kind 'magic'"):
    grow.block_scores(plain, p, data, kind="magic")
  with pytest.raises(ValueError, match="fits no blocks"):
    grow.block_scores(plain, p, data, "layer_*")
  chain = lambda p, x: jnp.tanh(x @ p["block_0"])  # noqa: E731
  with pytest.raises(ValueError, match="adds to a stream"):
    grow.block_scores(chain, {"block_0": jnp.ones((3, 2))}, data)
  with pytest.raises(ValueError, match="stacked layers"):
    layers = {"blocks": jnp.ones((2, 3, 3))}
    grow.block_scores(lambda p, x: x, layers, data, "blocks")
