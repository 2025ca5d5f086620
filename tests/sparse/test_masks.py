"""Masks as sets: laws of sets, NumPy, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightspace import sparse

SHAPES = {"a": {"kernel": (5, 7), "bias": (7,)}, "gain": ()}


def mask(seed, density=0.4):
  random = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(random.random(shape) < density),
    SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def flat(tree):
  return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree)])


@given(st.integers(0, 50), st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_sets_are_numpys(seed, count):
  first, *rest = [mask(seed + index) for index in range(count + 1)]
  flats = [flat(x) for x in rest]
  before = np.any(flats, axis=0) if rest else np.zeros_like(flat(first))
  np.testing.assert_array_equal(
    flat(sparse.exclusive(first, rest)), flat(first) & ~before
  )
  np.testing.assert_array_equal(
    flat(sparse.union(first, *rest)), flat(first) | before
  )
  every = np.all([flat(first), *flats], axis=0)
  np.testing.assert_array_equal(flat(sparse.intersect(first, *rest)), every)


def test_exclusive_parts_of_tasks_are_disjoint_and_fill_the_union():
  tasks = [mask(seed) for seed in range(5)]
  parts = [
    sparse.exclusive(one, tasks[:index]) for index, one in enumerate(tasks)
  ]
  assert (sum(flat(x).astype(int) for x in parts) <= 1).all()
  np.testing.assert_array_equal(
    flat(sparse.union(*parts)), flat(sparse.union(*tasks))
  )


def test_overlap_is_intersection_over_union():
  a, b = mask(0), mask(1)
  x, y = flat(a), flat(b)
  found = [f(a, b) for f in (sparse.overlap, jax.jit(sparse.overlap))]
  np.testing.assert_allclose(found, (x & y).sum() / (x | y).sum(), rtol=1e-6)
  assert float(sparse.overlap(a, a)) == 1.0
  assert float(sparse.overlap(a, jax.tree.map(jnp.logical_not, a))) == 0.0
  assert float(sparse.overlap(*[jnp.zeros(3, bool)] * 2)) == 1.0


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_independent_masks_overlap_by_chance(density):
  params = {"w": np.zeros((200, 200), np.float32)}
  a, b = (
    sparse.random(jax.random.key(seed), params, density) for seed in (0, 1)
  )
  chance = density / (2 - density)
  # 40,000 entries: the deviation of the share of both is below 0.003.
  np.testing.assert_allclose(float(sparse.overlap(a, b)), chance, atol=0.01)


def test_counts_and_apply():
  keep = mask(3)
  params = jax.tree.map(lambda x: jnp.full(x.shape, 2.0), keep)
  kernel = np.asarray(keep["a"]["kernel"])
  assert sparse.counts(keep)["a/kernel"] == kernel.sum()
  assert int(jax.jit(sparse.counts)(keep)["a/kernel"]) == kernel.sum()
  pruned = sparse.apply(params, keep)
  np.testing.assert_array_equal(pruned["a"]["kernel"], 2.0 * kernel)
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  assert sparse.apply(low, keep)["gain"].dtype == jnp.bfloat16
  nan = {"w": jnp.array([jnp.nan, 1.0])}
  cut = sparse.apply(nan, {"w": jnp.array([False, True])})
  assert cut["w"].tolist() == [0.0, 1.0]


def test_the_callers_lists_are_not_changed():
  earlier = [mask(1)]
  sparse.exclusive(mask(0), earlier)
  assert len(earlier) == 1


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sparse.union(), "no masks"),
    (
      lambda: sparse.union({"w": np.ones(2, bool)}, {"w": np.ones(3, bool)}),
      r"'w' is \(3,\)",
    ),
    (
      lambda: sparse.exclusive(
        {"w": np.ones(2, bool)}, {"w": np.ones(2, bool)}
      ),
      "earlier is a dict, expected a list",
    ),
    (
      lambda: sparse.exclusive(jnp.ones(2, bool), jnp.ones(2, bool)),
      "expected a list",
    ),
    (lambda: sparse.overlap({"w": np.ones(2)}, {"w": np.ones(2)}), "'w' is"),
    (
      lambda: sparse.apply({"w": np.ones(2)}, {"v": np.ones(2, bool)}),
      "'w' is missing",
    ),
    (
      lambda: sparse.apply({"w": np.ones(2)}, {"w": np.ones(2)}),
      r"mask: 'w' is \(2,\) float",
    ),
  ],
)
def test_bad_masks_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
