"""The k largest of many numbers, exactly k of them, by counting: no sort.

Numbers are ordered as the bits that they are made of, so the k-th largest is
the largest word of which at least k are as large, and a few passes of counting
find it.  All has static shapes: it jits, and k may be traced.

>>> first([words(jnp.array([[3.0, -1.0, 3.0, 5.0]]))], 2)[0].tolist()
[[True, False, False, True]]
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.numerics import counts

WAYS = 8  # what one pass over the numbers divides the search by


def words(x: jax.Array) -> jax.Array:
  """Map numbers to unsigned integers of the same order, -0.0 as 0.0.

  >>> words(jnp.float32([-1.0, -0.0, 0.0])).tolist()
  [1082130431, 2147483648, 2147483648]
  """
  if x.dtype == bool or jnp.issubdtype(x.dtype, jnp.unsignedinteger):
    return x.astype(jnp.uint8 if x.dtype == bool else x.dtype)
  word = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
  top = word.type(1 << (8 * x.dtype.itemsize - 1))
  bits = jax.lax.bitcast_convert_type(x, word)
  if jnp.issubdtype(x.dtype, jnp.integer):
    return bits ^ top
  bits = jnp.where(bits == top, word.type(0), bits)
  return jnp.where(bits >= top, ~bits, bits | top)


def search(
  enough: Callable[[list[jax.Array]], list[jax.Array]],
  low: jax.Array,
  high: jax.Array,
) -> jax.Array:
  """Return the largest word w with enough([w]); each look splits by WAYS.

  The ends are guesses: where they turn out wrong the search goes beyond them.

  >>> low, high = jnp.uint32(0), jnp.uint32(2**32 - 1)
  >>> search(lambda trials: [w <= 77 for w in trials], low, high).item()
  77
  """
  least, most = jnp.zeros_like(low), jnp.full_like(high, ~low.dtype.type(0))
  above, reached = enough([low, high])
  low, high = (
    jnp.where(reached, high, jnp.where(above, low, least)),
    jnp.where(reached, most, jnp.where(above, high, low)),
  )

  def body(ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    low, high = ends
    step = jnp.maximum((high - low) // WAYS, 1)
    trials = [low + jnp.minimum(step * i, high - low) for i in range(1, WAYS)]
    for trial, more in zip(trials, enough(trials)):
      low = jnp.where(more, trial, low)
      high = jnp.where(more, high, jnp.minimum(high, trial))
    return low, high

  return jax.lax.while_loop(
    lambda ends: (ends[1] - ends[0] > 1).any(), body, (low, high)
  )[0]


@jax.jit
def kth(
  parts: Sequence[jax.Array],
  k: counts.Count,
  among: Sequence[jax.Array] | None = None,
) -> jax.Array:
  """Return the k-th largest word of each row.

  Args:
    parts: words [R, n_i] of one dtype; a row goes on from part to part.
    k: at least 1 and at most the length of a row, one for all or [R, 1].
    among: booleans [R, n_i], of the words that take part; None for all.

  Returns:
    [R, 1].

  >>> kth([jnp.array([[3, 9], [4, 4]], jnp.uint8)], counts.Count(0, 2)).tolist()
  [[3], [4]]
  """

  def enough(trials: list[jax.Array]) -> list[jax.Array]:
    tests = [lambda x, trial=trial: x >= trial for trial in trials]
    found = _numbers(parts, tests, among)
    return [counts.at_least(number, k) for number in found]

  low = jnp.zeros((len(parts[0]), 1), parts[0].dtype)
  return search(enough, low, ~low)


@jax.jit
def first(
  parts: Sequence[jax.Array],
  k: Any,
  among: Sequence[jax.Array] | None = None,
) -> list[jax.Array]:
  """Tell which words are the k largest of their row; exactly k are.

  Of words that are equal to the k-th those that come first are taken: by part,
  then by place.

  Args:
    parts: words [R, n_i] of one dtype; a row goes on from part to part.
    k: an integer or a Count from 0 to the length of a row; one for all or
      [R, 1].
    among: booleans [R, n_i], of the words that take part; None for all.

  Returns:
    Booleans [R, n_i].

  >>> first([jnp.array([[7, 7, 7]], jnp.uint8)], 2)[0].tolist()
  [[True, True, False]]
  """
  k = k if isinstance(k, counts.Count) else _count(k)
  k = jax.tree.map(lambda part: jnp.asarray(part, jnp.uint32), k)
  some = (k.high > 0) | (k.low > 0)
  limit = kth(parts, counts.Count(k.high, jnp.where(some, k.low, 1)), among)
  above = [x > limit for x in parts]
  equal = [x == limit for x in parts]
  if among is not None:
    above, equal = (
      [x & one for x, one in zip(tests, among)] for tests in (above, equal)
    )
  taken, chosen = _total(above), []
  for larger, tie in zip(above, equal):
    order = jnp.cumsum(tie, axis=-1, dtype=jnp.int32)
    chosen.append((larger | (tie & (order <= counts.excess(k, taken)))) & some)
    taken = counts.add(taken, _total([tie]))
  return chosen


def _count(number: Any) -> counts.Count:
  return counts.Count(*jnp.divmod(jnp.asarray(number, jnp.uint32), counts.BASE))


def _total(parts: Sequence[jax.Array]) -> counts.Count:
  """Count what is true in each row: [R, 1]."""
  return _numbers(parts, [lambda x: x])[0]


def _numbers(
  parts: Sequence[jax.Array],
  tests: Sequence[Callable[..., jax.Array]],
  among: Sequence[jax.Array] | None = None,
) -> list[counts.Count]:
  """Count, along each row, what passes each test: [R, 1] each."""
  totals: list[counts.Count] = []
  for index, x in enumerate(parts):
    passed = [test(x) for test in tests]
    if among is not None:
      passed = [one & among[index] for one in passed]
    sums = counts.sums(passed, axis=-1)
    numbers = [_count(total[..., None]) for total in sums]
    totals = [counts.add(*pair) for pair in zip(totals, numbers)] or numbers
  return totals
