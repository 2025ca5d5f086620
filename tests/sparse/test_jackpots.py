"""Mask search on frozen weights: swaps by sorting, what stays, what wins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import problems
from weightspace import sparse

KEY = jax.random.key(0)


def swapped(scores, mask, rate):
  """Return the mask after a swap of one flat leaf, by sorting."""
  kept = int(mask.sum())
  # Of equal scores the kept ones come first, then those before in the leaf.
  order = sorted(range(len(scores)), key=lambda i: (-scores[i], ~mask[i], i))
  best = np.zeros_like(mask)
  best[order[:kept]] = True
  enter, leave = np.flatnonzero(best & ~mask), np.flatnonzero(mask & ~best)
  count = min(int(np.ceil(rate * kept - 1e-6)), len(enter))
  enter = sorted(enter, key=lambda i: (-scores[i], i))[:count]
  leave = sorted(leave, key=lambda i: (scores[i], i))[:count]
  result = mask.copy()
  result[enter], result[leave] = True, False
  return result


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.34, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_swaps_are_the_reference(seed, rate):
  random = np.random.default_rng(seed)
  scores = random.integers(-3, 4, size=23).astype(np.float32)
  mask = random.random(23) < 0.5
  np.testing.assert_array_equal(
    sparse.swap(scores, mask, rate), swapped(scores, mask, rate)
  )


def test_laws_of_a_swap():
  scores = problems.tree(0)
  mask = sparse.random(KEY, scores, 0.3)
  for rate in (0.0, 0.2, 1.0):
    found = sparse.swap(scores, mask, rate)
    assert sparse.counts(found) == sparse.counts(mask)
    inside = jax.jit(sparse.swap)(scores, mask, rate)
    problems.close(inside, found, 0, 0)
  problems.close(sparse.swap(scores, mask, 0.0), mask, 0, 0)
  full = sparse.swap(scores, mask, 1.0)
  wanted = sparse.top({"w": scores["dense"]["kernel"]}, 3.6 / 12)["w"]
  np.testing.assert_array_equal(full["dense"]["kernel"], wanted)
  problems.close(sparse.swap(scores, full, 1.0), full, 0, 0)
  every = jax.vmap(lambda r: sparse.swap(scores, mask, r))(jnp.array([0, 1.0]))
  problems.close(jax.tree.map(lambda x: x[0], every), mask, 0, 0)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda s, m: sparse.swap(s, m, 1.5), "rate is 1.5"),
    (lambda s, m: sparse.swap(s, m, -0.1), "rate is -0.1"),
    (lambda s, m: sparse.swap(s, {"w": m["w"][:2]}, 0.5), r"'w' is \(2,\)"),
    (lambda s, m: sparse.swap(s, s, 0.5), "'w' is"),
    (lambda s, m: sparse.swap({"w": s["w"] * jnp.nan}, m, 0.5), "NaN in 'w'"),
  ],
)
def test_bad_swaps_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": jnp.ones(3)}, {"w": jnp.array([True, False, True])})
