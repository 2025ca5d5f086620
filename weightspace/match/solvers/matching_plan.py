"""The plan of a matching: where each name is in the weights, as pieces.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"v": "a", "w": "a b"}, {"a": 2, "b": 3}, {})
>>> plan = make_plan(axes, {"v": np.ones(2), "w": np.ones((2, 3))})
>>> plan.places["a"], plan.near["a"]
([(0, 0), (1, 0)], {'b'})
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace.match.solvers import weight_terms
from weightspace.match.solvers.weight_terms import Piece
from weightspace.symmetry import moving
from weightspace.symmetry.axes import Axes, Perm, base, blocks, free
from weightspace.types import Params

Place = tuple[int, int]  # (piece, axis)
# What each unit gains at each place, by name and by group of places.
Products = dict[str, dict[tuple[Place, ...], Any]]


class Plan(NamedTuple):
  """What is known of the axes before the weights are looked at."""

  axes: Axes
  pieces: list[Piece]
  places: dict[str, list[Place]]  # name -> where it is
  groups: dict[str, list[tuple[Place, ...]]]  # places whose products are kept
  near: dict[str, set[str]]  # names that share a piece
  inner: dict[str, list[str]]  # name -> names that lie in its blocks


class Pair(NamedTuple):
  """Two models under one plan, and what a descent keeps of them.

  The second is in its present order: a step puts other arrays into `b`.
  """

  plan: Plan
  a: list[Any]  # pieces of the model that stays
  b: list[Any]  # pieces of the model that is permuted
  solver: str  # of the assignments
  seconds: dict[str, float]  # spent in products, in assignment
  products: Products  # those that are still right


def pair(plan: Plan, a: list[Any], b: list[Any], solver: str) -> Pair:
  """Return the pair before its first step."""
  return Pair(
    plan, a, list(b), solver, {"products": 0.0, "assignment": 0.0}, {}
  )


def make_plan(axes: Axes, params: Params) -> Plan:
  """Return where each name is, and whom it meets there."""
  found, names = weight_terms.cut(axes, params), free(axes)
  places: dict[str, list[Place]] = {name: [] for name in names}
  near: dict[str, set[str]] = {name: set() for name in names}
  for k, piece in enumerate(found):
    here = {label for label in piece.labels if label in places}
    for axis, label in enumerate(piece.labels):
      if label in places:
        places[label].append((k, axis))
        twice = piece.labels.count(label) > 1
        near[label] |= here if twice else here - {label}
  inner = {n: [m for m in names if base(n) in blocks(m)] for n in names}
  groups = {name: _groups(found, places, name) for name in names}
  return Plan(axes, found, places, groups, near, inner)


def _groups(
  found: list[Piece], places: dict[str, list[Place]], name: str
) -> list[tuple[Place, ...]]:
  """Return all places without another name together, and each other place."""
  single = []
  for k, axis in places[name]:
    if sum(label in places for label in found[k].labels) == 1:
      single.append((k, axis))
  rest = [(place,) for place in places[name] if place not in single]
  return [tuple(single)] * bool(single) + [*rest]


def load(plan: Plan, params: Params, xp: Any = np) -> list[Any]:
  """Return the pieces of a model, in float32."""
  return weight_terms.arrays(plan.pieces, params, xp)


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
