"""Frank-Wolfe over all names and models at once, with an exact line search.

The objective is a sum over pairs of models, <P_i theta_i, P_j theta_j>; each
step solves one assignment for every model and name at the present soft
permutations and goes towards all of them by one length, the best on the
segment: the objective is a polynomial there, known from a few of its values.
Several processes share both out, the assignments by model and the values by
place, wherever a step is long enough to be worth telling one another of it.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "a"}, {"a": 2}, {})
>>> models = [{"w": np.array([0.0, 1.0])}, {"w": np.array([1.0, 0.0])}]
>>> found = frank_wolfe(axes, models, fixed=(0,))
>>> found[1]["a"].tolist()
[1, 0]
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from weightspace.hosts import multihost
from weightspace.match.solvers import assignment, grams, matching_plan, soft
from weightspace.match.solvers.matching_plan import Plan
from weightspace.symmetry import permutations
from weightspace.symmetry.axes import Axes, Perm
from weightspace.types import Params

PATIENCE = 1e-7  # a gain below this share of the objective ends it
# Products in one value of the objective, from which on what two processes save
# is more than the two exchanges of a step cost (8 ms each, on loopback).
SHARED = 10**8


class Problem(NamedTuple):
  """What stays the same from step to step."""

  plan: Plan
  loaded: list[list[Any]]  # the pieces of each model
  moving: list[int]
  solver: str
  # processes.each, or its like that does all here
  each: Callable[[Callable[[Sequence[int]], list[Any]], int], list[Any]]


def frank_wolfe(
  axes: Axes,
  models: Sequence[Params],
  starts: Sequence[Perm] | None = None,
  *,
  fixed: Sequence[int] = (),
  steps: int = 50,
  solver: str = "scipy",
) -> list[Perm]:
  """Return a permutation of each model to a common order.

  Args:
    axes: from `trace_axes`.
    models: M models.
    starts: M permutations to begin at; the identity when left out.  Names that
      cannot be soft stay as they are there.
    fixed: models that stay: (0,) and two models is matching a pair.
    steps: at most so many.
    solver: of the assignments.

  Returns:
    M permutations, rounded from the soft ones.

  Crisostomi et al. 2024, "C2M3", https://arxiv.org/abs/2405.17897, algorithms 1
  and 2.  The exact line search is ours (Brent's method there).
  """
  plan = matching_plan.make_plan(axes, models[0])
  one = permutations.identity(axes, models[0])
  begin = [one] * len(models) if starts is None else list(starts)
  loaded = [
    matching_plan.order(plan, matching_plan.load(plan, model), start)
    for model, start in zip(models, begin)
  ]
  names = soft.flat_names(axes)
  now: list[soft.Soft] = [
    {n: np.eye(axes.sizes[n], dtype=np.float32) for n in names} for _ in models
  ]
  moving = [m for m in range(len(models)) if m not in fixed]
  problem = Problem(plan, loaded, moving, solver, _sharing(plan, loaded, names))
  for _ in range(steps if names and moving else 0):
    mixed = [_mixed(plan, x, at) for x, at in zip(loaded, now)]
    ends = _ends(problem, now, mixed)
    places, values = _along(problem, now, ends, mixed)
    length = best_length(places, values)
    best = float(np.interp(length, places, values))
    if length == 0.0 or best <= values[0] + PATIENCE * abs(values[0]):
      break
    now = _between(now, ends, length)
  result = []
  for m, start in enumerate(begin):
    change = one | (soft.harden(now[m], solver) if m in moving else {})
    result.append(permutations.compose(start, change))
  return result


def _mixed(plan: Plan, arrays: list[Any], at: soft.Soft) -> list[Any]:
  return [
    soft.mix(np, at, x, piece.labels) for piece, x in zip(plan.pieces, arrays)
  ]


def _sharing(plan: Plan, loaded: list[list[Any]], names: Sequence[str]) -> Any:
  """Return `processes.each`, or what does all here where steps are short."""
  products = len(loaded) * sum(
    x.size * plan.axes.sizes[label]
    for piece, x in zip(plan.pieces, loaded[0])
    for label in piece.labels
    if label and label in names
  )
  if products >= SHARED:
    return multihost.each
  return lambda work, count: work(range(count))


def _ends(
  problem: Problem, now: list[soft.Soft], mixed: Any
) -> list[soft.Soft]:
  """Return the vertices that the gradients of all models point to."""
  plan, loaded, moving, solver, each = problem
  total = [sum(parts) for parts in zip(*mixed)]

  def rows(numbers: Sequence[int]) -> list[Perm]:
    found = []
    for m in (moving[n] for n in numbers):
      others = [t - own for t, own in zip(total, mixed[m])]
      gains = {n: _gains(plan, loaded[m], now[m], others, n) for n in now[m]}
      found.append({n: assignment.solve(x, solver) for n, x in gains.items()})
    return found

  ends = list(now)
  for m, found in zip(moving, each(rows, len(moving))):
    ends[m] = {n: np.eye(len(x), dtype=np.float32)[x] for n, x in found.items()}
  return ends


def _gains(
  plan: Plan, own: list[Any], at: soft.Soft, others: list[Any], name: str
) -> Any:
  """Return [n, n]: what each unit of a model gains at each place."""
  rest = {n: s for n, s in at.items() if n != name}
  # Of a name twice on one piece the other axis is soft too.
  gains = 0.0
  for k, axis in plan.places[name]:
    labels = plan.pieces[k].labels
    part = soft.mix(np, rest, own[k], labels)
    for other, label in enumerate(labels):
      if label == name and other != axis:
        alone = [name if i == other else None for i in range(len(labels))]
        part = soft.mix(np, at, part, alone)
    gains = gains + grams.gram(others[k], part, axis, ())
  return gains


def _between(now: Any, ends: Any, share: float) -> list[soft.Soft]:
  return [
    {n: (1 - share) * a[n] + share * b[n] for n in a} for a, b in zip(now, ends)
  ]


def _along(
  problem: Problem, now: list[soft.Soft], ends: list[soft.Soft], mixed: Any
) -> tuple[np.ndarray, np.ndarray]:
  """Return enough values of the objective to know it on the segment."""
  plan, loaded = problem.plan, problem.loaded
  axes_each = [
    sum(label in now[0] for label in piece.labels) for piece in plan.pieces
  ]
  models = 2 if len(problem.moving) > 1 else 1
  degree = max(2, models * max(axes_each, default=1))
  places = np.linspace(0.0, 1.0, degree + 1)

  def values(numbers: Sequence[int]) -> list[float]:
    found = []
    for place in (places[1 + n] for n in numbers):
      there = zip(loaded, _between(now, ends, place))
      found.append(_objective([_mixed(plan, x, at) for x, at in there]))
    return found

  first = _objective(mixed)
  return places, np.array([first, *problem.each(values, degree)])


def _objective(mixed: Sequence[list[Any]]) -> float:
  """Return the sum over pairs, (|sum|^2 - sum of squares) / 2."""
  total = 0.0
  for parts in zip(*mixed):
    whole = sum(parts)
    total += float(np.vdot(whole, whole))
    total -= sum(float(np.vdot(part, part)) for part in parts)
  return total / 2


def best_length(places: np.ndarray, values: np.ndarray) -> float:
  """Return where in [0, 1] the polynomial through the values is largest.

  >>> best_length(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.75, 1.0]))
  1.0
  """
  scale = np.abs(values).max() or 1.0
  line = np.polynomial.Polynomial.fit(
    places, values / scale, len(places) - 1, domain=[0, 1]
  )
  roots = line.deriv().roots()
  inside = roots[np.abs(roots.imag) < 1e-9].real
  choices = [0.0, 1.0, *inside[(inside > 0) & (inside < 1)]]
  return float(max(choices, key=lambda t: float(line(t))))
