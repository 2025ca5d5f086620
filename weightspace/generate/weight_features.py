"""Numbers that describe a model and do not change when its units are reordered.

Moments and sorted statistics of every leaf, of the units along each of its
axes, and of its singular values.  How many there are depends on the leaves, not
on their widths, so that models of several widths can be told from each other.

>>> axes = Axes({"w": "2 h"}, {"h": 3}, {})
>>> stack = {"w": jnp.arange(12.0).reshape(2, 2, 3)}
>>> names = feature_names(axes, {"w": stack["w"][0]})
>>> features(axes, stack).shape, len(names), names[1]
((2, 21), 21, 'w:0 mean')
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.generate.unit_pieces import FIXED, INDEX, each_piece
from weightspace.symmetry import checks
from weightspace.symmetry.axes import Axes, base, blocks
from weightspace.types import Params, Stack

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)  # quantiles that stand for a sorted list
TINY = 1e-8  # logarithms of what is below it are those of it
Numbers = Iterator[tuple[str, jax.Array]]


def features(axes: Axes, stack: Stack) -> jax.Array:
  """Return numbers of each model that no reordering of its units changes.

  Of each piece (a leaf, or a part of one that is a concatenation or lies in
  scanned layers) the logarithm of its standard deviation and, in units of it,
  its mean, skewness, kurtosis and quantiles; of each axis of units the
  quantiles of the units' root mean squares, in units of the piece's; of its
  matrix, whose columns are the last axis with what belongs to it, the logarithm
  of the largest singular value, the quantiles of all in units of it, and the
  mean of their squares, which is the stable rank as a share.

  Args:
    axes: from `symmetry.trace_axes`, for one model.
    stack: M models, leaves [M, ...]; leaves that are not floating do not count.

  Returns:
    [M, F] float32; F depends on the leaves and their axes, not on widths.

  Raises:
    ValueError: for NaN, a leaf that does not fit its axes, or no floating leaf.

  >>> axes = Axes({"w": "2 h"}, {"h": 3}, {})
  >>> one = jnp.arange(6.0).reshape(1, 2, 3)
  >>> a, b = (features(axes, {"w": x}) for x in (one, one[:, :, ::-1]))
  >>> bool(jnp.allclose(a, b, atol=1e-5))
  True

  Statistics of layers as predictors: Unterthiner et al. 2020,
  https://arxiv.org/abs/2002.11448; those of units and spectra, and the choice,
  are ours.
  """
  trees.size(stack)
  trees.check_finite(stack, "features", stacked=True)
  checks.check_params(axes, jax.tree.map(lambda x: x[0], stack), "features")

  def one(params: Params) -> jax.Array:
    return jnp.stack([value for _, value in _describe(axes, params)])

  return jax.vmap(one)(stack)


def feature_names(axes: Axes, params: Params) -> list[str]:
  """Return what each column of `features` is.

  >>> feature_names(Axes({"b": "h"}, {"h": 2}, {}), {"b": jnp.ones(2)})[-1]
  'b:0 units of axis 0, quantile 1'
  """
  names: list[str] = []

  def tell(params: Params) -> None:
    names.extend(name for name, _ in _describe(axes, params))

  jax.eval_shape(tell, params)
  return names


def _describe(axes: Axes, params: Params) -> list[tuple[str, jax.Array]]:
  """Return every feature of one model with its name."""
  numbers: list[tuple[str, jax.Array]] = []

  def tell(piece: str, labels: list[Any], x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jnp.floating):
      wide = x.astype(jnp.float32)
      parts = (
        _of_entries(wide),
        _of_units(wide, labels),
        _of_matrix(wide, labels),
      )
      numbers.extend((f"{piece} {n}", v) for part in parts for n, v in part)
    return x

  each_piece(axes, params, tell)
  if not numbers:
    raise ValueError("features: no floating leaves, expected at least one")
  return numbers


def _of_entries(x: jax.Array) -> Numbers:
  mean, deviation = jnp.mean(x), jnp.std(x)
  scale = jnp.maximum(deviation, TINY)
  yield "log deviation", jnp.log(scale)
  yield "mean", mean / scale
  yield "skewness", jnp.mean(((x - mean) / scale) ** 3)
  yield "kurtosis", jnp.mean(((x - mean) / scale) ** 4)
  yield from _quantiles("entries", x / scale)


def _of_units(x: jax.Array, labels: list[Any]) -> Numbers:
  """Yield the quantiles of the sizes of units, each within its block."""
  scale = jnp.maximum(jnp.sqrt(jnp.mean(x**2)), TINY)
  for number, axis in enumerate(a for a, n in enumerate(labels) if n != FIXED):
    kept = _holders(labels, axis) | {axis}
    rest = tuple(a for a in range(x.ndim) if a not in kept)
    sizes = jnp.sqrt(jnp.mean(x**2, rest))
    yield from _quantiles(f"units of axis {number}", sizes / scale)


def _holders(labels: list[Any], axis: int) -> set[int]:
  """Return the axes of the blocks that the units of an axis lie in."""
  held = blocks(labels[axis]) if labels[axis] != FIXED else []
  return {
    a
    for a, name in enumerate(labels)
    if name != FIXED and base(name).split(INDEX)[0] in held
  }


def _of_matrix(x: jax.Array, labels: list[Any]) -> Numbers:
  """Yield what is told of singular values, where there are two sides.

  Units and their blocks are on one side, or their order would change more than
  the order of columns.
  """
  columns = {x.ndim - 1} | _holders(labels, x.ndim - 1) if x.ndim else set()
  columns |= {a for a in range(x.ndim) if _holders(labels, a) & columns}
  rows = [a for a in range(x.ndim) if a not in columns]
  if not rows or any(_holders(labels, a) & columns for a in rows):
    return
  size = 1
  for axis in rows:
    size *= x.shape[axis]
  turned = jnp.transpose(x, [*rows, *sorted(columns)]).reshape(size, -1)
  values = jnp.linalg.svd(turned, compute_uv=False)
  largest = jnp.maximum(values[0], TINY)
  yield "log spectral norm", jnp.log(largest)
  yield "stable rank", jnp.mean((values / largest) ** 2)
  yield from _quantiles("singular values", values / largest)


def _quantiles(what: str, x: jax.Array) -> Numbers:
  quantiles = jnp.quantile(x.ravel(), jnp.array(PLACES))
  for place, value in zip(PLACES, quantiles):
    yield f"{what}, quantile {place:g}", value
