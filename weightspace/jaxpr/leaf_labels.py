"""Labels: which axes of a parameter the axes of a derived array are.

A parameter is often turned before it is used: transposed, its heads merged or
split, cast.  A label follows it there, so that a product with the turned array
can be read as a product with axes of the parameter itself.

>>> label = of_leaf(0, (6, 4))
>>> turned = reshaped(transposed(label, (1, 0)), (2, 2, 6))
>>> [len(pieces) for pieces in turned.axes], turned.axes[0][0]
([1, 1, 1], Piece(axis=1, size=2, stride=2))
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax


class Piece(NamedTuple):
  """A factor of one axis of a parameter: `size` steps of `stride` along it."""

  axis: int
  size: int
  stride: int


class Label(NamedTuple):
  """What an array is of a parameter: the pieces that each axis runs over.

  Axes of length one have no pieces.  `taken` holds the axes of the parameter
  that are taken at one place: (axis, place).
  """

  leaf: int
  axes: tuple[tuple[Piece, ...], ...]
  taken: tuple[tuple[int, int], ...] = ()


def of_leaf(leaf: int, shape: Sequence[int]) -> Label:
  """Return the label of a parameter itself."""
  whole = (
    (Piece(axis, n, 1),) if n > 1 else () for axis, n in enumerate(shape)
  )
  return Label(leaf, tuple(whole))


def transposed(label: Label, order: Sequence[int]) -> Label:
  """Return the label of the array with its axes in another order."""
  return label._replace(axes=tuple(label.axes[axis] for axis in order))


def reshaped(label: Label, shape: Sequence[int]) -> Label | None:
  """Return the label of the reshaped array; None where no pieces fit."""
  pieces = [piece for axis in label.axes for piece in axis]
  axes = []
  for size in shape:
    group: list[Piece] = []
    while size > 1:
      piece = pieces.pop(0)
      if size % piece.size == 0:
        group.append(piece)
        size //= piece.size
      elif piece.size % size == 0:  # the axis is split: its major part first
        minor = piece.size // size
        group.append(Piece(piece.axis, size, piece.stride * minor))
        pieces.insert(0, Piece(piece.axis, minor, piece.stride))
        size = 1
      else:
        return None
    axes.append(tuple(group))
  return label._replace(axes=tuple(axes))


def indexed(label: Label, place: int) -> Label | None:
  """Return the label of `array[place]`; None where axis 0 is no whole axis."""
  first = label.axes[0]
  if len(first) != 1 or first[0].stride != 1:
    return None
  taken = (*label.taken, (first[0].axis, place))
  return label._replace(axes=label.axes[1:], taken=taken)


def through(label: Label, eqn: Any) -> Label | None:
  """Return the label behind an equation that only turns the array."""
  name, params = eqn.primitive.name, eqn.params
  shape = eqn.outvars[0].aval.shape
  if name in ("convert_element_type", "copy"):
    return label
  if name == "transpose":
    return transposed(label, params["permutation"])
  same = math.prod(shape) == math.prod(eqn.invars[0].aval.shape)
  if name in ("reshape", "squeeze", "expand_dims") and same:
    return reshaped(label, shape)
  if name == "broadcast_in_dim" and same:
    places = params["broadcast_dimensions"]
    return (
      reshaped(label, shape) if tuple(places) == tuple(sorted(places)) else None
    )
  return None


def arrange(
  value: jax.Array, axes: Sequence[Sequence[tuple[int, Piece]]]
) -> jax.Array:
  """Return an array as [batch, tokens, features], pieces in the leaf's order.

  Args:
    value: the array.
    axes: for each of its axes the pieces it runs over, each with its role: 0
      for batch, 1 for tokens, 2 for features.
  """
  flat = [entry for axis in axes for entry in axis]
  split = value.reshape([piece.size for _, piece in flat])
  order = sorted(
    range(len(flat)),
    key=lambda i: (flat[i][0], flat[i][1].axis, -flat[i][1].stride),
  )
  sizes = [
    math.prod(piece.size for role, piece in flat if role == kind)
    for kind in (0, 1, 2)
  ]
  return split.transpose(order).reshape(sizes)
