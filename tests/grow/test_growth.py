"""Models side by side: the sum of two, block by block, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import grow

# Functions of any width whose units meet in sums only.
SUMS = ["mlp", "conv_flatten", "depthwise", "residual", "scanned"]
SUMS += ["heads_einsum", "gated", "dense_net", "rnn", "tied"]


@functools.cache
def setting(name):
  apply, params, x, _ = architectures.build(name)
  axes = ws.symmetry.trace_axes(apply, params, x)
  other = jax.tree.map(lambda v: np.sin(3 * v).astype(v.dtype), params)
  return apply, params, other, x, axes


@pytest.mark.parametrize("name", SUMS)
def test_with_nothing_between_it_is_the_sum_of_the_two(name):
  apply, a, b, x, axes = setting(name)
  grown = grow.side_by_side(axes, a, b, 0)
  expected = apply(a, x) + apply(b, x)
  problems.close(apply(grown, x), expected, 1e-4, 1e-5)
  jitted = jax.jit(functools.partial(grow.side_by_side, axes))(a, b)
  jax.tree.map(np.testing.assert_array_equal, jitted, grown)
  assert jax.tree.map(jnp.shape, grown) == jax.tree.map(
    jnp.shape, grow.take(axes, {n: np.tile(np.arange(k), 2)
                                for n, k in grow.sizes(axes, 1.0).items()}, a)
  )  # fmt: skip


def test_blocks_lie_where_they_should():
  axes = ws.symmetry.Axes(
    {"b": "2", "deep": "a b", "heads": "a h h>d", "in": "3 a", "out": "b 2"},
    {"a": 2, "b": 1, "h": 1, "h>d": 2},
    {"in:0": "input", "b:0": "output", "out:1": "output"},
  )
  shapes = {"b": (2,), "deep": (2, 1), "heads": (2, 1, 2), "in": (3, 2),
            "out": (1, 2)}  # fmt: skip
  a, b = (problems.tree(seed, shapes) for seed in range(2))
  grown = grow.side_by_side(axes, a, b, 7.0)
  expected = {
    "b": a["b"] + b["b"],
    "deep": np.block(
      [[a["deep"], np.full((2, 1), 7)], [np.full((2, 1), 7), b["deep"]]]
    ),
    "in": np.concatenate([a["in"], b["in"]], 1),
    "out": np.concatenate([a["out"], b["out"]], 0),
    "heads": np.full((4, 2, 2), 7.0),
  }
  expected["heads"][:2, :1], expected["heads"][2:, 1:] = a["heads"], b["heads"]
  for path, leaf in expected.items():
    np.testing.assert_array_equal(grown[path], leaf.astype(np.float32), path)
  between = jax.tree.map(lambda x: jnp.full_like(x, 7.0), grown)
  again = grow.side_by_side(axes, a, b, between)
  jax.tree.map(np.testing.assert_array_equal, again, grown)
  traced = jax.jit(functools.partial(grow.side_by_side, axes, a, b))(7.0)
  jax.tree.map(np.testing.assert_array_equal, traced, grown)


def test_a_model_with_itself_is_net2net():
  apply, a, _, x, axes = setting("residual")
  twice = grow.side_by_side(axes, a, a)
  twice["out"] = twice["out"] / 2
  problems.close(apply(twice, x), apply(a, x), 1e-5, 1e-6)


def test_models_that_do_not_fit_are_refused():
  axes = ws.symmetry.Axes({"w": "a", "t": ""}, {"a": 2}, {})
  one = {"t": np.float32(1), "w": np.ones(2, np.float32)}
  with pytest.raises(ValueError, match="b: 'w' has 3 at axis 0"):
    grow.side_by_side(axes, one, one | {"w": np.ones(3)})
  with pytest.raises(ValueError, match="'t' has no units that are doubled"):
    grow.side_by_side(axes, one, one | {"t": np.float32(2)})
  with pytest.raises(ValueError, match="fill: 'w' is"):
    grow.side_by_side(axes, one, one, one)
  assert grow.side_by_side(axes, one, one)["t"] == 1


@pytest.mark.parametrize("p, j", [(1, 2), (2, 5), (0, 3), (4, 5)])
def test_orthogonal(p, j):
  previous = np.random.default_rng(0).normal(size=(p, j)).astype(np.float32)
  vector = grow.orthogonal(previous)
  np.testing.assert_allclose(previous @ np.asarray(vector), 0, atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-6)
  np.testing.assert_allclose(jax.jit(grow.orthogonal)(previous), vector, 1e-5)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2,)])
def test_too_many_coefficients_are_refused(shape):
  with pytest.raises(ValueError, match="fewer rows than templates"):
    grow.orthogonal(np.ones(shape))
