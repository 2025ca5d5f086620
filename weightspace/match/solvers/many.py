"""Many models at once: permutations to one common order.

Pairwise permutations need not agree when they are chained; permutations of
every model to a common universe do by construction, and model i goes to model
j by the inverse of j's after i's own.

Several processes that call this together share out what is independent: the
matches to the first model, the assignments and the line search of each step of
Frank-Wolfe, and the two polishes.  Each returns what one process alone would.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "a"}, {"a": 2}, {})
>>> stack = {"w": np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])}
>>> [perm["a"].tolist() for perm in match_many(axes, stack)]
[[0, 1], [1, 0], [0, 1]]
"""

from collections.abc import Sequence

import jax
import numpy as np

from weightspace.hosts import multihost
from weightspace.match.solvers import (
  coordinate_descent,
  frank_wolfe,
  matching_plan,
  weights,
)
from weightspace.symmetry import checks, permutations
from weightspace.symmetry.axes import Axes, Perm
from weightspace.types import Key, Params, Stack

METHODS = ("frank_wolfe", "merge_many")


def match_many(
  axes: Axes,
  stack: Stack,
  key: Key | None = None,
  *,
  method: str = "frank_wolfe",
  rounds: int = 50,
  solver: str = "scipy",
) -> list[Perm]:
  """Find a permutation of every model to a common order.

  max over P_1 .. P_M of sum_{i<j} <P_i theta_i, P_j theta_j>;
  `permute(axes, perms[i], model_i)` are mutually aligned.

  Args:
    axes: from `trace_axes`.
    stack: M models, leaves [M, ...], or a list of models.
    key: draws the order in which models are taken; None for theirs.
    method: "frank_wolfe" (C2M3): from every model matched to the first,
      Frank-Wolfe on all at once, rounded, then polished by the other method; or
      "merge_many" (Git Re-Basin): each model in turn matched to the sum of the
      others, until none moves, from where they are (one after the other: each
      process does all of it).
    rounds: at most so many turns through the models.
    solver: "scipy" or "optax".

  Returns:
    M permutations.  The first model's is the identity.

  Raises:
    ValueError: for fewer than two models, or as `match_weights`.

  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> pair = [{"w": np.array([1.0, 2.0])}, {"w": np.array([2.0, 1.0])}]
  >>> match_many(axes, pair, method="merge_many")[1]["a"].tolist()
  [1, 0]

  Crisostomi et al. 2024, "C2M3", https://arxiv.org/abs/2405.17897; Ainsworth et
  al. 2023, https://arxiv.org/abs/2209.04836, algorithm 3 (MergeMany).  Starting
  at matched models, polishing, and keeping the better of both are ours.
  """
  if method not in METHODS:
    raise ValueError(f"method: {method!r}, expected one of {METHODS}")
  models = weights.as_list(axes, stack)
  _check(axes, models)
  one = permutations.identity(axes, models[0])
  if method == "merge_many":
    found = polish(axes, models, [one] * len(models), key, rounds, solver)
    return common(found)
  pairs = weights.match_pairs(axes, models[0], models[1:], solver=solver)
  starts = [one, *(pair.perm for pair in pairs)]
  relaxed = frank_wolfe.frank_wolfe(axes, models, starts, solver=solver)
  begins = starts, relaxed

  def polished(numbers: Sequence[int]) -> list[list[Perm]]:
    return [
      polish(axes, models, begins[n], key, rounds, solver) for n in numbers
    ]

  candidates = multihost.each(polished, len(begins))
  return common(max(candidates, key=lambda p: together(axes, models, p)))


def _check(axes: Axes, models: Sequence[Params]) -> None:
  if len(models) < 2:
    raise ValueError(f"match_many: {len(models)} model, expected at least 2")
  for number, model in enumerate(models):
    checks.check_params(axes, model, f"match_many: model {number}")
    checks.check_finite(model, f"match_many: model {number}")


def polish(
  axes: Axes,
  models: Sequence[Params],
  starts: Sequence[Perm],
  key: Key | None,
  rounds: int,
  solver: str,
) -> list[Perm]:
  """Match each model in turn to the sum of the others, until none moves.

  Every move raises the sum over pairs, so this ends.
  """
  plan = matching_plan.make_plan(axes, models[0])
  loaded = [matching_plan.load(plan, model) for model in models]
  found = list(starts)
  aligned = [matching_plan.order(plan, x, p) for x, p in zip(loaded, found)]
  names = [n for n in plan.places if plan.places[n]]
  words = [] if key is None else jax.random.key_data(key).ravel().tolist()
  still: set[int] = set()
  for turn in range(rounds):
    order = list(range(len(models)))
    if words:
      stream = np.random.Generator(np.random.Philox([*words, turn]))
      order = stream.permutation(len(models)).tolist()
    for m in order:
      if m in still:
        continue
      others = [
        sum(aligned[i][k] for i in range(len(models)) if i != m)
        for k in range(len(plan.pieces))
      ]
      step = coordinate_descent.descend(
        plan, others, loaded[m], [names] * 100, solver, start=found[m]
      )
      moved = any((step.perm[n] != found[m][n]).any() for n in step.perm)
      still = {m} if moved else still | {m}
      found[m] = step.perm
      aligned[m] = matching_plan.order(plan, loaded[m], found[m])
    if len(still) == len(models):
      break
  return found


def common(found: Sequence[Perm]) -> list[Perm]:
  """Return the same alignment with the first model where it was."""
  back = permutations.invert(found[0])
  return [permutations.compose(perm, back) for perm in found]


def together(
  axes: Axes, models: Sequence[Params], found: Sequence[Perm]
) -> float:
  """Return sum over pairs of <P_i theta_i, P_j theta_j>.

  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> models = [{"w": np.array([1.0, 2.0])}, {"w": np.array([2.0, 1.0])}]
  >>> together(axes, models, match_many(axes, models))
  5.0
  """
  plan = matching_plan.make_plan(axes, models[0])
  aligned = [
    matching_plan.order(plan, matching_plan.load(plan, model), perm)
    for model, perm in zip(models, found)
  ]
  total = 0.0
  for parts in zip(*aligned):
    whole = sum(part.astype(np.float64) for part in parts)
    squares = sum(float((part.astype(np.float64) ** 2).sum()) for part in parts)
    total += (float((whole**2).sum()) - squares) / 2
  return total
