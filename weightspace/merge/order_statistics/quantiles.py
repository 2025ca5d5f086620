"""Quantiles of a whole tree, as measures that later measures may use.

>>> x = jnp.array([[4.0, 1.0, 2.0, 3.0, 0.0]])
>>> between(in_xla.through(quantile(0.25), x)).tolist()
[3.0]
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge.core.steps import At, Measure
from weightspace.merge.order_statistics import in_numpy, in_xla
from weightspace.numerics import counts


def together(*rows: Sequence[Measure]) -> tuple[Measure, ...]:
  """Return measures that run several sequences of them at once."""

  def stage(folds: tuple[Measure, ...]) -> Measure:
    def init(known: Any) -> Any:
      known = known or [None] * len(folds)
      states = [fold.init(value) for fold, value in zip(folds, known)]
      return (known, states) if any(s is not None for s in states) else None

    def view(x: jax.Array, at: At) -> Any:
      return [fold.view(x, at) if fold.view else x for fold in folds]

    def update(state: Any, item: Any) -> Any:
      (known, states), (views, at) = state, item
      return known, [
        None if s is None else fold.update(s, (seen, at))
        for fold, s, seen in zip(folds, states, views)
      ]

    def value(state: Any) -> Any:
      return [
        known if s is None else fold.value(s)
        for fold, known, s in zip(folds, *state)
      ]

    return Measure(
      init,
      update,
      value,
      view,
      pieces=all(fold.pieces for fold in folds),
      concrete=all(fold.concrete for fold in folds),
    )

  return tuple(stage(folds) for folds in zip(*rows, strict=True))


def then(
  first: Sequence[Measure],
  second: Callable[[Any], Sequence[Measure]],
  like: Sequence[Measure],
) -> tuple[Measure, ...]:
  """Return measures whose second part may use the value of the first.

  The value is the pair of both.

  Args:
    first: measures.
    second: from their value to further measures.
    like: measures that take pieces, or values alone, where those do.
  """

  def stage(index: int) -> Measure:
    def init(known: Any) -> Any:
      context, value = (known, None) if index == 0 else known
      fold = second(context)[index]
      state = fold.init(value)
      return None if state is None else (context, fold, state)

    def update(state: Any, item: Any) -> Any:
      (context, fold, inner), (x, at) = state, item
      seen = fold.view(x, at) if fold.view else x
      return context, fold, fold.update(inner, (seen, at))

    def value(state: Any) -> Any:
      context, fold, inner = state
      return context, fold.value(inner)

    return like[index]._replace(
      init=init, update=update, value=value, view=None
    )

  return (*first, *map(stage, range(len(like))))


def quantile(
  share: Any, of: Any = None, signed: bool = False
) -> tuple[Measure, ...]:
  """Return folds that yield the value which `share` of a tree exceeds, [M].

  Linear between order statistics, as `np.quantile(x, 1 - share)`; `between`
  reads it.
  """
  return quantiles([share], of, signed)


def quantiles(
  shares: Sequence[Any],
  of: Any = None,
  signed: bool = False,
  ranks: Sequence[in_numpy.Rank] = (),
) -> tuple[Measure, ...]:
  """Return folds that yield several quantiles of a tree, found by one search.

  Args:
    shares: of each, the share of a tree that exceeds it.
    of: what is ranked, from `(x, at)`; x itself by default.
    signed: rank values instead of magnitudes.
    ranks: further order statistics, which `ranked` reads.
  """

  def above(share: Any, n: int, more: int) -> counts.Count:
    place = counts.add(counts.share_of(share, n - 1), counts.Count(0, more))
    most = counts.Count(*divmod(n, counts.BASE))
    if trees.concrete(place):
      return min(place, most)
    over = counts.at_least(place, most)
    return jax.tree.map(lambda a, b: jnp.where(over, b, a), place, most)

  ends = [
    lambda n, share=share, more=more: above(share, n, more)
    for share in shares
    for more in (1, 2)
  ]
  first = Measure(lambda _: None, lambda s, item: s, lambda s: s, concrete=True)
  fractions = Measure(
    lambda _: 0,
    lambda n, item: n + item[0][0].size,
    lambda n: [_fraction(share, n - 1) for share in shares],
    pieces=True,
  )
  last = first._replace(concrete=False, pieces=True)
  searches = in_xla.several([*ends, *ranks], of, signed)
  return together(searches, (first, fractions, last))


def between(measured: Any, index: int = 0) -> Any:
  """Return a quantile [M] from what the folds of `quantiles` measured."""
  values, fractions = measured
  upper, lower = map(jnp.asarray, values[2 * index : 2 * index + 2])
  return upper * (1 - fractions[index]) + lower * fractions[index]


def ranked(measured: Any, index: int = 0) -> Any:
  """Return one of the further order statistics of `quantiles`, [M]."""
  values, fractions = measured
  return values[2 * len(fractions) + index]


def _fraction(share: Any, n: int) -> Any:
  """Return the fractional part of share n."""
  if trees.concrete(share):
    place = float(share) * n
    return np.float32(max(place - math.floor(place + 1e-6), 0))
  parts = jnp.round(share * counts.BASE).astype(jnp.uint32)
  thousands, rest = divmod(n % counts.BASE, 1000)
  product = (parts * np.uint32(thousands)) % 1000 * 1000
  product = (product + parts * np.uint32(rest)) % counts.BASE
  return product.astype(jnp.float32) / counts.BASE
