"""Assignments of all names from similarities, blocks by what they hold.

>>> axes = Axes({"w": "h h>d"}, {"h": 2, "h>d": 1}, {})
>>> alike = {"h>d": np.array([[0.0, 1.0], [1.0, 0.0]])}
>>> solve(axes, alike, "scipy")["h"].tolist()
[1, 0]
"""

from typing import Any

import numpy as np

from weightspace.match.solvers import assignment
from weightspace.symmetry import permutations
from weightspace.symmetry.axes import Axes, Perm, base, blocks, free, shape


def solve(axes: Axes, alike: dict[str, np.ndarray], solver: str) -> Perm:
  """Return the best permutation for similarities [N, N] of each name.

  N counts a name's units in all its blocks.
  """
  perm: Perm = {}
  movable = set(free(axes))
  for name in sorted(movable, key=lambda n: len(blocks(n))):
    outer = [n for n in movable if base(n) in blocks(name)]
    if outer:
      perm[name] = _rows(axes, alike, perm, name, solver)
      continue
    n = axes.sizes[name]
    whole = shape(axes, name)
    rows = int(np.prod(whole[:-1]))
    own = alike.get(name)
    gains = np.zeros((rows, n, n)) if own is None else _diagonal(own, rows)
    for inner in movable:
      above = [base(m) for m in movable if base(m) in blocks(inner)]
      if above == [base(name)] and inner in alike:
        gains = gains + _held(alike[inner], rows, n, solver)
    perm[name] = assignment.solve(gains, solver).reshape(whole)
  return {name: perm[name] for name in free(axes)}


def _held(whole: np.ndarray, rows: int, n: int, solver: str) -> np.ndarray:
  """Return [rows, n, n]: what the units of every two blocks gain together."""
  units = len(whole) // (rows * n)
  grams = _diagonal(whole, rows).reshape(rows, n, units, n, units)
  grams = grams.transpose(0, 1, 3, 2, 4)
  moves = assignment.solve(grams, solver)
  return np.take_along_axis(grams, moves[..., None], -1)[..., 0].sum(-1)


def _diagonal(whole: np.ndarray, rows: int) -> np.ndarray:
  """Return the blocks [rows, N, N] on the diagonal of [rows N, rows N]."""
  n = len(whole) // rows
  at = np.arange(rows)
  return whole.reshape(rows, n, rows, n)[at, :, at]


def _rows(
  axes: Axes, alike: Any, perm: Perm, name: str, solver: str
) -> np.ndarray:
  """Match the units of a name block by block, the blocks being matched."""
  whole, n = shape(axes, name), axes.sizes[name]
  rows = int(np.prod(whole[:-1]))
  if name not in alike:
    return np.broadcast_to(np.arange(n), whole).copy()
  # A unit's block in b is where its block's permutation takes it from.
  unit = permutations.source_rows(perm, name, whole[:-1])
  here = np.arange(rows)
  gains = alike[name].reshape(rows, n, rows, n)[here, :, unit]
  return assignment.solve(gains, solver).reshape(whole)
