"""Soups selected by a score: greedy and pruned.

A selection only chooses the weights of `weighted_mean`, and keeps its history:
in which order members were tried, with which score, and why each was kept.

>>> models = {"w": jnp.array([0.0, 1.0, 9.0])}
>>> found = greedy(models, lambda p: -abs(p["w"].item() - 0.5))
>>> found.weights.tolist()
[1.0, 1.0, 0.0]
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import intervals, means, trees
from weightspace.merge.core import checks
from weightspace.merge.fitted import provenance
from weightspace.search import scorers
from weightspace.types import Data, Member, Params, Score, Stack

ORDERS = ("score", "score-later", "given")
TIES = ("accept", "reject")


class Trial(NamedTuple):
  """One line of a selection's history: a member tried against the soup."""

  model: int
  score: float  # of the candidate soup
  best: float  # of the soup before it
  accepted: bool
  reason: str
  interval: intervals.Interval | None  # bootstrap of score - best


class Selection(NamedTuple):
  """The chosen members: `weighted_mean(stack, weights)` is the soup."""

  weights: jax.Array  # [M] of 0 and 1
  score: float  # of the soup, on the data that chose it
  singles: np.ndarray  # [M] score of each member
  history: list[Trial]
  params: Params | None = None  # the soup itself

  def __repr__(self) -> str:
    kept = np.flatnonzero(np.asarray(self.weights)).tolist()
    return (
      f"Selection(models {kept} of {len(self.singles)}, score"
      f" {float(self.score):.4g})"
    )


def greedy(
  stack: Stack,
  score: Score | Callable[[Params], float],
  data: Data | None = None,
  tie: str = "accept",
  order: str | Sequence[int] = "score",
  *,
  members: Sequence[Member] | None = None,
) -> Selection:
  """Choose members one by one, keeping each that does not lower the score.

  Start from the best member; try the others in falling order of their scores,
  once each; theta_S <- (|S| theta_S + theta_i) / (|S| + 1) if its score is at
  least the soup's.  So the soup's score never falls below the best member's.

  Args:
    stack: M models, leaves [M, ...].
    score: higher is better.  With `data`, `score(params, data)` runs compiled
      through `evaluate_mixes`, and one score per example gives bootstrap
      intervals; without, `score(params)` is any function of concrete arrays.
    data: held-out data; not the data that the result is reported on.
    tie: "accept" an equal score (the paper) or "reject" it (its code).
    order: "score" (equal scores keep the earlier member first; ours),
      "score-later" (the later first, as the paper's code sorts), "given", or a
      sequence of all M indices (the paper's random orders).
    members: provenance; members of different starts give a warning.

  Returns:
    Selection: weights [M], score, singles [M], history of M trials.

  Raises:
    ValueError: for an unknown tie or order, NaN in a member or in a score.

  >>> greedy({"w": jnp.array([0.0, 1.0])}, lambda p: 1.0).weights.tolist()
  [1.0, 1.0]

  Wortsman et al. 2022, Recipe 1, https://arxiv.org/abs/2203.05482.
  """
  checks.option("tie", tie, TIES)
  scorer = scorers.make(stack, score, data)
  provenance.guard(stack, members, score, data)
  singles, examples = scorer(np.eye(trees.size(stack), dtype=np.float32))
  first, *rest = _order(order, singles)
  soup = np.zeros(len(singles), np.float32)
  soup[first] = 1.0
  best = float(singles[first])
  start = _State(soup, best, _row(examples, first))
  opening = Trial(first, best, -np.inf, True, "first", None)
  state, history = _climb(scorer, start, rest, tie)
  return _selection(stack, state, singles, [opening, *history])


def pruned(
  stack: Stack,
  score: Score | Callable[[Params], float],
  data: Data | None = None,
  tie: str = "accept",
  *,
  members: Sequence[Member] | None = None,
) -> Selection:
  """Start from the uniform soup and drop each member that it does not need.

  Members are tried in rising order of their scores, once each, and left out if
  the soup of the others scores at least as well; the last one stays.

  Args, Returns, Raises: as `greedy`; with `tie="reject"` a member goes only if
    the score rises.  In the history `accepted` means dropped.

  >>> models = {"w": jnp.array([0.0, 1.0, 9.0])}
  >>> found = pruned(models, lambda p: -abs(p["w"].item() - 0.5))
  >>> found.weights.tolist()
  [1.0, 1.0, 0.0]

  Named in Sobral et al. 2023, https://arxiv.org/abs/2301.10092; order and tie
  rule are ours.
  """
  checks.option("tie", tie, TIES)
  scorer = scorers.make(stack, score, data)
  provenance.guard(stack, members, score, data)
  count = trees.size(stack)
  singles, _ = scorer(np.eye(count, dtype=np.float32))
  soup = np.ones(count, np.float32)
  values, examples = scorer(soup[None] / count)
  start = _State(soup, values[0], _row(examples, 0))
  order = np.argsort(singles, kind="stable").tolist()
  state, history = _climb(scorer, start, order, tie)
  return _selection(stack, state, singles, history)


class _State(NamedTuple):
  """The soup so far: members [M], its score, and that per example."""

  soup: np.ndarray
  score: float
  examples: np.ndarray | None


def _climb(
  scorer: scorers.Scorer, state: _State, order: Sequence[int], tie: str
) -> tuple[_State, list[Trial]]:
  """Flip members in order, keeping each flip that does not lower the score."""
  history = []
  for model in order:
    soup = state.soup.copy()
    soup[model] = 1.0 - soup[model]
    if not soup.any():
      break
    values, examples = scorer(soup[None] / soup.sum())
    flipped = _State(soup, values[0], _row(examples, 0))
    history.append(_trial(model, flipped, state, tie))
    state = flipped if history[-1].accepted else state
  return state, history


def _selection(
  stack: Stack, state: _State, singles: np.ndarray, history: list[Trial]
) -> Selection:
  weights = jnp.asarray(state.soup)
  soup = means.weighted_mean(stack, weights)
  return Selection(weights, float(state.score), singles, history, soup)


def _row(examples: np.ndarray | None, index: int) -> np.ndarray | None:
  """Return one mix's scores per example, where they are known."""
  return None if examples is None else examples[index]


def _order(order: str | Sequence[int], singles: np.ndarray) -> list[int]:
  """Return the members in the order in which they are tried."""
  count = len(singles)
  if not isinstance(order, str):
    given = [int(i) for i in order]
    if sorted(given) != list(range(count)):
      raise ValueError(
        f"order: {given}, expected each of 0..{count - 1} exactly once"
      )
    return given
  checks.option("order", order, ORDERS)
  if order == "given":
    return list(range(count))
  if order == "score":
    return np.argsort(-singles, kind="stable").tolist()
  return np.argsort(singles, kind="stable")[::-1].tolist()


def _trial(model: int, new: _State, old: _State, tie: str) -> Trial:
  """Judge a flip: a line of history, with the interval of its difference."""
  interval = None
  if new.examples is not None and old.examples is not None:
    interval = scorers.bootstrap(new.examples - old.examples, seed=model)
  equal = bool(new.score == old.score)
  accepted = tie == "accept" if equal else bool(new.score > old.score)
  reason = "score rose" if accepted else "score fell"
  if equal:
    reason = "equal score, " + ("accepted" if accepted else "rejected")
  return Trial(
    model, float(new.score), float(old.score), accepted, reason, interval
  )
