"""Coordinate descent over permutations: the inner loop of matching.

The second model is kept in its present order, so a solve for one name asks
which units change places from there: what stays is the diagonal.  A name is
solved again only when something that it meets has moved.

>>> from weightspace.match.axes import Axes
>>> axes = Axes({"w": "a"}, {"a": 2}, {"": ""})
>>> a, b = {"w": np.array([1.0, 2.0])}, {"w": np.array([2.0, 1.0])}
>>> plan = make_plan(axes, a)
>>> found = descend(plan, load(plan, a), load(plan, b), [["a"]] * 9, "scipy")
>>> found.perm["a"].tolist(), found.objective
([1, 0], 5.0)
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace.match import assignment, grams, moving, perms, pieces
from weightspace.match.axes import Axes, Perm, base, blocks, free
from weightspace.match.pieces import Piece
from weightspace.types import Params


class Plan(NamedTuple):
  """What is known of the axes before the weights are looked at."""

  axes: Axes
  pieces: list[Piece]
  places: dict[str, list[tuple[int, int]]]  # name -> (piece, axis)
  near: dict[str, set[str]]  # names that share a piece
  inner: dict[str, list[str]]  # name -> names that lie in its blocks


class Descent(NamedTuple):
  """Where a descent ended, and how."""

  perm: Perm
  objective: float
  sweeps: int
  trace: list[float]  # the objective at the start and after each sweep
  solves: int
  seconds: dict[str, float]  # in products, in assignment


def make_plan(axes: Axes, params: Params) -> Plan:
  """Return where each name is, and whom it meets there."""
  found, names = pieces.cut(axes, params), free(axes)
  places: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
  near: dict[str, set[str]] = {name: set() for name in names}
  for k, piece in enumerate(found):
    here = {label for label in piece.labels if label in places}
    for axis, label in enumerate(piece.labels):
      if label in places:
        places[label].append((k, axis))
        twice = piece.labels.count(label) > 1
        near[label] |= here if twice else here - {label}
  inner = {n: [m for m in names if base(n) in blocks(m)] for n in names}
  return Plan(axes, found, places, near, inner)


def load(plan: Plan, params: Params, xp: Any = np) -> list[Any]:
  """Return the pieces of a model, in float32."""
  return pieces.arrays(plan.pieces, params, xp)


def order(plan: Plan, arrays: list[Any], perm: Perm) -> list[Any]:
  """Return the pieces of a permuted model."""
  xp: Any = np if isinstance(arrays[0], np.ndarray) else jnp
  return [
    moving.move(xp, x, piece.labels, perm)
    for piece, x in zip(plan.pieces, arrays)
  ]


def objective(a: list[Any], b: list[Any], which: Iterable[int]) -> float:
  """Return the sum of products of pieces, in float64."""
  total = 0.0
  for k in which:
    x, y = np.asarray(a[k]), np.asarray(b[k])
    total += float(np.einsum("i,i->", x.ravel(), y.ravel(), dtype=np.float64))
  return total


def gains(
  plan: Plan, a: list[Any], b: list[Any], name: str, known: dict[str, Any]
) -> Any:
  """Return [*blocks, n, n]: what each unit gains at each place.

  Products of pieces that have no other name do not change but for the order of
  their columns: `known` keeps their sum.
  """
  total, alone = known.get(name), known.get(name)
  for k, axis in plan.places[name]:
    labels = plan.pieces[k].labels
    single = not blocks(name) and sum(x in plan.places for x in labels) == 1
    if single and name in known:
      continue
    bases = [None if n is None else base(n) for n in labels]
    batch = [bases.index(block) for block in blocks(name)]
    part = grams.gram(a[k], b[k], axis, batch)
    if single:
      alone = part if alone is None else alone + part
    total = part if total is None else total + part
  if alone is not None:
    known[name] = alone
  return total


def descend(
  plan: Plan,
  a: list[Any],
  b: list[Any],
  sweeps: Iterable[list[str]],
  solver: str,
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
  from weightspace.match import nested

  perm = _identity(plan) if start is None else start
  b = order(plan, b, perm) if start is not None else list(b)
  now = objective(a, b, range(len(a)))
  trace, solves, clock = [now], 0, {"products": 0.0, "assignment": 0.0}
  dirty, done = set(plan.places), 0
  known: dict[str, Any] = {}
  for names in sweeps:
    for name in names:
      if name not in dirty:
        continue
      dirty.discard(name)
      step = nested.step if plan.inner[name] else _step
      change, gain = step(plan, a, b, name, solver, clock, known)
      solves += 1
      if not change:
        continue
      touched = sorted({k for n in change for k, _ in plan.places[n]})
      gain, accepted = _apply(plan, a, b, change, touched, gain)
      if accepted:
        now += gain
        for n in known.keys() & change:
          known[n] = known[n][:, change[n]]
        perm = _compose(plan, perm, change)
        dirty |= set().union(*(plan.near[n] for n in change))
        dirty |= set(plan.inner[name])
    done += 1
    trace.append(now)
    if not dirty:
      break
  final = objective(a, b, range(len(a)))
  return Descent(perm, final, done, trace, solves, clock)


def _identity(plan: Plan) -> Perm:
  from weightspace.match.axes import shape

  sizes = plan.axes.sizes
  return {
    n: np.broadcast_to(np.arange(sizes[n]), shape(plan.axes, n)).copy()
    for n in plan.places
  }


def _step(
  plan: Plan,
  a: Any,
  b: Any,
  name: str,
  solver: str,
  clock: dict[str, float],
  known: dict[str, Any],
) -> tuple[Perm, float]:
  """Return the best change of one name, and what it gains."""
  began = time.perf_counter()
  found = gains(plan, a, b, name, known)
  middle = time.perf_counter()
  moves = assignment.solve(found, solver)
  clock["products"] += middle - began
  clock["assignment"] += time.perf_counter() - middle
  host = np.asarray(found).reshape(-1, *found.shape[-2:])
  rows, total = [], 0.0
  for matrix, row in zip(host, moves.reshape(len(host), -1)):
    kept, gain = assignment.keep_ties(matrix, row)
    rows.append(kept)
    total += gain
  if not total > 0:
    return {}, 0.0
  return {name: np.stack(rows).reshape(moves.shape)}, total


def _apply(
  plan: Plan, a: Any, b: Any, change: Perm, touched: list[int], gain: float
) -> tuple[float, bool]:
  """Reorder the pieces of b; where the gain was a guess, only if it is one.

  A name twice on one piece makes the objective quadratic, and its assignment a
  linearisation.
  """
  xp: Any = np if isinstance(b[0], np.ndarray) else jnp
  guess = any(
    sum(label in change for label in plan.pieces[k].labels) > 1 for k in touched
  )
  moved = {
    k: moving.move(xp, b[k], plan.pieces[k].labels, change) for k in touched
  }
  if guess:
    before = objective(a, b, touched)
    gain = objective(a, moved, touched) - before  # type: ignore[arg-type]
    if not gain > 1e-9 * abs(before):
      return 0.0, False
  for k, x in moved.items():
    b[k] = x
  return gain, True


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
  return perm | perms.compose({n: perm[n] for n in names}, then)
