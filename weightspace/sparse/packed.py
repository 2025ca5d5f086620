"""Sparse vectors packed: one bit for each entry, and the kept ones alone.

A task vector of density d takes n / 8 bytes of bits and d n numbers; models are
added up from packed vectors one after the other, so that only one of them is
whole at a time.

>>> import jax.numpy as jnp
>>> small = pack({"w": jnp.array([0.0, 3.0, 0.0, -1.0])})
>>> small["w"].values.tolist(), small["w"].bits.tolist()
([3.0, -1.0], [80])
>>> unpack(small)["w"].tolist()
[0.0, 3.0, 0.0, -1.0]
"""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.sparse import masks
from weightspace.types import Params


@flax.struct.dataclass
class Packed:
  """A leaf of which only the kept entries are held."""

  bits: Any  # uint8 [ceil(n / 8)], in row-major order, the first bit highest
  values: Any  # [k], in that order
  shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
  frozen = ("bits",)

  def value(self) -> jax.Array:
    """Return the leaf, zeros where nothing is kept."""
    size = int(np.prod(self.shape))
    kept = jnp.unpackbits(jnp.asarray(self.bits), count=size).astype(bool)
    if not len(self.values):
      return jnp.zeros(self.shape, self.values.dtype)
    place = jnp.cumsum(kept, dtype=jnp.int32) - 1
    values = jnp.asarray(self.values)
    found = values[jnp.clip(place, 0)]
    return jnp.where(kept, found, jnp.zeros_like(found)).reshape(self.shape)


def pack(params: Params, mask: Params | None = None) -> Params:
  """Return the tree with its leaves packed.

  Args:
    params: of one model, or a task vector; concrete, not traced.
    mask: booleans, what is kept; None for what is not zero.

  Returns:
    A tree of `Packed`, in the dtypes of `params`; `unpack` of it is
    `apply(params, mask)`, bit for bit.

  Raises:
    ValueError: for traced values, or at the first leaf that the mask is not
      shaped as.

  >>> packed = pack({"w": np.eye(4, dtype=np.float32)})
  >>> packed["w"].bits.nbytes + packed["w"].values.nbytes  # of 64
  18

  Ours.
  """
  if not trees.concrete((params, mask)):
    raise ValueError("pack: traced values, expected concrete ones")
  if mask is None:
    mask = jax.tree.map(lambda x: np.asarray(x) != 0, params)
  masks.check(params, mask, "pack")

  def leaf(x: Any, keep: Any) -> Packed:
    x, keep = np.asarray(x), np.asarray(keep)
    bits = np.packbits(keep.reshape(-1))
    return Packed(bits, x.reshape(-1)[keep.reshape(-1)], x.shape)

  return jax.tree.map(leaf, params, mask)


def unpack(packed: Params) -> Params:
  """Return the plain arrays of a packed tree.

  >>> unpack(pack({"w": np.array([0.0, 2.0], np.float32)}))["w"].tolist()
  [0.0, 2.0]
  """
  return jax.tree.map(lambda x: x.value(), packed, is_leaf=_is_packed)


def merged(
  base: Params, packed: Sequence[Params], weights: Sequence[float] | Any = None
) -> Params:
  """Return base + sum_m w_m v_m of packed vectors, one after the other.

  Args:
    base: of one model.
    packed: M packed task vectors of its structure and shapes.
    weights: [M]; None for all 1.

  Returns:
    Params: summed in float32, in the dtypes of `base`.

  Raises:
    ValueError: without vectors, for weights of another number, or at the first
      path that is not packed or has another shape.

  >>> base = {"w": np.ones(2, np.float32)}
  >>> one, two = pack({"w": np.eye(2)[0]}), pack({"w": np.eye(2)[1]})
  >>> merged(base, [one, two], [2.0, 3.0])["w"].tolist()
  [3.0, 4.0]

  Task arithmetic (Ilharco et al. 2023, https://arxiv.org/abs/2212.04089); from
  packed vectors ours.
  """
  weights = np.ones(len(packed)) if weights is None else np.asarray(weights)
  if not len(packed) or weights.shape != (len(packed),):
    raise ValueError(
      f"merged: {len(packed)} vectors and weights {weights.shape}, expected"
      " vectors, and one weight for each"
    )
  names, leaves = trees.names(base), jax.tree.leaves(base)
  for index, vector in enumerate(packed):
    _check(names, leaves, vector, index)

  def leaf(start: Any, *parts: Packed) -> jax.Array:
    start = jnp.asarray(start)
    if not trees.inexact(start):
      return start
    total = start.astype(trees.accumulator(start.dtype))
    for weight, part in zip(weights, parts):
      total = total + np.float32(weight) * part.value().astype(total.dtype)
    return total.astype(start.dtype)

  structure = jax.tree.structure(base)
  vectors = [jax.tree.leaves(v, is_leaf=_is_packed) for v in packed]
  return jax.tree.unflatten(structure, map(leaf, leaves, *vectors))


def _is_packed(x: Any) -> bool:
  return isinstance(x, Packed)


def _check(
  names: list[str], leaves: list[Any], vector: Params, index: int
) -> None:
  """Raise a ValueError at the first path where a vector does not fit."""
  paths = jax.tree_util.tree_flatten_with_path(vector, is_leaf=_is_packed)[0]
  found = {
    jax.tree_util.keystr(path, simple=True, separator="/"): x
    for path, x in paths
  }
  for name, leaf in zip(names, leaves):
    part = found.pop(name, None)
    if not _is_packed(part) or part.shape != np.shape(leaf):
      shown = part.shape if _is_packed(part) else type(part).__name__
      raise ValueError(
        f"merged: {name!r} of vector {index} is {shown}, expected Packed"
        f" {np.shape(leaf)}"
      )
  if found:
    raise ValueError(f"merged: {min(found)!r} of vector {index} is unexpected")
