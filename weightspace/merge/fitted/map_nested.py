"""Nested MAP: merge pairs of models by preference, and pairs of pairs.

With many models a quadratic in all coefficients needs many evaluations; pairs
need few, and there are one less pairs than models.

>>> models, start = {"w": jnp.eye(2)}, {"w": jnp.zeros(2)}
>>> def score(p, x): return -((p["w"] - x) ** 2).sum()
>>> goals = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]
>>> found = nested_merge(models, score, goals, jax.random.key(0), base=start)
>>> [round(w, 1) for w in found.weights.tolist()]
[0.5, 0.5]
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.fitted import pareto, scored_mixes
from weightspace.types import Data, Key, Params, Score, Stack


class Nested(NamedTuple):
  """What was found: base + sum_m weights_m (theta_m - base)."""

  weights: np.ndarray  # [M]
  params: Params
  evaluations: int  # mixes that were scored
  pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]  # in order


class _Group(NamedTuple):
  """Models that are merged already: their coefficients and their score."""

  members: tuple[int, ...]
  weights: np.ndarray  # [M]
  score: float


def nested_merge(
  stack: Stack,
  score: Score,
  data: Sequence[Data],
  key: Key,
  *,
  base: Params,
  preference: Sequence[float] | None = None,
  budget: int = 12,
  link: str = "none",
) -> Nested:
  """Merge M models, one for each objective, pair by pair by preference.

  Groups whose scores are nearest are paired; a front of the two groups' mean
  scores is found by `pareto_front` on two coefficients, and the mix with the
  largest preference-weighted surrogate becomes one group, until one is left:
  (M - 1) fronts in place of one in M coefficients.

  Args:
    stack: M models, leaves [M, ...]; model m was made for objective m.
    score: higher is better, `score(params, data)`, [] or [N].
    data: of each objective, M sets.
    key: of the samples.
    base: what the models were fine-tuned from.
    preference: [M], how much each objective counts; all alike by default.
    budget: samples of each front, at least 6.
    link: as in `pareto_front`.

  Returns:
    Nested.

  Raises:
    ValueError: for another number of objectives or preferences than of models,
      a negative preference, a budget below 6, NaN.

  >>> models, start = {"w": jnp.eye(2)}, {"w": jnp.zeros(2)}
  >>> def score(p, x): return -((p["w"] - x) ** 2).sum()
  >>> goals = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]
  >>> found = nested_merge(models, score, goals, jax.random.key(0), base=start,
  ...                      preference=[1.0, 0.0])
  >>> [abs(round(w, 1)) for w in found.weights.tolist()]
  [1.0, 0.0]

  Li et al. 2024, "MAP", sec. 4 (nested merging MAP),
  https://arxiv.org/abs/2406.07529.
  """
  count = trees.size(stack)
  wanted = np.ones(count) if preference is None else np.asarray(preference)
  if len(data) != count or wanted.shape != (count,):
    raise ValueError(
      f"nested_merge: {len(data)} objectives and preferences {wanted.shape},"
      f" expected {count} each, as many as models"
    )
  checks.number("nested_merge: preference", wanted, 0, many=True)
  measure = scored_mixes.measurer("nested_merge", stack, score, data, base)
  values = measure(np.eye(count)).values
  groups = [
    _Group((m,), np.eye(count)[m], float(values[m, m])) for m in range(count)
  ]
  spent, pairs, turn = count, [], 0
  while len(groups) > 1:
    a, b = _nearest(groups)
    rest = [g for g in groups if g is not a and g is not b]
    front = functools.partial(
      pareto.pareto_front,
      score=score,
      data=[data[m] for m in (*a.members, *b.members)],
      key=jax.random.fold_in(key, turn),
      base=base,
      budget=budget,
      points=6,
      link=link,
    )
    new, used = _merge(front, stack, base, (a, b), wanted)
    pairs.append((a.members, b.members))
    groups, spent, turn = [*rest, new], spent + used, turn + 1
  weights = groups[0].weights
  held = jax.tree.map(
    lambda x, c: jnp.concatenate([jnp.asarray(x), jnp.asarray(c)[None]]),
    stack,
    base,
  )
  row = jnp.asarray([*weights, 1 - weights.sum()], jnp.float32)
  params = means.weighted_sum(held, row)
  return Nested(weights, params, spent, pairs)


def _nearest(groups: list[_Group]) -> tuple[_Group, _Group]:
  order = sorted(groups, key=lambda g: (len(g.members), g.score))
  least = [g for g in order if len(g.members) <= len(order[1].members)]
  gaps = [abs(a.score - b.score) for a, b in itertools.pairwise(least)]
  place = int(np.argmin(gaps))
  return least[place], least[place + 1]


def _merge(
  front: Callable[[Stack], pareto.Front],
  stack: Stack,
  base: Params,
  pair: tuple[_Group, _Group],
  wanted: np.ndarray,
) -> tuple[_Group, int]:
  """Return the pair as one group, and the evaluations it took.

  Args:
    front: fits the Pareto front of two models.
    stack: all models.
    base: what they were fine-tuned from.
    pair: the groups.
    wanted: [M], how much each objective counts.
  """
  rows = jnp.asarray(np.stack([g.weights for g in pair]), jnp.float32)

  def combined(x: jax.Array, b: jax.Array) -> jax.Array:
    if not trees.inexact(x):
      return x[:2]
    start = jnp.asarray(b)[None]
    return start + jnp.tensordot(rows, x - start, 1)

  two = jax.tree.map(combined, stack, base)
  members = [m for g in pair for m in g.members]
  fitted = front(two)
  share = wanted[members]
  share = share / share.sum() if share.sum() > 0 else np.full(len(members), 1.0)
  grid = np.stack(np.meshgrid(*[np.linspace(0.0, 1.0, 101)] * 2), -1)
  tried = np.concatenate([fitted.weights, grid.reshape(-1, 2)])
  total = np.stack([fit(tried) for fit in fitted.surrogates], 1) @ share
  best = int(np.argmax(total))
  weights = tried[best] @ np.stack([g.weights for g in pair])
  group = _Group(tuple(members), weights, float(total[best]))
  return group, fitted.evaluations
