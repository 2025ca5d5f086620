"""The k-th largest magnitude of a model, exactly: what every trim wants.

One primitive, counting: the k-th largest is the largest t of which at least k
magnitudes are >= t, and the bits of a positive float are ordered as the float,
so 31 counts find it.  Counts have static shapes: they jit, vmap over the
density, and sum over devices.  Values that can be looked at are bracketed by
the order statistics of a sample instead; then one pass counts, and only what
lies inside the bracket is sorted.  Both are exact and give the same number.

>>> x = jnp.array([[3.0, -1.0, 2.0, 0.5]])
>>> of_leaf(x, 0.5).tolist()
[2.0]
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge.steps import At
from weightspace.types import Fold

BASE = 10**6  # of counts, and the resolution of a density that is traced
LIMIT = 2**31  # entries that are counted in one int32
CHUNK = 2**14  # entries per step of a count, so that it stays in cache
SAMPLED = 256  # one in so many entries is looked at before the counting
WHOLE = 2**15  # entries of a leaf that is not sampled

Magnitudes = Callable[..., jax.Array]  # (x, at, context) -> what is ranked


class Count(NamedTuple):
  """A count of entries, high * 10^6 + low, exact far beyond 2^31."""

  high: Any
  low: Any


def kept(density: Any, entries: int) -> Count:
  """Return k = floor(density n + 1e-6), at least 1 and at most n.

  A density that is an array (traced, say) is read as the nearest decimal of
  six digits, so that 0.7 in float32 keeps 7 of 10 and 700000 of a million.

  >>> kept(0.3, 10)
  Count(high=0, low=3)
  """
  if trees.concrete(density):
    is_array = isinstance(density, jax.Array | np.ndarray | np.floating)
    exact = round(float(density), 6) if is_array else float(density)
    k = math.floor(exact * entries + 1e-6)
    return Count(*divmod(min(max(k, 1), max(entries, 1)), BASE))
  share = jnp.round(density * BASE).astype(jnp.uint32)
  millions, rest = divmod(entries, BASE)
  high = _per_million(share, millions)
  low = share * np.uint32(millions) - high * np.uint32(BASE)
  result = _carry(high, low + _per_million(share, rest))
  none = (result.high == 0) & (result.low == 0)
  return Count(result.high, jnp.where(none, np.uint32(1), result.low))


def _per_million(share: jax.Array, count: int) -> jax.Array:
  """floor(share count / 10^6) in 32 bits, for both at most 10^6."""
  thousands, rest = divmod(count, 1000)
  whole = share * np.uint32(thousands) + share * np.uint32(rest) // 1000
  return whole // 1000


def _carry(high: Any, low: Any) -> Count:
  return Count(high + low // BASE, low % BASE)


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


def _search(
  enough: Callable[[jax.Array], jax.Array], shape: tuple[int, ...], dtype: Any
) -> jax.Array:
  """Return the largest float t >= 0 with enough(t), bisecting its bits."""
  width = 8 * jnp.dtype(dtype).itemsize
  word = jnp.dtype(f"uint{width}")

  def body(i: jax.Array, low: jax.Array) -> jax.Array:
    bit = (width - 2 - i).astype(word)
    trial = low | (jnp.ones((), word) << bit)
    return jnp.where(enough(trial), trial, low)

  found = jax.lax.fori_loop(0, width - 1, body, jnp.zeros(shape, word))
  return jax.lax.bitcast_convert_type(found, dtype)


def _bits(x: jax.Array) -> jax.Array:
  word = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
  return jax.lax.bitcast_convert_type(jnp.abs(x), word)


@jax.jit
def kth_largest(leaves: Sequence[jax.Array], k: Count) -> jax.Array:
  """Return the k-th largest magnitude over the leaves of one model.

  >>> kth_largest([jnp.array([3.0, -5.0]), jnp.array(4.0)], kept(0.7, 3)).item()
  4.0
  """
  dtype = functools.reduce(jnp.promote_types, [x.dtype for x in leaves])
  leaves = [jnp.abs(x).astype(dtype) for x in leaves]

  def enough(trial: jax.Array) -> jax.Array:
    counts = [count(lambda x: _bits(x) >= trial, leaf) for leaf in leaves]
    return at_least(functools.reduce(add, counts), k)

  return _search(enough, (), dtype)


def of_rows(x: jax.Array, density: Any) -> jax.Array:
  """Return the k-th largest magnitude of each row [..., 1] of [M, ..., n].

  A row is the last axis; a model's leaf that is 1-D is one row, a scalar too.

  >>> of_rows(jnp.array([[[1.0, -2.0], [4.0, 3.0]]]), 0.5)[0, :, 0].tolist()
  [2.0, 4.0]
  """
  rows = x if x.ndim > 1 else x[:, None]
  k = kept(density, rows.shape[-1])
  found = kth_of_rows(rows, jnp.asarray(k.high * BASE + k.low, jnp.int32))
  return found if x.ndim > 1 else found[:, 0]


@jax.jit
def kth_of_rows(x: jax.Array, k: jax.Array) -> jax.Array:
  """Return the k-th largest magnitude of each row, [..., 1]."""
  bits = _bits(x)

  def enough(trial: jax.Array) -> jax.Array:
    return (bits >= trial).sum(-1, keepdims=True, dtype=jnp.int32) >= k

  return _search(enough, (*x.shape[:-1], 1), x.dtype)


class Bracket(NamedTuple):
  """Where the thresholds of M models lie: low <= t <= high."""

  low: np.ndarray
  high: np.ndarray
  entries: int


class Found(NamedTuple):
  """What one leaf of one model has above, inside and from a bracket on."""

  above: int  # > high
  to_high: int  # >= high
  to_low: int  # >= low
  inside: np.ndarray  # low < . < high


def plain(x: jax.Array, at: At, context: Any) -> jax.Array:
  """Return what a trim ranks the magnitudes of: x itself."""
  return x


def measures(
  density: Any, of: Magnitudes = plain, context: Any = None
) -> tuple[Fold, Fold, Fold]:
  """Return the folds over leaves that yield the thresholds [M] of a tree.

  A sample brackets the threshold, a second pass counts, and a third one runs
  only where the sample misled.  Traced leaves skip the first.
  """

  def sample(state: Any, item: Any) -> Any:
    x = of(*item, context)
    return [*state, (_sample(x) if _seen(x) else None, x[0].size)]

  def collect(state: Any, item: Any) -> Any:
    x = of(*item, context)
    bracket, leaves = state
    if not isinstance(bracket, Bracket):
      return bracket, [*leaves, x]
    ends = zip(x, bracket.low, bracket.high)
    return bracket, [*leaves, [_find(*each) for each in ends]]

  def threshold(state: Any) -> Any:
    bracket, leaves = state
    if not leaves:
      return None
    if isinstance(bracket, Bracket):
      return _select(bracket, leaves, density)
    k = kept(density, sum(x[0].size for x in leaves))
    return jax.vmap(kth_largest, (0, None))(leaves, k)

  return (
    Fold(lambda _: [], sample, lambda state: _bracket(state, density)),
    Fold(lambda bracket: (bracket, []), collect, threshold),
    Fold(
      lambda known: (known, []) if isinstance(known, Bracket) else None,
      collect,
      threshold,
    ),
  )


def of_leaf(x: jax.Array, density: Any) -> jax.Array:
  """Return the k-th largest magnitude of each model's leaf, [M].

  >>> of_leaf(jnp.array([[1.0, -2.0], [4.0, 3.0]]), 0.5).tolist()
  [2.0, 4.0]
  """
  value: Any = None
  for fold in measures(density):
    state = fold.init(value)
    if state is not None:
      value = fold.value(fold.update(state, (x, At())))
  return value


def _seen(x: jax.Array) -> bool:
  return trees.concrete(x) and getattr(x, "is_fully_addressable", True)


def _parts(x: Any) -> Iterator[Any]:
  """Yield |x| in pieces: chunks that stay in cache where NumPy can see x."""
  devices = x.devices() if isinstance(x, jax.Array) else set()
  if any(d.platform != "cpu" for d in devices) or len(devices) > 1:
    yield jnp.abs(x).reshape(-1)
    return
  flat, chunk = np.asarray(x).reshape(-1), 8 * CHUNK
  for start in range(0, len(flat), chunk):
    yield np.abs(flat[start : start + chunk])


def _sample(x: jax.Array) -> np.ndarray:
  """Return |x| at one random place of every block of SAMPLED, [M, s]."""
  flat = x.reshape(len(x), -1)
  size = flat.shape[1]
  if size <= WHOLE:
    return np.abs(np.asarray(flat))
  blocks = size // SAMPLED
  places = np.random.default_rng(0).integers(SAMPLED, size=blocks)
  return np.abs(np.asarray(flat[:, np.arange(blocks) * SAMPLED + places]))


def _bracket(sampled: list[Any], density: Any) -> Bracket | None:
  """Return the order statistics six standard errors round the k-th."""
  blind = any(values is None for values, _ in sampled)
  if blind or not sampled or not trees.concrete(density):
    return None
  entries = sum(size for _, size in sampled)
  k = kept(density, entries)
  k = k.high * BASE + k.low
  values = np.concatenate([v for v, _ in sampled], 1)
  each = [np.full(v.shape[1], n / max(v.shape[1], 1)) for v, n in sampled]
  parts = [n * n / v.shape[1] for v, n in sampled if v.shape[1] < n]
  margin = 3 * math.sqrt(sum(parts))
  order = np.argsort(-values, axis=1)
  ranks = np.cumsum(np.concatenate(each)[order], axis=1)
  ranked = np.take_along_axis(values, order, 1)
  low, high = [], []
  for rank, value in zip(ranks, ranked):
    first = np.searchsorted(rank, k - margin - 0.5)
    last = np.searchsorted(rank, k + margin - 0.5)
    high.append(value[first] if k > margin else np.inf)
    low.append(value[last] if last < len(value) else 0)
  return Bracket(np.array(low), np.array(high, values.dtype), entries)


def _find(x: Any, low: Any, high: Any) -> Found:
  above = to_high = to_low = 0
  inside = [np.zeros(0, np.asarray(low).dtype)]
  for part in _parts(x):
    above += int((part > high).sum())
    to_high += int((part >= high).sum())
    to_low += int((part >= low).sum())
    inside.append(np.asarray(part[(part > low) & (part < high)]))
  return Found(above, to_high, to_low, np.concatenate(inside))


def _select(
  bracket: Bracket, leaves: Iterable[list[Found]], density: Any
) -> Any:
  """Return the thresholds [M], or a wider bracket where one was missed."""
  k = kept(density, bracket.entries)
  k = k.high * BASE + k.low
  low, high = bracket.low.copy(), bracket.high.copy()
  missed, chosen = False, []
  for m, found in enumerate(zip(*leaves)):
    above, to_high, to_low = np.array([f[:3] for f in found]).sum(0).tolist()
    inside = np.concatenate([f.inside for f in found])
    if not above < k <= to_low:
      missed = True
      low[m], high[m] = (high[m], np.inf) if k <= above else (0, low[m])
    elif k <= to_high:
      chosen.append(high[m])
    elif k <= to_high + len(inside):
      chosen.append(-np.partition(-inside, k - to_high - 1)[k - to_high - 1])
    else:
      chosen.append(low[m])
  return Bracket(low, high, bracket.entries) if missed else np.array(chosen)
