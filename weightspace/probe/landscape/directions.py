"""Directions in weight space: random, with the scale of the model they leave.

A unit of a ReLU network may be scaled up and the next layer down without a
change of the function, so a plain random direction says as much about scales
as about the loss.  Filter normalisation gives each unit's part of the direction
the norm of that unit.  What a unit is depends on the kernel: `filter_axes`.

>>> params = {"Dense_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
>>> direction = random_direction(params, jax.random.key(0))
>>> jnp.linalg.norm(direction["Dense_0"]["kernel"], axis=0).round(4).tolist()
[1.732..., 1.732...]
>>> direction["Dense_0"]["bias"].tolist()
[0.0, 0.0]
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.probe.landscape import layouts
from weightspace.types import Apply, Key, Params

NORMALIZATIONS = ("filter", "layer", "model", "none")
VECTORS = ("bias", "scale", "offset")
INPUTS_FIRST = ("query", "key", "value")  # attention: [in, heads, size]


def filter_axes(
  params: Params,
  axes: Mapping[str, tuple[int, ...]] | None = None,
  *,
  apply: Apply | None = None,
  x: Any = None,
) -> dict[str, tuple[int, ...]]:
  """Return for each leaf the axes within one filter: those of its norm.

  A filter is what feeds one output unit.  With `apply` and `x` it is read off
  what the model does with a leaf, in any layout: the axes that its inputs are
  contracted with, or, where rows are looked up, those of a row.  Without, and
  for leaves that are used in several ways, flax's layouts are assumed:

  | leaf | shape | one filter |
  | --- | --- | --- |
  | dense kernel | [in, out] | a column: axis 0 |
  | convolution | [..., in, out] | all but the last axis |
  | query, key, value kernel | [in, heads, size] | axis 0 |
  | attention out kernel | [heads, size, out] | axes 0 and 1 |
  | any `embedding` | [..., V, width] | a row: the last axis |
  | bias, scale, offset, other vectors | [out], [heads, size] | none: () |

  PyTorch's and equinox's [out, in] is not among them: give `apply`.

  Args:
    params: one model.
    axes: {path: axes} where the table is wrong, such as scanned layers (a
      leading layer axis is no part of a filter) or one's own parameters.
    apply: `apply(params, x) -> outputs`, to read the layouts off.
    x: a batch of its inputs, or their shapes.

  Returns:
    {path: axes}.

  Raises:
    ValueError: for a path that is not in the model, or an axis out of range.

  >>> filter_axes({"Embed_0": {"embedding": jnp.ones((7, 4))}})
  {'Embed_0/embedding': (1,)}

  Li et al. 2018, https://arxiv.org/abs/1712.09913, for convolutions and dense
  layers; the other rows are ours.
  """
  given, leaves = dict(axes or {}), trees.named(params)
  if (apply is None) != (x is None):
    raise ValueError("filter_axes: expected both of apply and x, or neither")
  read = {} if apply is None else layouts.filters(apply, params, x)
  found = {}
  for path, leaf in leaves.items():
    own = given.pop(path, None)
    dims = np.ndim(leaf)
    if own is not None and not all(-dims <= a < dims for a in own):
      raise ValueError(f"axes: {path!r} has {dims} axes, got {own}")
    if own is None:
      own = read.get(path, _default(path, dims))
    found[path] = tuple(own)
  if given:
    first = next(iter(given))
    raise ValueError(f"axes: {first!r} is no leaf, expected one of {[*leaves]}")
  return found


def _default(path: str, dims: int) -> tuple[int, ...]:
  *layers, name = path.split("/")
  if dims < 2 or name in VECTORS:
    return ()
  if "embedding" in name:
    return (dims - 1,)
  if dims == 3 and layers and layers[-1] in INPUTS_FIRST:
    return (0,)
  return tuple(range(dims - 1))


def random_direction(
  params: Params,
  key: Key,
  normalize: str = "filter",
  *,
  vectors: str = "auto",
  axes: Mapping[str, tuple[int, ...]] | None = None,
  apply: Apply | None = None,
  x: Any = None,
) -> Params:
  """Draw a direction d ~ N(0, 1), scaled to the model.

  filter: d_j <- d_j |w_j| / |d_j| for each filter j; layer: for each leaf;
  model: for all leaves together; none: as drawn.

  Args:
    params: one model; read, never changed.
    key: of the draw; each leaf has its own stream, keyed by its path.
    normalize: "filter", "layer", "model" or "none".
    vectors: leaves of one dimension, biases and norms' scales: "zero",
      "random" (drawn, with the norm of the whole leaf under "filter"), or
      "auto": zero under "filter", random elsewhere.
    axes: for `filter_axes`.
    apply: for `filter_axes`: layouts are read off it; without it they are
      taken to be flax's.
    x: a batch of its inputs.

  Returns:
    A tree like `params`, in float32 or wider; integer leaves are 0.  A filter
    of zero weights has a zero direction.

  Raises:
    ValueError: for an unknown option, or from `filter_axes`.

  >>> d = random_direction({"w": jnp.full((2, 2), 3.0)}, jax.random.key(0))
  >>> round(float(jnp.linalg.norm(d["w"][:, 0])), 4)  # that of (3, 3)
  4.2426

  Li et al. 2018, "Visualizing the loss landscape of neural nets",
  https://arxiv.org/abs/1712.09913; zero for vectors is their code's `biasbn`.
  """
  if normalize not in NORMALIZATIONS:
    raise ValueError(
      f"normalize: {normalize!r}, expected one of {NORMALIZATIONS}"
    )
  if vectors not in ("auto", "zero", "random"):
    raise ValueError(f"vectors: {vectors!r}, expected auto, zero or random")
  trees.check_arrays(params, "random_direction")
  zero = vectors == "zero" or (vectors == "auto" and normalize == "filter")
  within = filter_axes(params, axes, apply=apply, x=x)

  def draw(path: str, leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    if not trees.inexact(leaf) or (zero and not within[path]):
      return jnp.zeros(leaf.shape, jnp.float32)
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    drawn = jax.random.normal(own, leaf.shape, trees.accumulator(leaf.dtype))
    if normalize not in ("filter", "layer"):
      return drawn
    by_filter = normalize == "filter" and within[path]
    over = within[path] if by_filter else tuple(range(leaf.ndim))
    return drawn * _safe_ratio(_norm(leaf, over), _norm(drawn, over))

  result = trees.map_named(draw, params)
  if normalize == "model":
    floats = [x for x in jax.tree.leaves(params) if trees.inexact(x)]
    scale = _safe_ratio(_total(floats), _total(jax.tree.leaves(result)))
    result = jax.tree.map(lambda x: x * scale, result)
  return result


def _norm(x: jax.Array, over: tuple[int, ...]) -> jax.Array:
  wide = jnp.abs(x.astype(trees.accumulator(x.dtype)))
  return jnp.sqrt((wide**2).sum(over, keepdims=True))


def _total(leaves: list[Any]) -> jax.Array:
  squares = [_norm(jnp.ravel(x), (0,))[0] ** 2 for x in leaves]
  return jnp.sqrt(jnp.stack(squares).sum())


def _safe_ratio(wanted: jax.Array, found: jax.Array) -> jax.Array:
  return wanted / jnp.where(found > 0, found, 1.0)
