"""Random masks: exact counts, independence of all but key, path and place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import sparse

KEY = jax.random.key(0)
SHAPES = {"conv": (3, 3, 4, 8), "dense": {"kernel": (32, 10), "bias": (10,)}}


def sizes(params):
  return {path: x.size for path, x in ws.trees.named(params).items()}


@pytest.mark.parametrize("density", [0.01, 0.35, 1.0])
def test_uniform_counts_are_exact_and_vectors_are_whole(density):
  params = problems.tree(0, SHAPES)
  found = sparse.counts(sparse.random(KEY, params, density))
  size = sizes(params)
  assert found["dense/bias"] == 10
  for path in ("conv", "dense/kernel"):
    assert found[path] == max(1, int(density * size[path] + 1e-6))


def erk(shapes, density):
  """Return Erdos-Renyi-kernel densities by trying every set of dense leaves."""
  raw = np.array([sum(s) / np.prod(s) for s in shapes])
  size = np.array([np.prod(s) for s in shapes])
  order = np.argsort(-raw)
  for number in range(len(shapes) + 1):
    dense, rest = order[:number], order[number:]
    left = density * size.sum() - size[dense].sum()
    scale = left / (raw * size)[rest].sum() if len(rest) else 0
    if (scale * raw[rest] <= 1).all():
      result = np.ones(len(shapes))
      result[rest] = scale * raw[rest]
      return result


@pytest.mark.parametrize("density", [0.05, 0.2, 0.6, 0.95])
def test_erk_is_the_reference(density):
  shapes = {"a": (3, 3, 4, 8), "b": (32, 10), "c": (4, 3), "d": (64, 64)}
  found = sparse.erk(shapes, density)
  np.testing.assert_allclose(
    list(found.values()), erk(list(shapes.values()), density), rtol=1e-9
  )
  size = {path: np.prod(shape) for path, shape in shapes.items()}
  total = sum(found[path] * size[path] for path in shapes)
  np.testing.assert_allclose(total, density * sum(size.values()), rtol=1e-9)
  params = {path: np.ones(shape, np.float32) for path, shape in shapes.items()}
  mask = sparse.random(KEY, params, density, "erk")
  assert sparse.counts(mask) == {
    path: max(1, int(found[path] * size[path] + 1e-6)) for path in shapes
  }


def test_bits_depend_on_key_model_path_and_place_alone():
  params = problems.tree(0, SHAPES)
  mask = sparse.random(KEY, params, 0.3)
  alone = sparse.random(KEY, {"conv": params["conv"]}, 0.3)
  np.testing.assert_array_equal(mask["conv"], alone["conv"])
  shapes = jax.eval_shape(lambda: params)
  problems.close(sparse.random(KEY, shapes, 0.3), mask, 0, 0)
  inside = jax.jit(lambda key, p: sparse.random(key, p, 0.3))(KEY, params)
  problems.close(inside, mask, 0, 0)
  for other in (
    sparse.random(jax.random.key(1), params, 0.3),
    sparse.random(KEY, params, 0.3, model=1),
  ):
    assert float(sparse.overlap(other, mask)) < 0.4
  members = jax.vmap(lambda m: sparse.random(KEY, params, 0.3, model=m))
  problems.close(
    ws.unstack(members(jnp.arange(2)))[1],
    sparse.random(KEY, params, 0.3, model=1),
    0,
    0,
  )


def test_a_golden_mask():
  """The bits are part of what is saved: a change breaks resumed runs."""
  mask = sparse.random(KEY, {"w": np.ones((2, 8))}, 0.5)["w"]
  assert np.packbits(np.asarray(mask)).tolist() == [44, 109]


def test_each_entry_is_kept_as_often():
  params = {"w": np.ones((6, 5), np.float32)}
  draws = jax.jit(
    jax.vmap(lambda m: sparse.random(KEY, params, 0.3, model=m)["w"])
  )(jnp.arange(2000))
  share = np.asarray(draws).mean(0)
  # 2,000 draws of chance 0.3: a standard deviation of 0.010.
  assert np.abs(share - 0.3).max() < 0.045


def test_only_the_named_leaves_are_pruned():
  params = problems.tree(0, SHAPES)
  mask = sparse.random(KEY, params, 0.3, only="dense/*")
  assert sparse.counts(mask) == {
    "conv": 288,
    "dense/bias": 3,
    "dense/kernel": 96,
  }


def test_shuffled_keeps_counts():
  mask = sparse.random(KEY, problems.tree(0, SHAPES), 0.3)
  other = sparse.shuffled(KEY, mask)
  assert sparse.counts(other) == sparse.counts(mask)
  problems.close(jax.jit(sparse.shuffled)(KEY, mask), other, 0, 0)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda p: sparse.random(KEY, p, 0.0), "density is 0.0"),
    (
      lambda p: sparse.random(KEY, p, 0.5, "normal"),
      "distribution is 'normal'",
    ),
    (
      lambda p: sparse.random(KEY, {"b": p["conv"][0, 0, 0]}, 0.5),
      "no leaf has",
    ),
    (lambda p: sparse.random(KEY, p, 0.5, only="head/*"), "'head/\\*' matches"),
    (lambda p: sparse.shuffled(KEY, p), "mask: 'conv' is"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(problems.tree(0, SHAPES))
