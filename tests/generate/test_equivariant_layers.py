"""Layers on weights: equivariance on every kind of axes, and completeness."""

import functools
import itertools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from tests import architectures, problems
from weightspace import models, symmetry
from weightspace.generate import (
  channels,
  equivariant,
  invariant,
  read,
  write,
)

# Flattened images, residual streams, scanned layers, heads in groups, products,
# concatenations, and axes that one name stands on twice.
CASES = ["mlp", "grouped"]
MORE = ["conv_flatten", "scanned", "depthwise", "residual", "normed_heads"]
MORE += ["dense_net", "rnn", "attention"]
ALL = CASES + [pytest.param(name, marks=pytest.mark.slow) for name in MORE]


@functools.cache
def traced(name):
  """Return the axes and parameters of an architecture of the tests."""
  if name == "attention":
    model = models.build("lm", width=8, heads=4, kv_heads=2, layers=1, vocab=5)
    x = jnp.ones((1, 4), int)
    params = model.init(jax.random.key(0), x)
    return symmetry.trace_axes(model.apply, params, x), params
  apply, shapes, x, _ = architectures.CASES[name]
  params = problems.tree(0, shapes)
  with jax.numpy_rank_promotion("allow"):
    return symmetry.trace_axes(apply, params, x), params


def network(axes, params, wide=2):
  """Return a function of a model: another model, and numbers."""
  sizes = channels(axes, params)
  inner = dict.fromkeys(sizes, wide)
  layers = [
    equivariant(axes, sizes, wide),
    equivariant(axes, inner, sizes),
    invariant(axes, inner, 3),
  ]
  keys = jax.random.split(jax.random.key(1), 3)
  weights = [layer.init(key) for layer, key in zip(layers, keys)]

  @jax.jit
  def run(params):
    features = layers[0].apply(weights[0], read(axes, params))
    features = jax.tree.map(jnp.tanh, features)
    moved = layers[1].apply(weights[1], features)
    return write(axes, moved, params), layers[2].apply(weights[2], features)[""]

  return run


@pytest.mark.parametrize("name", ALL)
def test_units_may_be_reordered_before_or_after(name):
  axes, params = traced(name)
  run = network(axes, params)
  perm = symmetry.random(axes, params, jax.random.key(2))
  out, numbers = run(params)
  again, same = run(symmetry.permute(axes, perm, params))
  assert np.allclose(numbers, same, atol=1e-5)
  moved = symmetry.permute(axes, perm, out)
  for path, x, y in zip(
    problems.ws.trees.names(moved),
    jax.tree.leaves(moved),
    jax.tree.leaves(again),
  ):
    assert np.allclose(x, y, atol=1e-5), path
  # What comes out is not what any order would give.
  assert any(
    not np.allclose(x, y, atol=1e-3)
    for x, y in zip(jax.tree.leaves(out), jax.tree.leaves(again))
  )


def orbits(axes, params):
  """Count the orbits of pairs of entries, by moving numbered entries."""
  sizes = [x.size for x in jax.tree.leaves(params)]
  total = sum(sizes)
  structure = jax.tree.structure(params)
  shapes = [x.shape for x in jax.tree.leaves(params)]
  cuts = np.cumsum(sizes)[:-1]

  def moved(perm):
    parts = np.split(np.arange(total), cuts)
    tree = jax.tree.unflatten(
      structure, [p.reshape(s) for p, s in zip(parts, shapes)]
    )
    out = symmetry.permute(axes, perm, tree)
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(out)])

  draws = [
    moved(symmetry.random(axes, params, jax.random.key(seed)))
    for seed in range(30)
  ]

  def count(maps, size):
    label = np.arange(size)
    while True:
      before = label.copy()
      for m in maps:
        smaller = np.minimum(label, label[m])
        label = smaller.copy()
        np.minimum.at(label, m, smaller)
      if (label == before).all():
        return len(np.unique(label))

  pairs = [(m[:, None] * total + m[None, :]).ravel() for m in draws]
  return count(pairs, total**2), count(draws, total)


@pytest.mark.parametrize("name", ["mlp", "residual", "scanned", "grouped"])
def test_there_is_one_number_for_each_orbit(name):
  """As many as linear maps that commute, and as many biases."""
  axes, params = traced(name)
  if name == "grouped":
    assert any(">" in label for label in axes.sizes)
  sizes = channels(axes, params)
  layer = equivariant(axes, sizes, sizes)
  shapes = jax.eval_shape(layer.init, jax.random.key(0))
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))
  small = jax.tree.map(lambda x: np.asarray(x), params)
  assert count == sum(orbits(axes, small))


@pytest.mark.slow
def test_no_pattern_is_a_mix_of_others():
  """The map from weights to layers is injective: its Jacobian has full rank."""
  axes = symmetry.Axes({"b": "h", "w": "h h"}, {"h": 4}, {})
  sizes = {"b:0": 1, "w:0": 1}
  layer = equivariant(axes, sizes, 1)
  weights = layer.init(jax.random.key(0))
  flat, unravel = jax.flatten_util.ravel_pytree(weights)
  inputs = [
    {
      "b:0": jax.random.normal(jax.random.key(s), (4, 1)),
      "w:0": jax.random.normal(jax.random.key(s + 99), (4, 4, 1)),
    }
    for s in range(6)
  ]

  def outputs(flat):
    out = [layer.apply(unravel(flat), x) for x in inputs]
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(out)])

  jacobian = np.asarray(jax.jacobian(outputs)(flat))
  # Bell numbers: 2 + 5 + 5 + 15 patterns, and 1 + 2 biases.
  assert len(flat) == 30 and np.linalg.matrix_rank(jacobian, tol=1e-4) == 30


@pytest.mark.parametrize("name", CASES + MORE)
def test_reading_and_writing_undo_each_other(name):
  axes, params = traced(name)
  problems.close(write(axes, read(axes, params), params), params, 0, 0)


def test_a_layer_of_an_mlp_by_hand():
  axes = symmetry.Axes({"b": "h", "w": "2 h"}, {"h": 3}, {})
  random = np.random.default_rng(0)
  params = {"b": random.normal(size=3), "w": random.normal(size=(2, 3))}
  layer = equivariant(axes, channels(axes, params), 1)
  weights = layer.init(jax.random.key(0))
  found = layer.apply(weights, read(axes, params))["b:0"]
  joint = np.concatenate([params["b"][:, None], params["w"].T], 1)  # [h, 3]
  parts = {x.shape: np.asarray(x) for k, x in weights.items() if "b:0" in k}
  mean = np.append(joint.mean(0), 1.0)
  expected = joint @ parts[(3, 1)] + mean @ parts[(4, 1)]
  assert np.allclose(found, expected, atol=1e-5)


def test_it_runs_over_a_stack():
  axes, params = traced("mlp")
  sizes = channels(axes, params)
  layer = invariant(axes, sizes, 2)
  weights = layer.init(jax.random.key(0))

  def one(params):
    return layer.apply(weights, read(axes, params))[""]

  others = [params, jax.tree.map(lambda x: 2 * x, params)]
  together = jax.vmap(one)(problems.ws.stack(others))
  assert np.allclose(together, [one(p) for p in others], atol=1e-5)


def test_it_takes_models_of_other_widths():
  """The weights know the names of axes, not their sizes."""
  layers = []
  for width in (3, 7):
    axes = symmetry.Axes({"w": "2 h", "v": "h 1"}, {"h": width}, {})
    params = {"w": jnp.ones((2, width)), "v": jnp.ones((width, 1))}
    layer = invariant(axes, channels(axes, params), 4)
    weights = layer.init(jax.random.key(0))
    layers.append(layer.apply(weights, read(axes, params))[""])
  assert np.allclose(*layers, atol=1e-5)


def test_bad_channels_are_refused():
  axes = symmetry.Axes({"w": "h"}, {"h": 3}, {})
  with pytest.raises(ValueError, match="given 'w:0' has None channels"):
    equivariant(axes, {}, 2)
  with pytest.raises(ValueError, match="given 'v:0' has 1 channels"):
    equivariant(axes, {"w:0": 1, "v:0": 1}, 2)
  with pytest.raises(ValueError, match="wanted 'w:0' has 0 channels"):
    equivariant(axes, {"w:0": 1}, 0)
  with pytest.raises(ValueError, match="invariant: wanted '' has 0"):
    invariant(axes, {"w:0": 1}, 0)
  with pytest.raises(ValueError, match="write: 'w:0' is None, expected"):
    write(axes, {}, {"w": jnp.ones(3)})
  with pytest.raises(ValueError, match=r"'w:0' is \(3, 2\), expected"):
    write(axes, {"w:0": jnp.ones((3, 2))}, {"w": jnp.ones(3)})


def test_products_and_sums_are_taken_apart():
  axes = symmetry.Axes({"w": "(2 a) (a+b)"}, {"a": 2, "b": 3}, {})
  params = {"w": np.arange(20.0, dtype=np.float32).reshape(4, 5)}
  features = read(axes, params)
  shapes = {k: v.shape for k, v in features.items()}
  assert shapes == {"w:0": (2, 2, 2), "w:1": (2, 3, 2)}
  for i, j, k in itertools.product(range(2), range(2), range(3)):
    assert features["w:1"][j, k, i] == params["w"][2 * i + j, 2 + k]


def test_units_follow_the_block_that_is_theirs():
  """Of two axes of blocks one holds the units: they go with no other."""
  axes = symmetry.Axes({"v": "h h>d", "w": "h h h>d"}, {"h": 4, "h>d": 2}, {})
  shapes = {"v": (4, 2), "w": (4, 4, 2)}
  params = problems.tree(0, shapes)
  sizes = channels(axes, params)
  layer = equivariant(axes, sizes, sizes)
  weights = layer.init(jax.random.key(0))

  def run(params):
    return write(axes, layer.apply(weights, read(axes, params)), params)

  perm = symmetry.random(axes, params, jax.random.key(4))
  moved = symmetry.permute(axes, perm, run(params))
  problems.close(run(symmetry.permute(axes, perm, params)), moved, 1e-4, 1e-5)
  count = sum(x.size for x in jax.tree.leaves(weights))
  assert count == sum(orbits(axes, params))
