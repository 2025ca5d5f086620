"""Pieces: parameters cut so that every axis has one name or none.

A product axis is reshaped and a sum axis is cut apart, so `(4 conv)` and
`(a+b)` become plain axes; what is compared or averaged unit by unit is then an
array with labels.  Pieces are views where they can be.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "(2 a) 3"}, {"a": 4}, {})
>>> piece = cut(axes, {"w": np.ones((8, 3))})[0]
>>> piece.labels, view(piece, np.ones((8, 3))).shape
((None, 'a', None), (2, 4, 3))
"""

from typing import Any, NamedTuple

import numpy as np

from weightspace import trees
from weightspace.symmetry import checks, terms
from weightspace.symmetry.axes import Axes, extent, parse
from weightspace.types import Params


class Stretch(NamedTuple):
  """A part of an axis."""

  axis: int
  start: int
  stop: int


class Piece(NamedTuple):
  """A part of a leaf: how it is cut out, and the name of each of its axes."""

  path: str
  steps: tuple[Any, ...]  # a Stretch, or a shape to reshape to
  labels: tuple[str | None, ...]


def cut(axes: Axes, params: Params) -> list[Piece]:
  """Return the pieces of all leaves that are compared.

  BatchNorm statistics and whole numbers are not.
  """
  patterns, found = trees.named(axes.tree), []
  for path, leaf in trees.named(params).items():
    if not checks.is_statistic(path, axes) and trees.inexact(leaf):
      for steps, labels in split(list(parse(patterns[path])), axes.sizes):
        found.append(Piece(path, steps, labels))
  return found


def split(
  found: list[Any], sizes: dict[str, int], steps: Any = ()
) -> list[Any]:
  """Return (steps, labels) of the pieces of an array with these axes."""
  if any(isinstance(t, terms.Product) for t in found):
    flat = [f for t in found for f in terms.factors(t)]
    shape = tuple(extent(t, sizes) for t in flat)
    return split(flat, sizes, (*steps, shape))
  for axis, term in enumerate(found):
    if isinstance(term, terms.Sum):
      start, result = 0, []
      for part in term.parts:
        stop = start + extent(part, sizes)
        inner = [*found[:axis], part, *found[axis + 1 :]]
        result += split(inner, sizes, (*steps, Stretch(axis, start, stop)))
        start = stop
      return result
  return [(steps, tuple(n if isinstance(n, str) else None for n in found))]


def view(piece: Piece, leaf: Any) -> Any:
  """Return the piece of a leaf.

  >>> piece = Piece("w", (Stretch(0, 1, 3), (1, 2)), (None, None))
  >>> view(piece, np.arange(4)).tolist()
  [[1, 2]]
  """
  for step in piece.steps:
    if isinstance(step, Stretch):
      leaf = leaf[(slice(None),) * step.axis + (slice(step.start, step.stop),)]
    else:
      leaf = leaf.reshape(step)
  return leaf


def arrays(found: list[Piece], params: Params, xp: Any = np) -> list[Any]:
  """Return the pieces of a model in float32; of complex numbers both parts."""
  leaves, result = trees.named(params), []
  wide: dict[str, Any] = {}
  for piece in found:
    if piece.path not in wide:
      leaf = xp.asarray(leaves[piece.path])
      if np.iscomplexobj(leaf):
        leaf = xp.stack([leaf.real, leaf.imag], -1)
      kind = np.float64 if leaf.dtype == np.float64 else np.float32
      wide[piece.path] = leaf if leaf.dtype == kind else leaf.astype(kind)
    result.append(view(piece, wide[piece.path]))
  return result
