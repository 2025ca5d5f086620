"""Counts of entries, exact beyond 2^31: what a share keeps, what passes a test.

>>> kept(0.2, 1001)
Count(high=0, low=200)
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees

BASE = 10**6  # of counts, and the resolution of a share that is traced
LIMIT = 2**31  # entries that are counted in one int32
CHUNK = 2**14  # entries per step of a count, so that it stays in cache


class Count(NamedTuple):
  """A count of entries, high * 10^6 + low, exact far beyond 2^31."""

  high: Any
  low: Any


def kept(density: Any, entries: Any) -> Count:
  """Return k = floor(density n + 1e-6), at least 1 and at most n.

  A density that is an array (traced, say) is read as the nearest decimal of
  six digits, so that 0.7 in float32 keeps 7 of 10 and 700000 of a million.

  >>> kept(0.3, 10)
  Count(high=0, low=3)
  """
  k = share_of(density, entries)
  if trees.concrete(k):
    none = k.high == 0 and k.low == 0
    return Count(k.high, 1) if none else k
  none = (k.high == 0) & (k.low == 0)
  return Count(k.high, jnp.where(none, jnp.uint32(1), k.low))


def share_of(share: Any, entries: Any) -> Count:
  """Return floor(share n + 1e-6), at most n; see `kept`.

  >>> share_of(0.01, 10)
  Count(high=0, low=0)
  """
  if trees.concrete(share, entries):
    is_array = isinstance(share, jax.Array | np.ndarray | np.floating)
    exact = round(float(share), 6) if is_array else float(share)
    k = math.floor(exact * int(entries) + 1e-6)
    return Count(*divmod(min(k, int(entries)), BASE))
  parts = jnp.round(jnp.asarray(share) * BASE).astype(jnp.uint32)
  millions, rest = divmod(entries, BASE)
  high = _per_million(parts, millions)
  low = parts * jnp.asarray(millions, jnp.uint32) - high * np.uint32(BASE)
  return _carry(high, low + _per_million(parts, rest))


def _per_million(parts: jax.Array, count: Any) -> jax.Array:
  """floor(parts count / 10^6) in 32 bits, for both at most 10^6."""
  thousands, rest = divmod(count, 1000)
  rest = parts * jnp.asarray(rest, jnp.uint32) // 1000
  return (parts * jnp.asarray(thousands, jnp.uint32) + rest) // 1000


def _carry(high: Any, low: Any) -> Count:
  return Count(high + low // BASE, low % BASE)


def whole(k: Count) -> Any:
  """Return a count below 2^31 as one integer."""
  return k.high * BASE + k.low


def add(a: Count, b: Count) -> Count:
  """Return the sum of two counts."""
  return _carry(a.high + b.high, a.low + b.low)


def at_least(a: Count, b: Count) -> jax.Array:
  """Tell whether a >= b."""
  return (a.high > b.high) | ((a.high == b.high) & (a.low >= b.low))


def excess(a: Count, b: Count) -> jax.Array:
  """Return a - b as an int32 within [0, 2^30]."""
  high = jnp.asarray(a.high).astype(jnp.int32) - b.high.astype(jnp.int32)
  low = jnp.asarray(a.low).astype(jnp.int32) - b.low.astype(jnp.int32)
  return jnp.clip(jnp.clip(high, -1073, 1073) * BASE + low, 0, 2**30)


def count(test: Callable[[jax.Array], jax.Array], x: jax.Array) -> Count:
  """Return how many entries of an array pass an elementwise test."""
  if x.size >= LIMIT:
    axis = int(np.argmax(x.shape))
    halves = jnp.split(x, [x.shape[axis] // 2], axis)
    return add(count(test, halves[0]), count(test, halves[1]))
  if jax.default_backend() != "cpu" or x.size < 2 * CHUNK:
    total = test(x).sum(dtype=jnp.int32).astype(jnp.uint32)
    return _carry(jnp.zeros_like(total), total)
  # XLA on the CPU writes the tests of a long array out before it sums them; a
  # loop over chunks keeps them in cache and is seven times faster.
  flat, chunks = x.reshape(-1), x.size // CHUNK

  def body(i: jax.Array, total: jax.Array) -> jax.Array:
    part = jax.lax.dynamic_slice(flat, (i * CHUNK,), (CHUNK,))
    return total + test(part).astype(jnp.int32)

  zeros = jnp.zeros(CHUNK, jnp.int32)
  total = jax.lax.fori_loop(0, chunks, body, zeros).sum(dtype=jnp.int32)
  total += test(flat[chunks * CHUNK :]).sum(dtype=jnp.int32)
  total = total.astype(jnp.uint32)
  return _carry(jnp.zeros_like(total), total)
