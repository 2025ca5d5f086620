"""Counts of entries, exact beyond 2^31: what a share keeps, what passes a test.

>>> kept(0.2, 1001)
Count(high=0, low=200)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees

BASE = 10**6  # of counts, and the resolution of a share that is traced
LIMIT = 2**31  # entries that are counted in one int32


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


def count(
  tests: Sequence[Callable[[jax.Array], jax.Array]], x: jax.Array
) -> list[Count]:
  """Return how many entries of an array pass each elementwise test.

  >>> above = [lambda v, t=t: v > t for t in (0.0, 2.0)]
  >>> [int(whole(c)) for c in count(above, jnp.array([1.0, 3.0, -1.0]))]
  [2, 1]
  """
  if x.size >= LIMIT:
    axis = int(np.argmax(x.shape))
    halves = jnp.split(x, [x.shape[axis] // 2], axis)
    return [
      add(*pair) for pair in zip(*(count(tests, half) for half in halves))
    ]
  totals = [t.astype(jnp.uint32) for t in sums([test(x) for test in tests])]
  return [_carry(jnp.zeros_like(total), total) for total in totals]


def sums(
  passed: Sequence[jax.Array], axis: int | None = None
) -> list[jax.Array]:
  """Return the number of True in each array, or along an axis of it.

  XLA on the CPU writes what it sums alone out first; sums of two things and
  more it takes in one pass over their inputs, 14 times faster.

  >>> x = jnp.array([1.0, 3.0])
  >>> [int(n) for n in sums([x > 0, x > 2])]
  [2, 1]
  """
  numbers = [x.astype(jnp.int32) for x in passed]
  numbers += [jnp.zeros_like(numbers[0])] * (len(numbers) == 1)
  rank = numbers[0].ndim
  totals = jax.lax.reduce(
    numbers,
    [jnp.zeros((), jnp.int32)] * len(numbers),
    lambda a, b: [p + q for p, q in zip(a, b)],
    range(rank) if axis is None else (axis % rank,),
  )
  return list(totals[: len(passed)])
