"""The k-th largest magnitude of a model, exactly: what every trim wants.

One primitive, counting: the k-th largest is the largest t of which at least k
entries are >= t, and floats are ordered as their bits are, so 32 counts find
it, three of them in one pass.  Counts have static shapes: they jit, vmap over
the density, and sum over devices.  Values that can be looked at are bracketed
by a sample instead (`in_numpy`).  Both are exact and give the same number.

>>> of_leaf(jnp.array([[3.0, -1.0, 2.0, 0.5]]), 0.5).tolist()
[2.0]
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.hosts import concrete
from weightspace.merge.core.steps import At, Measure, through
from weightspace.merge.order_statistics import in_numpy
from weightspace.numerics import counts, top_k

SAMPLED = 2**20  # entries from which on a sample narrows the search
SMALL = 2**16  # entries below which leaves are counted together

Ranked = Callable[[jax.Array, At], Any]  # [M, ...], what is ranked


def _guess(
  leaves: Sequence[jax.Array], k: counts.Count
) -> tuple[jax.Array, jax.Array]:
  """Return words that the k-th largest lies between, from a sample."""
  word = jnp.dtype(f"uint{8 * leaves[0].dtype.itemsize}")
  most, entries = word.type(~word.type(0)), sum(x.size for x in leaves)
  if entries < SAMPLED:
    return jnp.zeros((), word), jnp.full((), most)
  flat = [x.reshape(-1)[:: in_numpy.STRIDE] for x in leaves]
  sample = jnp.sort(top_k.words(jnp.concatenate(flat)))
  share = (k.high * float(counts.BASE) + k.low) / entries
  rank, size = share * sample.size, sample.size
  margin = 6 * jnp.sqrt(rank * jnp.maximum(1 - share, 0)) + 6
  first = jnp.floor(rank - margin).astype(jnp.int32)
  last = jnp.ceil(rank + margin).astype(jnp.int32)
  high = jnp.where(first < 0, most, sample[jnp.clip(size - 1 - first, 0)])
  low = jnp.where(last >= size, 0, sample[jnp.clip(size - 1 - last, 0)])
  return low.astype(word), high.astype(word)


def _float(word: jax.Array, dtype: Any) -> jax.Array:
  top = word.dtype.type(1 << (8 * word.dtype.itemsize - 1))
  bits = jnp.where(word >= top, word ^ top, ~word)
  return jax.lax.bitcast_convert_type(bits, dtype)


@functools.partial(jax.jit, static_argnames="signed")
def kth_largest(
  leaves: Sequence[jax.Array], k: counts.Count, signed: bool = False
) -> jax.Array:
  """Return the k-th largest magnitude (or value) over one model's leaves.

  >>> kth_largest([jnp.array([3.0, -5.0]), jnp.array(4.0)], counts.Count(0, 2))
  Array(4., dtype=float32)
  """
  dtype = functools.reduce(jnp.promote_types, [x.dtype for x in leaves])
  leaves = _fewer([x.astype(dtype) for x in leaves])
  ranked = leaves if signed else [jnp.abs(x) for x in leaves]

  def enough(trials: list[jax.Array]) -> list[jax.Array]:
    tests = [functools.partial(reaches, trial) for trial in trials]
    found = zip(*(counts.count(tests, leaf) for leaf in leaves))
    return [counts.at_least(functools.reduce(counts.add, c), k) for c in found]

  def reaches(trial: jax.Array, x: jax.Array) -> jax.Array:
    return top_k.words(x if signed else jnp.abs(x)) >= trial

  return _float(top_k.search(enough, *_guess(ranked, k)), dtype)


def _fewer(leaves: list[jax.Array]) -> list[jax.Array]:
  """Return leaves with the small ones in one line: each costs a program."""
  small = [x.reshape(-1) for x in leaves if x.size < SMALL]
  if len(small) < 2:
    return leaves
  return [*(x for x in leaves if x.size >= SMALL), jnp.concatenate(small)]


def of_rows(x: jax.Array, k: Any) -> jax.Array:
  """Return the k-th largest magnitude of each row, [..., 1] for [..., n].

  Args:
    x: a row is the last axis.
    k: an integer from 1 to n, concrete or traced.

  >>> of_rows(jnp.array([[1.0, -2.0], [4.0, 3.0]]), 2).tolist()
  [[1.0], [3.0]]
  """
  if in_numpy.seen(x) and concrete.on_host(x) and trees.concrete(k):
    place = x.shape[-1] - int(k)
    found = np.partition(np.abs(np.asarray(x)), place, axis=-1)
    return jnp.asarray(found[..., place, None])
  return _kth_of_rows(x, jnp.asarray(k, jnp.int32))


@jax.jit
def _kth_of_rows(x: jax.Array, k: jax.Array) -> jax.Array:
  words = top_k.words(jnp.abs(x))

  def enough(trials: list[jax.Array]) -> list[jax.Array]:
    found = counts.sums([words >= trial for trial in trials], axis=-1)
    return [count[..., None] >= k for count in found]

  low = jnp.zeros((*x.shape[:-1], 1), words.dtype)
  return _float(top_k.search(enough, low, ~low), x.dtype)


def measures(
  rank: in_numpy.Rank, of: Ranked | None = None, signed: bool = False
) -> tuple[Measure, ...]:
  """Return the folds over leaves that yield the k-th largest of a tree, [M].

  Args:
    rank: k, from the number of entries in all.
    of: what is ranked, from `(x, at)`; x itself by default.
    signed: rank values instead of magnitudes.
  """

  def single(fold: Measure) -> Measure:
    return fold._replace(
      init=lambda known: fold.init(None if known is None else [known]),
      value=lambda state: (fold.value(state) or [None])[0],
    )

  return tuple(map(single, several([rank], of, signed)))


def several(
  ranks: Sequence[in_numpy.Rank],
  of: Ranked | None = None,
  signed: bool = False,
) -> tuple[Measure, Measure, Measure]:
  """Return the folds that yield a list of order statistics of a tree, [M] each.

  A sample brackets them, a second pass counts, and a third one runs only where
  the sample misled.  Traced leaves skip the first, and one search finds all.

  Args:
    ranks: one for each; see `measures`.
    of: what is ranked, from `(x, at)`; x itself by default.
    signed: rank values instead of magnitudes.
  """

  def thinned(x: jax.Array, at: At) -> Any:
    return in_numpy.thin(of(x, at) if of else x)

  def sample(state: Any, item: Any) -> Any:
    values, shape = item[0]
    if state is None or not in_numpy.seen(values):
      return None
    return [*state, (np.asarray(values), math.prod(map(int, shape)))]

  def brackets(state: Any) -> Any:
    if not state:
      return None
    return [in_numpy.bracket(state, rank, signed) for rank in ranks]

  def begin(known: Any) -> Any:
    known = known or [None] * len(ranks)
    every = all(isinstance(ends, np.ndarray) for ends in known)
    return None if every else [(ends, []) for ends in known]

  def again(known: Any) -> Any:
    missed = any(isinstance(ends, in_numpy.Bracket) for ends in known or ())
    return begin(known) if missed else None

  def collect(state: Any, item: Any) -> Any:
    return [
      (ends, [*leaves, _collected(item[0], ends, signed)])
      for ends, leaves in state
    ]

  def thresholds(state: Any) -> Any:
    return _thresholds(state, ranks, signed)

  return (
    Measure(lambda _: [], sample, brackets, thinned, concrete=True),
    Measure(begin, collect, thresholds, of, pieces=True),
    Measure(again, collect, thresholds, of, pieces=True),
  )


def _collected(x: Any, ends: Any, signed: bool) -> Any:
  """Return what a leaf has in a bracket, or the leaf where there is none."""
  if isinstance(ends, np.ndarray):  # the order statistics themselves
    return None
  if not isinstance(ends, in_numpy.Bracket):
    return x
  rows = np.asarray(x) if concrete.on_host(x) else x
  parts = zip(rows, ends.low, ends.high)
  return [in_numpy.find(*part, signed) for part in parts]


def _thresholds(
  state: list[Any], ranks: Sequence[in_numpy.Rank], signed: bool
) -> list[Any]:
  """Return each order statistic, or a wider bracket where one was missed."""
  values: list[Any] = []
  searched = []
  for index, (ends, leaves) in enumerate(state):
    if isinstance(ends, np.ndarray) or not leaves:
      values.append(ends)
    elif isinstance(ends, in_numpy.Bracket):
      values.append(in_numpy.choose(ends, leaves, signed))
    else:
      values.append(None)
      searched.append(index)
  if searched:
    leaves = state[searched[0]][1]
    entries = sum(x[0].size for x in leaves)
    ks = [ranks[index](entries) for index in searched]
    for index, value in zip(searched, _all_largest(leaves, ks, signed)):
      values[index] = value
  return values


def _all_largest(
  leaves: list[jax.Array], ks: list[counts.Count], signed: bool
) -> list[jax.Array]:
  """Return several order statistics, [M] each, by one search."""
  if len(ks) == 1:
    return [jax.vmap(lambda xs: kth_largest(xs, ks[0], signed))(leaves)]
  every = jax.tree.map(
    lambda *parts: jnp.stack([jnp.asarray(p, jnp.uint32) for p in parts]), *ks
  )

  def one_model(xs: list[jax.Array]) -> jax.Array:
    return jax.vmap(lambda k: kth_largest(xs, k, signed))(every)

  return list(jax.vmap(one_model, out_axes=1)(leaves))


def of_leaf(x: jax.Array, density: Any) -> jax.Array:
  """Return the k-th largest magnitude of each model's leaf, [M].

  >>> of_leaf(jnp.array([[1.0, -2.0], [4.0, 3.0]]), 0.5).tolist()
  [2.0, 4.0]
  """
  return through(measures(lambda n: counts.kept(density, n)), x)
