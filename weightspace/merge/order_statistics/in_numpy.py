"""Order statistics of values that can be looked at: sample, bracket, count.

The k-th largest of a tree is bracketed by order statistics of a sample; one
pass counts what is above the bracket and collects what is inside, which is
little, and only that is sorted.  The result is exact, and a sample that misled
is found out by the count.

>>> x = np.array([[5.0, 1.0, -4.0, 3.0]])
>>> bracket([(x, 4)], lambda n: counts.kept(0.5, n), signed=False).tolist()
[4.0]
>>> low, high = words(np.array([[3.5], [4.5]]), signed=False)
>>> ends = Bracket(low, high, 2)
>>> found = find(x[0], ends.low[0], ends.high[0], signed=False)
>>> choose(ends, [[found]], signed=False).tolist()
[4.0]
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.hosts import concrete
from weightspace.numerics import counts

STRIDE = 127  # one in so many is looked at first; prime, so no column repeats
WHOLE = 2**15  # entries of a leaf that is not sampled
CHUNK = 2**16  # entries that NumPy takes at a time, so that they stay in cache

Rank = Callable[[int], counts.Count]  # of n entries in all, the one wanted


class Bracket(NamedTuple):
  """Where the k-th largest word of M models lies: low <= w <= high."""

  low: np.ndarray
  high: np.ndarray
  k: int


class Found(NamedTuple):
  """What one leaf of one model has above a bracket, and in it."""

  above: int
  inside: np.ndarray


def words(x: Any, signed: bool) -> Any:
  """Map floats to unsigned integers that are ordered as they, or as |x|.

  >>> words(np.float32([-1.0, 0.0]), signed=False).tolist()
  [1065353216, 0]
  """
  array = jnp if isinstance(x, jax.Array) else np
  bits = x.view(f"uint{8 * x.dtype.itemsize}")
  top = bits.dtype.type(1 << (8 * x.dtype.itemsize - 1))
  if not signed:
    return bits & ~top
  return array.where(bits >= top, ~bits, bits | top)


def floats(word: np.ndarray, signed: bool) -> np.ndarray:
  """Return the floats of `words`."""
  top = word.dtype.type(1 << (8 * word.dtype.itemsize - 1))
  bits = np.where(word >= top, word ^ top, ~word) if signed else word
  return bits.view(f"float{8 * word.dtype.itemsize}")


def seen(x: Any) -> bool:
  """Tell whether the values of an array can be looked at from here."""
  return trees.concrete(x) and getattr(x, "is_fully_addressable", True)


def thin(x: jax.Array) -> tuple[jax.Array, np.ndarray]:
  """Return one in STRIDE entries [M, s] of a leaf, and the leaf's shape."""
  flat = x.reshape(len(x), -1)
  flat = flat[:, ::STRIDE] if flat.shape[1] > WHOLE else flat
  return flat, np.array(x.shape[1:], np.int32)


def bracket(
  sampled: list[tuple[np.ndarray, int]], rank: Rank, signed: bool
) -> Bracket | np.ndarray | None:
  """Return the order statistics four standard errors round the k-th.

  The k-th itself, [M] floats, comes back where the sample has all there is.

  Args:
    sampled: of each leaf, some values [M, s] and the number of all.
    rank: the one that is wanted; None comes back where it is traced.
    signed: rank values instead of magnitudes.
  """
  total = sum(size for _, size in sampled)
  wanted = rank(total)
  if not total or not trees.concrete(wanted):
    return None
  k = int(wanted.high) * counts.BASE + int(wanted.low)
  values = words(np.concatenate([v for v, _ in sampled], 1), signed)
  each = [np.full(v.shape[1], n / max(v.shape[1], 1)) for v, n in sampled]
  weights = np.concatenate(each)
  # At most the variance of one share k / n in all leaves.
  share = weights.max(initial=1) if weights.max(initial=1) > 1 else 0
  margin = 4 * math.sqrt(share * k * (total - k) / max(total, 1)) + share
  low, high = [], []
  for row in values:
    row, ranks = _ranked(row, weights)
    first, last = np.searchsorted(ranks, [k - margin - 0.5, k + margin - 0.5])
    high.append(row[first] if k > margin else np.iinfo(row.dtype).max)
    low.append(row[last] if last < len(row) else 0)
  if not share:
    return floats(np.array(high, row.dtype), signed)
  return Bracket(np.array(low, row.dtype), np.array(high, row.dtype), k)


def _ranked(
  row: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Return words from the largest on, and the sums of their weights."""
  if weights.min() == weights.max():
    return np.sort(row)[::-1], np.cumsum(weights)
  if row.dtype.itemsize > 4:
    order = np.argsort(row)[::-1]
    return row[order], np.cumsum(weights[order])
  # NumPy sorts integers ten times faster than it finds their order.
  place = np.arange(len(row), dtype=np.uint64)
  both = np.sort(row.astype(np.uint64) << np.uint64(32) | place)[::-1]
  row = (both >> np.uint64(32)).astype(row.dtype)
  return row, np.cumsum(weights[both & np.uint64(2**32 - 1)])


def find(x: Any, low: Any, high: Any, signed: bool) -> Found:
  """Count the words above a bracket and collect those in it, zeros apart."""
  above, first = 0, max(low, type(low)(1))
  inside = [np.zeros(0, first.dtype)]
  for part in _parts(x):
    word = words(part, signed)
    # NumPy counts faster than it sums a mask, and finds and takes places faster
    # than it applies one.
    in_memory = isinstance(part, np.ndarray)
    above += int((np.count_nonzero if in_memory else jnp.sum)(word > high))
    if first <= high:
      mask = word - first <= high - first
      inside.append(
        word.take(np.flatnonzero(mask)) if in_memory else np.asarray(word[mask])
      )
  return Found(above, np.concatenate(inside))


def _parts(x: Any) -> Iterator[Any]:
  """Yield a leaf in pieces: for NumPy, chunks that stay in cache."""
  if not concrete.on_host(x):
    yield x.reshape(-1)
    return
  flat = np.asarray(x).reshape(-1)
  for start in range(0, len(flat), CHUNK):
    yield flat[start : start + CHUNK]


def choose(
  ends: Bracket, leaves: Iterable[list[Found]], signed: bool
) -> np.ndarray | Bracket:
  """Return the thresholds [M], or a wider bracket where one was missed."""
  low, high, k = ends.low.copy(), ends.high.copy(), ends.k
  missed, chosen = False, np.zeros_like(ends.low)
  for m, found in enumerate(zip(*leaves)):
    above = sum(part.above for part in found)
    inside = np.concatenate([part.inside for part in found])
    place = len(inside) - (k - above)
    if k <= above:
      missed, low[m], high[m] = True, high[m], np.iinfo(high.dtype).max
    elif place >= 0:
      chosen[m] = np.sort(inside)[place]
    elif low[m] > 0:
      missed, low[m], high[m] = True, 0, low[m]
  return Bracket(low, high, k) if missed else floats(chosen, signed)
