"""Order statistics of values that can be looked at: sample, bracket, count.

The k-th largest of a tree is bracketed by order statistics of a sample; one
pass counts what is above the bracket and collects what is inside, which is
little, and only that is sorted.  The result is exact, and a sample that misled
is found out by the count.

>>> x = np.array([[5.0, 1.0, -4.0, 3.0]])
>>> ends = bracket([(sample(x, False), 4)], lambda n: counts.kept(0.5, n))
>>> choose(ends, [[find(x[0], ends.low[0], ends.high[0], False)]]).tolist()
[4.0]
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace import trees
from weightspace.merge import counts

SAMPLED = 256  # one in so many entries is looked at before the counting
WHOLE = 2**15  # entries of a leaf that is not sampled

Rank = Callable[[int], counts.Count]  # of n entries in all, the one wanted


class Bracket(NamedTuple):
  """Where the k-th largest of M models lies: low <= t <= high."""

  low: np.ndarray
  high: np.ndarray
  k: int


class Found(NamedTuple):
  """What one leaf of one model has above, inside and from a bracket on."""

  above: int  # > high
  to_high: int  # >= high
  to_low: int  # >= low
  inside: np.ndarray  # low < . < high


def seen(x: jax.Array) -> bool:
  return trees.concrete(x) and getattr(x, "is_fully_addressable", True)


def on_host(x: Any) -> bool:
  devices = x.devices() if isinstance(x, jax.Array) else set()
  return len(devices) < 2 and all(d.platform == "cpu" for d in devices)


def _parts(x: Any, signed: bool) -> Iterator[Any]:
  """Yield what is ranked in pieces: for NumPy, chunks that stay in cache."""
  size = (lambda part: part) if signed else abs
  if not on_host(x):
    yield size(x.reshape(-1))
    return
  flat, chunk = np.asarray(x).reshape(-1), 8 * counts.CHUNK
  for start in range(0, len(flat), chunk):
    yield size(flat[start : start + chunk])


def sample(x: jax.Array, signed: bool) -> np.ndarray:
  """Return x at one random place of every block of SAMPLED, [M, s]."""
  flat = x.reshape(len(x), -1)
  size = flat.shape[1]
  if size > WHOLE:
    blocks = np.arange(size // SAMPLED) * SAMPLED
    places = np.random.default_rng(0).integers(SAMPLED, size=len(blocks))
    flat = flat[:, blocks + places]
  return np.asarray(flat) if signed else np.abs(np.asarray(flat))


def bracket(sampled: list[Any], rank: Rank) -> Bracket | None:
  """Return the order statistics six standard errors round the k-th."""
  blind = any(values is None for values, _ in sampled)
  wanted = rank(sum(size for _, size in sampled))
  if blind or not sampled or not trees.concrete(wanted):
    return None
  k = int(wanted.high) * counts.BASE + int(wanted.low)
  values = np.concatenate([v for v, _ in sampled], 1)
  each = [np.full(v.shape[1], n / max(v.shape[1], 1)) for v, n in sampled]
  parts = [n * n / v.shape[1] for v, n in sampled if v.shape[1] < n]
  margin = 3 * math.sqrt(sum(parts))
  order = np.argsort(-values, axis=1)
  ranks = np.cumsum(np.concatenate(each)[order], axis=1)
  ranked = np.take_along_axis(values, order, 1)
  low, high = [], []
  for position, value in zip(ranks, ranked):
    first = np.searchsorted(position, k - margin - 0.5)
    last = np.searchsorted(position, k + margin - 0.5)
    high.append(value[first] if k > margin else np.inf)
    low.append(value[last] if last < len(value) else -np.inf)
  dtype = values.dtype
  return Bracket(np.array(low, dtype), np.array(high, dtype), k)


def find(x: Any, low: Any, high: Any, signed: bool) -> Found:
  above = to_high = to_low = 0
  inside = [np.zeros(0, np.asarray(low).dtype)]
  for part in _parts(x, signed):
    above += int((part > high).sum())
    to_high += int((part >= high).sum())
    to_low += int((part >= low).sum())
    inside.append(np.asarray(part[(part > low) & (part < high)]))
  return Found(above, to_high, to_low, np.concatenate(inside))


def choose(bracket: Bracket, leaves: Iterable[list[Found]]) -> Any:
  """Return the thresholds [M], or a wider bracket where one was missed."""
  low, high, k = bracket.low.copy(), bracket.high.copy(), bracket.k
  missed, chosen = False, []
  for m, found in enumerate(zip(*leaves)):
    above, to_high, to_low = np.array([f[:3] for f in found]).sum(0).tolist()
    inside = np.concatenate([f.inside for f in found])
    if not above < k <= to_low:
      missed = True
      ends = (high[m], np.inf) if k <= above else (-np.inf, low[m])
      low[m], high[m] = ends
    elif k <= to_high:
      chosen.append(high[m])
    elif k <= to_high + len(inside):
      place = len(inside) - (k - to_high)
      chosen.append(np.partition(inside, place)[place])
    else:
      chosen.append(low[m])
  return Bracket(low, high, k) if missed else np.array(chosen)
