"""Changes by blocks that share their numbers: Bone and MiSS.

Kernels are [..., in, out], y = x K; a leading axis is a batch of matrices.

>>> kernel = jnp.arange(8.0).reshape(4, 2)
>>> Bone(jnp.zeros((1, 2, 2))).value_of(kernel).tolist() == kernel.tolist()
True
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.parametrize import leaf
from weightspace.parametrize.low_rank import Make, added
from weightspace.types import Key

SINGULAR = 1e-6  # singular values of I + B below it, relative, are zero


@flax.struct.dataclass
class Bone:
  """An affine change of every r x r block, one for each group of outputs."""

  b: Any  # [..., out / r, r, r], oriented as torch has it: [out, in] blocks

  def value_of(self, kernel: Any) -> jax.Array:
    """Return the kernel with blocks K + b' (K + I), [..., in, out].

    In torch's orientation W = K' the blocks are W + W b + b.  b belongs to the
    block's outputs; all blocks of inputs share it.
    """
    blocks, b, eye = self._parts(kernel)
    changed = blocks + _turned(b, blocks + eye)
    return _joined(changed, kernel)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`.

    K = (I + b')^-1 (changed - b').

    Raises:
      ValueError: naming the first group of outputs whose I + b is singular
        (checked on concrete values).
    """
    blocks, b, eye = self._parts(changed)
    _check_regular(b)
    right = blocks - _turned(b, eye)
    left = _with_identity(b.mT)  # [..., G, r, r]
    # [..., I, r, G, r] -> for each group of outputs the columns of all blocks.
    columns = jnp.moveaxis(right, -2, -4)  # [..., G, I, r, r]
    solved = jnp.linalg.solve(left[..., :, None, :, :], columns)
    return _joined(jnp.moveaxis(solved, -4, -2), changed)

  def _parts(self, kernel: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the kernel [..., in / r, r, out / r, r], b, and an identity."""
    b = leaf.wide(self.b)
    if b.ndim < 3 or b.shape[-1] != b.shape[-2]:
      raise ValueError(f"bone: b is {b.shape}, expected [out / r, r, r]")
    size = b.shape[-1]
    leaf.check_matrix("bone", kernel, (None, b.shape[-3] * size))
    *batch, rows, columns = jnp.shape(leaf.array(kernel))
    if rows % size:
      raise ValueError(
        f"bone: r is {size}, expected a divisor of the {rows} inputs"
      )
    shape = (*batch, rows // size, size, columns // size, size)
    eye = jnp.eye(size, dtype=b.dtype)[:, None, :]
    blocks = leaf.wide(kernel).reshape(shape)
    return blocks, b, jnp.broadcast_to(eye, shape)


@flax.struct.dataclass
class Miss:
  """A change shared by all groups of r inputs: shards of one matrix."""

  d: Any  # [..., r, out]

  def value_of(self, kernel: Any) -> jax.Array:
    """Return the kernel with row i changed by d[i mod r].

    y += sum_g x_g d over the groups of r inputs; a last group of fewer inputs
    has the first rows of d.
    """
    return added(kernel, self._tiled(kernel), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return added(changed, self._tiled(changed), -1)

  def _tiled(self, kernel: Any) -> jax.Array:
    d = leaf.wide(self.d)
    if d.ndim < 2:
      raise ValueError(f"miss: d is {d.shape}, expected [r, out]")
    leaf.check_matrix("miss", kernel, (None, d.shape[-1]))
    rows = jnp.shape(leaf.array(kernel))[-2]
    return jnp.take(d, jnp.arange(rows) % d.shape[-2], axis=-2)


def bone(rank: int) -> Make:
  """Return what makes Bone's change of a kernel: r x out numbers, all zero.

  Args:
    rank: r, a divisor of the inputs and of the outputs.

  Raises (when called): ValueError for an r that does not divide them.

  >>> bone(2)(None, jnp.zeros((4, 6))).b.shape
  (3, 2, 2)

  Kang 2024, "Balancing LoRA performance and efficiency with simple shard
  sharing", https://arxiv.org/abs/2409.15371: the form with weight guide, which
  the code calls Bat.
  """

  def make(key: Key, kernel: Any) -> Bone:
    leaf.check_matrix("bone", kernel, (None, None))
    *batch, rows, columns = kernel.shape
    if rank < 1 or rows % rank or columns % rank:
      raise ValueError(
        f"bone: r is {rank}, expected a divisor of {rows} and of {columns}"
      )
    shape = (*batch, columns // rank, rank, rank)
    return Bone(jnp.zeros(shape, kernel.dtype))

  return make


def miss(rank: int) -> Make:
  """Return what makes MiSS's change of a kernel: r x out numbers, all zero.

  It is LoRA with a fixed a of stacked identities.

  >>> miss(2)(None, jnp.zeros((5, 6))).d.shape
  (2, 6)

  https://arxiv.org/abs/2409.15371.
  """

  def make(key: Key, kernel: Any) -> Miss:
    leaf.check_matrix("miss", kernel, (None, None))
    *batch, rows, columns = kernel.shape
    if not 1 <= rank <= rows:
      raise ValueError(f"miss: r is {rank}, expected 1 to {rows}")
    return Miss(jnp.zeros((*batch, rank, columns), kernel.dtype))

  return make


def _turned(b: jax.Array, blocks: jax.Array) -> jax.Array:
  """Return b' times each block: [..., I, r, G, s] -> the same."""
  return jnp.einsum("...grs,...irgt->...isgt", b, blocks, precision="highest")


def _joined(blocks: jax.Array, like: Any) -> jax.Array:
  like = leaf.array(like)
  return blocks.reshape(like.shape).astype(like.dtype)


def _with_identity(b: jax.Array) -> jax.Array:
  return b + jnp.broadcast_to(jnp.eye(b.shape[-1], dtype=b.dtype), b.shape)


def _check_regular(b: jax.Array) -> None:
  if not trees.concrete(b):
    return
  values = jnp.linalg.svd(_with_identity(b), compute_uv=False)
  bad = values[..., -1] <= SINGULAR * jnp.maximum(values[..., 0], 1.0)
  if bool(bad.any()):
    group = int(jnp.argmax(bad.reshape(-1)))
    raise ValueError(
      f"unmerge: I + b of group {group} is singular, expected one that can be"
      " inverted"
    )
