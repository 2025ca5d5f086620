"""A population as a matrix: models as rows, and a basis of few directions.

The order of the columns is that of `trees.names`: leaf after leaf, each in C
order.  Whatever models vectors can then model weights, and `unflatten` makes
models of its rows again.

>>> rows, unflatten = flatten({"b": jnp.ones((2, 1)), "w": jnp.zeros((2, 3))})
>>> rows.tolist()
[[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
>>> unflatten(rows[0])["w"].shape
(3,)
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Stack

Unflatten = Callable[[jax.Array], Any]


def flatten(stack: Stack) -> tuple[jax.Array, Unflatten]:
  """Return models as rows of a matrix, and the function that undoes it.

  Column order: the leaves in the order of `trees.names`, each in C order.

  Args:
    stack: floating leaves [M, ...].

  Returns:
    The matrix [M, D], float32 (float64 where a leaf is), and `unflatten`, which
    gives a vector [D] as one model and [..., D] as models with these leading
    axes, each leaf in the dtype that it has in `stack`.

  Raises:
    ValueError: at the first leaf that is not floating or holds a NaN; from
      `unflatten`, for a last axis other than D.

  >>> rows, unflatten = flatten({"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])})
  >>> unflatten(2.0 * rows)["w"].tolist()
  [[2.0, 4.0], [6.0, 8.0]]
  """
  trees.size(stack)
  _check_floating(stack, "flatten")
  trees.check_finite(stack, "flatten", stacked=True)
  leaves, structure = jax.tree.flatten(stack)
  leaves = [jnp.asarray(leaf) for leaf in leaves]
  kinds = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
  wide = functools.reduce(
    jnp.promote_types, (trees.accumulator(dtype) for _, dtype in kinds)
  )
  rows = [leaf.astype(wide).reshape(len(leaf), -1) for leaf in leaves]
  return jnp.concatenate(rows, 1), functools.partial(
    _unflatten, structure, kinds
  )


def _check_floating(stack: Stack, what: str) -> None:
  for path, leaf in trees.named(stack).items():
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(f"{what}: {path!r} is {dtype}, expected floating leaves")


def _unflatten(
  structure: Any, kinds: tuple[tuple[tuple[int, ...], Any], ...], rows: Any
) -> Any:
  rows = jnp.asarray(rows)
  sizes = [math.prod(shape) for shape, _ in kinds]
  if rows.shape[-1:] != (sum(sizes),):
    raise ValueError(
      f"unflatten: vectors are {rows.shape}, expected [..., {sum(sizes)}]"
    )
  parts = jnp.split(rows, np.cumsum(sizes)[:-1], -1)
  leaves = [
    part.reshape(*rows.shape[:-1], *shape).astype(dtype)
    for part, (shape, dtype) in zip(parts, kinds)
  ]
  return jax.tree.unflatten(structure, leaves)


@flax.struct.dataclass
class Basis:
  """An affine subspace of weight space: mean + z V, z its coordinates."""

  mean: jax.Array  # [D]
  directions: jax.Array  # V [d, D], orthonormal rows, widest first
  deviations: jax.Array  # [d], standard deviations of the members along V
  explained: jax.Array  # [d], shares of the variance
  unflatten: Unflatten = flax.struct.field(pytree_node=False)

  def encode(self, stack: Stack) -> jax.Array:
    """Return the coordinates [M, d] of models, (theta - mean) V'."""
    rows, _ = flatten(stack)
    if rows.shape[1:] != self.mean.shape:
      raise ValueError(
        f"encode: models have {rows.shape[1]} parameters, expected"
        f" {len(self.mean)} as those of the basis"
      )
    return _dot(rows - self.mean[None], self.directions.T)

  def decode(self, coordinates: jax.Array) -> Stack:
    """Return the models mean + z V of coordinates [..., d]."""
    lead = (1,) * (coordinates.ndim - 1)
    moved = _dot(coordinates, self.directions)
    return self.unflatten(self.mean.reshape(*lead, -1) + moved)


def basis(stack: Stack, d: int) -> Basis:
  """Return the d directions along which the models of a Stack vary most.

  The truncated singular value decomposition of the centred matrix [M, D], taken
  exactly: with d = M - 1 every member is on the subspace.  The entry of largest
  magnitude of each direction is positive.

  Args:
    stack: M models, floating leaves [M, ...].
    d: 1 to min(M - 1, D).

  Returns:
    Basis.

  Raises:
    ValueError: for d out of range, or as `flatten`.

  >>> models = {"w": jnp.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])}
  >>> found = basis(models, 1)
  >>> found.directions.tolist(), found.decode(found.encode(models))["w"][2]
  ([[1.0, 0.0]], Array([4., 1.], dtype=float32))
  """
  rows, unflatten = flatten(stack)
  most = min(len(rows) - 1, rows.shape[1])
  if not 1 <= d <= most:
    raise ValueError(
      f"basis: d is {d}, expected 1 to {most} for {len(rows)} models of"
      f" {rows.shape[1]} parameters"
    )
  mean = rows.mean(0)
  _, sizes, directions = jnp.linalg.svd(rows - mean[None], full_matrices=False)
  directions = directions[:d]
  largest = jnp.abs(directions).argmax(1, keepdims=True)
  signs = jnp.sign(jnp.take_along_axis(directions, largest, 1))
  total = jnp.sum(sizes**2)
  return Basis(
    mean,
    signs * directions,
    sizes[:d] / (len(rows) - 1) ** 0.5,
    sizes[:d] ** 2 / jnp.where(total > 0, total, 1.0),
    unflatten,
  )


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
