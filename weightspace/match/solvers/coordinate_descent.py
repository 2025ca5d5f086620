"""Coordinate descent over permutations: the inner loop of matching.

The second model is kept in its present order, so a solve for one name asks
which units change places from there: what stays is the diagonal.  A name is
solved again only when something that it meets has moved.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "a"}, {"a": 2}, {"": ""})
>>> a, b = {"w": np.array([1.0, 2.0])}, {"w": np.array([2.0, 1.0])}
>>> plan = matching_plan.make_plan(axes, a)
>>> models = matching_plan.load(plan, a), matching_plan.load(plan, b)
>>> found = descend(plan, *models, [["a"]] * 9, "scipy")
>>> found.perm["a"].tolist(), found.objective
([1, 0], 5.0)
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace.match.solvers import assignment, grams, heads, matching_plan
from weightspace.match.solvers.matching_plan import Pair, Place, Plan, objective
from weightspace.symmetry import moving, permutations
from weightspace.symmetry.axes import Perm, base, blocks, shape


class Descent(NamedTuple):
  """Where a descent ended, and how."""

  perm: Perm
  objective: float
  sweeps: int
  trace: list[float]  # the objective at the start and after each sweep
  solves: int
  seconds: dict[str, float]  # in products, in assignment


def gains(
  models: Pair, name: str, groups: list[tuple[Place, ...]] | None = None
) -> Any:
  """Return [*blocks, n, n]: what each unit gains at each place.

  A product changes only with the other names of its piece (see `forget`); those
  that are no larger than the piece, or that never change, are kept.

  Args:
    models: the pair in its present order.
    name: of the units.
    groups: of places, all of the name's when left out.
  """
  plan, total = models.plan, None
  kept = models.products.setdefault(name, {})
  for group in plan.groups[name] if groups is None else groups:
    part = kept.get(group)
    if part is None:
      part = sum(_product(models, name, place) for place in group)
      k, _ = group[0]
      alone = sum(label in plan.places for label in plan.pieces[k].labels) == 1
      if not blocks(name) and (alone or part.size <= models.a[k].size):
        kept[group] = part
    total = part if total is None else total + part
  return total


def _product(models: Pair, name: str, place: Place) -> Any:
  k, axis = place
  labels = models.plan.pieces[k].labels
  bases = [None if n is None else base(n) for n in labels]
  batch = [bases.index(block) for block in blocks(name)]
  return grams.gram(models.a[k], models.b[k], axis, batch)


def forget(models: Pair, change: Perm) -> None:
  """Drop the products that a change made wrong; reorder those it moved."""
  for name, kept in models.products.items():
    for group in list(kept):
      k, axis = group[0]
      labels = models.plan.pieces[k].labels
      others = labels[:axis] + labels[axis + 1 :]
      if any(label in change for label in others):
        del kept[group]
      elif name in change:
        kept[group] = kept[group].take(change[name], axis=1)


def descend(
  plan: Plan,
  a: list[Any],
  b: list[Any],
  sweeps: Iterable[list[str]],
  solver: str,
  *,
  start: Perm | None = None,
) -> Descent:
  """Solve for one name after the other until nothing gains.

  Args:
    plan: of the axes.
    a: pieces of the model that stays.
    b: pieces of the model that is permuted, in its own order.
    sweeps: the names in the order of each sweep; its length is the limit.
    solver: of the assignments.
    start: where to begin; the identity when left out.
  """
  perm = _identity(plan) if start is None else start
  ordered = b if start is None else matching_plan.order(plan, b, perm)
  models = matching_plan.pair(plan, a, ordered, solver)
  now = objective(a, models.b, range(len(a)))
  trace, solves = [now], 0
  dirty, done = set(plan.places), 0
  for names in sweeps:
    for name in names:
      if name not in dirty:
        continue
      dirty.discard(name)
      changes = _changes(models, name)
      solves += len(changes)
      tried = [_tried(models, change, gain) for change, gain in changes]
      gain, change, moved = max(tried, key=lambda t: t[0])
      if gain > 0:
        now += gain
        for k, x in moved.items():
          models.b[k] = x
        forget(models, change)
        perm = _compose(plan, perm, change)
        dirty |= set().union(*(plan.near[n] for n in change))
        dirty |= set(plan.inner[name])
    done += 1
    trace.append(now)
    if not dirty:
      break
  final = objective(a, models.b, range(len(a)))
  return Descent(perm, final, done, trace, solves, models.seconds)


def _identity(plan: Plan) -> Perm:
  sizes = plan.axes.sizes
  return {
    n: np.broadcast_to(np.arange(sizes[n]), shape(plan.axes, n)).copy()
    for n in plan.places
  }


def _changes(models: Pair, name: str) -> list[tuple[Perm, float]]:
  """Return changes of one name, and what each gains or seems to.

  Of a name twice on one piece what the other pieces say by themselves is a
  second choice: with many units and few inputs the linearisation at a wrong
  order drowns it.
  """
  plan = models.plan
  if plan.inner[name]:
    return [heads.step(models, name)]
  groups = plan.groups[name]
  once = [
    group
    for group in groups
    if all(plan.pieces[k].labels.count(name) == 1 for k, _ in group)
  ]
  choices = [groups, once] if 0 < len(once) < len(groups) else [groups]
  return [_step(models, name, choice) for choice in choices]


def _step(
  models: Pair, name: str, groups: list[tuple[Place, ...]]
) -> tuple[Perm, float]:
  """Return the best change of one name, and what it gains."""
  began = time.perf_counter()
  found = gains(models, name, groups)
  middle = time.perf_counter()
  moves = assignment.solve(found, models.solver)
  models.seconds["products"] += middle - began
  models.seconds["assignment"] += time.perf_counter() - middle
  host = np.asarray(found).reshape(-1, *found.shape[-2:])
  rows, total = [], 0.0
  for matrix, row in zip(host, moves.reshape(len(host), -1)):
    kept, gain = assignment.keep_ties(matrix, row)
    rows.append(kept)
    total += gain
  if not total > 0:
    return {}, 0.0
  return {name: np.stack(rows).reshape(moves.shape)}, total


def _tried(
  models: Pair, change: Perm, gain: float
) -> tuple[float, Perm, dict[int, Any]]:
  """Reorder the pieces of b: return what that gains, the change, the pieces.

  A name twice on one piece makes the objective quadratic, and its assignment a
  linearisation: the gain is a guess then, and counts only if it is one.
  """
  plan, a, b = models.plan, models.a, models.b
  xp: Any = np if isinstance(b[0], np.ndarray) else jnp
  touched = sorted({k for n in change for k, _ in plan.places[n]})
  guess = any(
    sum(label in change for label in plan.pieces[k].labels) > 1 for k in touched
  )
  moved = {
    k: moving.move(xp, b[k], plan.pieces[k].labels, change) for k in touched
  }
  if guess:
    before = objective(a, b, touched)
    gain = objective(a, moved, touched) - before  # type: ignore[arg-type]
    gain = gain if gain > 1e-9 * abs(before) else 0.0
  return gain, change, moved


def _compose(plan: Plan, perm: Perm, change: Perm) -> Perm:
  """Return `perm` followed by a change of some names."""
  inner = {m for n in change for m in plan.inner[n]}
  names = [n for n in perm if n in change or n in inner]
  outer = {b for n in names for b in blocks(n)}
  names += [n for n in perm if base(n) in outer and n not in names]
  stay = {n: np.arange(perm[n].shape[-1]) for n in names}
  then = {
    n: change.get(n, np.broadcast_to(stay[n], perm[n].shape)) for n in names
  }
  return perm | permutations.compose({n: perm[n] for n in names}, then)
