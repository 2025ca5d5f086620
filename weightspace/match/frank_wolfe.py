"""Frank-Wolfe over all names and models at once, with an exact line search.

The objective is a sum over pairs of models, <P_i theta_i, P_j theta_j>; each
step solves one assignment for every model and name at the present soft
permutations and goes towards all of them by one length, the best on the
segment: the objective is a polynomial there, known from a few of its values.

>>> from weightspace.match.axes import Axes
>>> axes = Axes({"w": "a"}, {"a": 2}, {})
>>> models = [{"w": np.array([0.0, 1.0])}, {"w": np.array([1.0, 0.0])}]
>>> found = frank_wolfe(axes, models, fixed=(0,))
>>> found[1]["a"].tolist()
[1, 0]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from weightspace.match import assignment, grams, perms, plans, soft
from weightspace.match.axes import Axes, Perm
from weightspace.match.plans import Plan
from weightspace.types import Params

PATIENCE = 1e-7  # a gain below this share of the objective ends it


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
  plan = plans.make_plan(axes, models[0])
  one = perms.identity(axes, models[0])
  begin = [one] * len(models) if starts is None else list(starts)
  loaded = [
    plans.order(plan, plans.load(plan, model), start)
    for model, start in zip(models, begin)
  ]
  names = soft.flat_names(axes)
  now: list[soft.Soft] = [
    {n: np.eye(axes.sizes[n], dtype=np.float32) for n in names} for _ in models
  ]
  moving = [m for m in range(len(models)) if m not in fixed]
  for _ in range(steps if names and moving else 0):
    ends = _ends(plan, loaded, now, moving, names, solver)
    places, values = _along(plan, loaded, now, ends, moving)
    length = best_length(places, values)
    best = float(np.interp(length, places, values))
    if length == 0.0 or best <= values[0] + PATIENCE * abs(values[0]):
      break
    now = _between(now, ends, length)
  result = []
  for m, start in enumerate(begin):
    change = one | (soft.harden(now[m], solver) if m in moving else {})
    result.append(perms.compose(start, change))
  return result


def _mixed(plan: Plan, arrays: list[Any], at: soft.Soft) -> list[Any]:
  return [
    soft.mix(np, at, x, piece.labels) for piece, x in zip(plan.pieces, arrays)
  ]


def _ends(
  plan: Plan, loaded: Any, now: Any, moving: Any, names: Any, solver: str
) -> list[soft.Soft]:
  """Return the vertices that the gradients of all models point to."""
  mixed = [_mixed(plan, x, at) for x, at in zip(loaded, now)]
  total = [sum(parts) for parts in zip(*mixed)]
  ends = list(now)
  for m in moving:
    others = [t - own for t, own in zip(total, mixed[m])]
    found = {}
    for name in names:
      rest = {n: s for n, s in now[m].items() if n != name}
      # Of a name twice on one piece the other axis is soft too.
      gains = 0.0
      for k, axis in plan.places[name]:
        labels = plan.pieces[k].labels
        part = soft.mix(np, rest, loaded[m][k], labels)
        for other, label in enumerate(labels):
          if label == name and other != axis:
            alone = [name if i == other else None for i in range(len(labels))]
            part = soft.mix(np, now[m], part, alone)
        gains = gains + grams.gram(others[k], part, axis, ())
      row = assignment.solve(gains, solver)
      found[name] = np.eye(len(row), dtype=np.float32)[row]
    ends[m] = found
  return ends


def _between(now: Any, ends: Any, share: float) -> list[soft.Soft]:
  return [
    {n: (1 - share) * a[n] + share * b[n] for n in a} for a, b in zip(now, ends)
  ]


def _along(
  plan: Plan, loaded: Any, now: Any, ends: Any, moving: Any
) -> tuple[np.ndarray, np.ndarray]:
  """Return enough values of the objective to know it on the segment."""
  axes_each = [
    sum(label in now[0] for label in piece.labels) for piece in plan.pieces
  ]
  models = 2 if len(moving) > 1 else 1
  degree = max(2, models * max(axes_each, default=1))
  places = np.linspace(0.0, 1.0, degree + 1)
  return places, np.array(
    [_objective(plan, loaded, _between(now, ends, t)) for t in places]
  )


def _objective(plan: Plan, loaded: Any, at: Any) -> float:
  """Return the sum over pairs, (|sum|^2 - sum of squares) / 2."""
  mixed = [_mixed(plan, x, s) for x, s in zip(loaded, at)]
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
