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

from weightspace import counts, trees
from weightspace.merge.core.steps import At, Measure
from weightspace.merge.order_statistics import in_xla


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

    return Measure(init, update, value, view)

  return tuple(stage(folds) for folds in zip(*rows, strict=True))


def then(
  first: Sequence[Measure],
  second: Callable[[Any], Sequence[Measure]],
  count: int,
) -> tuple[Measure, ...]:
  """Return measures whose second part, `count` long, may use the first's value.

  The value is the pair of both.
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

    return Measure(init, update, value)

  return (*first, *(stage(index) for index in range(count)))


def quantile(
  share: Any, of: Any = None, signed: bool = False
) -> tuple[Measure, ...]:
  """Return folds that yield the value which `share` of a tree exceeds, [M].

  Linear between order statistics, as `np.quantile(x, 1 - share)`.
  """

  def above(n: int, more: int) -> counts.Count:
    found = counts.add(counts.share_of(share, n - 1), counts.Count(0, more))
    most = counts.Count(*divmod(n, counts.BASE))
    if trees.concrete(found):
      return min(found, most)
    over = counts.at_least(found, most)
    return jax.tree.map(lambda a, b: jnp.where(over, b, a), found, most)

  ranks = [lambda n, more=more: above(n, more) for more in (1, 2)]
  rows = [in_xla.measures(rank, of, signed) for rank in ranks]
  part = Measure(
    lambda _: 0,
    lambda n, item: n + item[0][0].size,
    lambda n: _fraction(share, n - 1),
  )
  skip = Measure(lambda _: None, lambda s, item: s, lambda s: s)
  return together(*rows, (part, skip, skip))


def between(found: Any) -> Any:
  """Return the quantile [M] from what the folds of `quantile` found."""
  upper, lower, part = found
  return jnp.asarray(upper) * (1 - part) + jnp.asarray(lower) * part


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
