"""A model as arrays of units with channels: what layers on weights take.

A piece is a leaf, or a part of one where an axis is a concatenation or lies in
several fixed blocks.  Its axes that units stand on come first; all others,
which nothing permutes, are flattened into channels.

>>> axes = Axes({"b": "h", "w": "2 h"}, {"h": 3}, {})
>>> params = {"b": jnp.zeros(3), "w": jnp.arange(6.0).reshape(2, 3)}
>>> read(axes, params)["w:0"].tolist()
[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.symmetry import checks, moving
from weightspace.symmetry.axes import Axes, base, blocks, extent, parse
from weightspace.types import Params

Features = dict[str, jax.Array]  # {piece: [*units, channels]}
Change = Callable[[str, list[Any], jax.Array], jax.Array]
INDEX = "#"  # between a name and the fixed block whose units are meant
FIXED = 0  # the label of an axis that nothing permutes


def read(axes: Axes, params: Params) -> Features:
  """Return a model as features: units first, then fixed axes as channels.

  Args:
    axes: from `symmetry.trace_axes`.
    params: one model.

  Returns:
    {piece: [*units, channels]}.

  Raises:
    ValueError: at the first leaf that does not fit its axes.

  >>> read(Axes({"w": "h 2"}, {"h": 1}, {}), {"w": jnp.ones((1, 2))})["w:0"]
  Array([[1., 1.]], dtype=float32)
  """
  checks.check_params(axes, params, "read")
  features: Features = {}

  def keep(piece: str, labels: list[Any], x: jax.Array) -> jax.Array:
    units = sum(label != FIXED for label in labels)
    turned = jnp.transpose(x, _units_first(labels))
    features[piece] = turned.reshape(*turned.shape[:units], -1)
    return x

  each_piece(axes, params, keep)
  return features


def write(axes: Axes, features: Features, like: Params) -> Params:
  """Return features as a tree shaped like a model: the inverse of `read`.

  Args:
    axes: from `symmetry.trace_axes`.
    features: with as many channels as `read` gives.
    like: parameters, for their shapes and dtypes.

  Raises:
    ValueError: at the first piece that is missing or of another shape.

  >>> axes, params = Axes({"w": "2 h"}, {"h": 3}, {}), {"w": jnp.ones((2, 3))}
  >>> write(axes, read(axes, params), params)["w"].shape
  (2, 3)
  """
  checks.check_params(axes, like, "write")

  def put(piece: str, labels: list[Any], x: jax.Array) -> jax.Array:
    order = _units_first(labels)
    shape = [x.shape[axis] for axis in order]
    got = features.get(piece)
    if got is None or got.size != x.size:
      raise ValueError(
        f"write: {piece!r} is {None if got is None else got.shape}, expected"
        f" what `read` gives of {x.shape}"
      )
    back = sorted(range(x.ndim), key=lambda a: order[a])
    return jnp.transpose(got.reshape(shape), back).astype(x.dtype)

  return each_piece(axes, like, put)


def channels(axes: Axes, params: Params) -> dict[str, int]:
  """Return the number of channels of each piece, as `read` gives them.

  >>> axes = Axes({"w": "2 h"}, {"h": 3}, {})
  >>> channels(axes, {"w": jnp.ones((2, 3))})
  {'w:0': 2}
  """
  shapes = jax.eval_shape(lambda p: read(axes, p), params)
  return {piece: shape.shape[-1] for piece, shape in shapes.items()}


def unit_axes(axes: Axes) -> dict[str, tuple[str, ...]]:
  """Return the names of the unit axes of each piece.

  >>> unit_axes(Axes({"w": "2 h"}, {"h": 3}, {}))
  {'w:0': ('h',)}
  """
  names: dict[str, tuple[str, ...]] = {}

  def keep(piece: str, labels: list[Any], x: jax.Array) -> jax.Array:
    names[piece] = tuple(label for label in labels if label != FIXED)
    return x

  def blank(pattern: str) -> jax.Array:
    return jnp.zeros([extent(term, axes.sizes) for term in parse(pattern)])

  jax.eval_shape(lambda: each_piece(axes, jax.tree.map(blank, axes.tree), keep))
  return names


def _units_first(labels: list[Any]) -> list[int]:
  return sorted(range(len(labels)), key=lambda axis: labels[axis] == FIXED)


def each_piece(axes: Axes, tree: Any, change: Change) -> Any:
  """Replace each piece of a tree by change(piece, labels, array).

  Products of axes are one axis a factor, and units of fixed blocks (scanned
  layers) are taken block by block, as each block has an order of its own.  A
  label is a name of units, or `FIXED`.

  >>> axes = Axes({"w": "2 h"}, {"h": 1}, {})
  >>> each_piece(axes, {"w": jnp.ones((2, 1))}, lambda *piece: print(piece[:2]))
  ('w:0', [0, 'h'])
  {'w': None}
  """
  patterns = trees.named(axes.tree)

  def leaf(path: str, x: Any) -> Any:
    count = itertools.count()

    def part(x: Any, labels: list[Any]) -> Any:
      names = [label for label in labels if isinstance(label, str)]
      holders = {block for name in names for block in blocks(name)}
      for axis, label in enumerate(labels):
        if label in axes.pins and base(label) in holders:
          inner = [_at_block(labels, axis, i) for i in range(x.shape[axis])]
          slices = [
            part(jnp.take(x, i, axis), rest) for i, rest in enumerate(inner)
          ]
          return jnp.stack(slices, axis)
      free = [
        label if label in names and label not in axes.pins else FIXED
        for label in labels
      ]
      return change(f"{path}:{next(count)}", free, x)

    terms = parse(patterns[path])
    return moving.by_parts(jnp.asarray(x), terms, axes.sizes, part)

  return trees.map_named(leaf, tree)


def _at_block(labels: list[Any], axis: int, index: int) -> list[Any]:
  """Return the labels of what lies at one index of a fixed block."""
  block = base(labels[axis])
  return [
    f"{label}{INDEX}{index}"
    if isinstance(label, str) and block in blocks(label)
    else label
    for label in labels[:axis] + labels[axis + 1 :]
  ]
