"""DoRA and VeRA: what of a change of low rank is learned.

DoRA learns the sizes of a kernel's columns apart from their directions; VeRA
learns two vectors between random factors that stay.

>>> change = dora(1)(jax.random.key(0), jnp.array([[3.0], [4.0]]))
>>> change.value_of(jnp.array([[6.0], [8.0]])).tolist()  # its size is kept
[[3.0], [4.0]]
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from weightspace.parametrize import leaf, low_rank
from weightspace.parametrize.low_rank import Adapter, Make, lora
from weightspace.types import Key


@flax.struct.dataclass
class Dora:
  """A kernel's direction changed by scale a b, its columns' sizes learned."""

  a: Any  # [..., in, r]
  b: Any  # [..., r, out]
  size: Any  # [..., out], of the columns
  scale: Any = 1.0
  frozen = ("scale",)

  def value_of(self, kernel: Any) -> jax.Array:
    """Return size V / |V|, V = kernel + scale a b, norms over the inputs.

    As in the paper's section 4.3, no gradient passes the norm.
    """
    change = Adapter(self.a, self.b, self.scale).value()
    moved = low_rank.added(leaf.wide(kernel), change, 1)
    norm = jax.lax.stop_gradient(_column_norms(moved))
    # Where the norm is the size, the factor is exactly one.
    factor = leaf.wide(self.size) / jnp.where(norm == 0, 1, norm)
    return (moved * factor[..., None, :]).astype(leaf.array(kernel).dtype)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Refuse: the norms of the kernel are lost in the merged one."""
    raise ValueError("dora: a merged kernel cannot be unmerged, keep the base")


@flax.struct.dataclass
class Vera:
  """A change by fixed random factors, with a learned size for each row."""

  a: Any  # [..., in, r], fixed
  b: Any  # [..., r, out], fixed
  inner: Any  # [..., r], learned
  outer: Any  # [..., out], learned; zero at the start
  frozen = ("a", "b")

  def value(self) -> jax.Array:
    """Return a diag(inner) b diag(outer), in float32 or wider."""
    a, b = leaf.still(self.a), leaf.still(self.b)
    low_rank.check_factors(a, b)
    inner, outer = leaf.wide(self.inner), leaf.wide(self.outer)
    return leaf.dot(a * inner[..., None, :], b) * outer[..., None, :]

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + a diag(inner) b diag(outer)."""
    return low_rank.added(kernel, self.value(), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return low_rank.added(changed, self.value(), -1)


def dora(rank: int, alpha: float | None = None) -> Make:
  """Return what makes DoRA's change of a kernel: sizes at its column norms.

  >>> kernel = jnp.array([[3.0], [4.0]])
  >>> dora(1)(jax.random.key(0), kernel).size.tolist()
  [5.0]

  Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation",
  https://arxiv.org/abs/2402.09353.
  """

  def make(key: Key, kernel: Any) -> Dora:
    start = lora(rank, alpha)(key, kernel)
    size = _column_norms(leaf.wide(kernel))
    return Dora(start.a, start.b, size, start.scale)

  return make


def vera(rank: int, key: Key, inner: float = 0.1) -> Make:
  """Return what makes VeRA's change: random factors from one shared key.

  The factors are uniform in +-sqrt(6 / fan in).  Layers of one shape share
  them, as in the paper; layers of other shapes have their own draw of the key.

  >>> change = vera(2, jax.random.key(0))(None, jnp.zeros((8, 3)))
  >>> change.inner.shape, change.outer.shape
  ((2,), (3,))

  Kopiczko et al. 2024, "VeRA: vector-based random matrix adaptation",
  https://arxiv.org/abs/2310.11454.
  """

  def make(_: Key, kernel: Any) -> Vera:
    *batch, rows, columns = low_rank.fitting("vera", kernel, rank)
    left, right = jax.random.split(key)
    a = low_rank.uniform(left, (rows, rank), kernel.dtype, 6.0)
    b = low_rank.uniform(right, (rank, columns), kernel.dtype, 6.0)
    a = jnp.broadcast_to(a, (*batch, rows, rank))
    b = jnp.broadcast_to(b, (*batch, rank, columns))
    sizes = jnp.full((*batch, rank), inner, kernel.dtype)
    return Vera(a, b, sizes, jnp.zeros((*batch, columns), kernel.dtype))

  return make


def _column_norms(kernel: jax.Array) -> jax.Array:
  """Return the norms [..., out] of a kernel's columns [..., in, out]."""
  return jnp.sqrt(jnp.sum(kernel**2, axis=-2))
