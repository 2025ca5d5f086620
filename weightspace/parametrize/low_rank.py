"""Changes of low rank: LoRA, and the forms that differ in one factor.

Kernels are [..., in, out], y = x K; a leading axis is a batch of matrices
(scanned layers, experts).  Each is a leaf by itself (`value()`: the change) and
a change of a kernel (`value_of(kernel)`).

>>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 3)), 0.5)
>>> one.value().tolist()
[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from weightspace.parametrize import leaf
from weightspace.types import Key

Make = Callable[[Key, Any], Any]  # from a key and a kernel to a change
SPREAD = 0.02  # of AdaLoRA's factors at the start
GUARD = 1e-5  # AdaLoRA's code adds it to the rank


@flax.struct.dataclass
class Adapter:
  """A change of low rank, scale a b."""

  a: Any  # [..., in, r]
  b: Any  # [..., r, out]
  scale: Any = 1.0  # alpha / r of LoRA
  frozen = ("scale",)

  def value(self) -> jax.Array:
    """Return scale a b, [..., in, out], in float32 or wider."""
    a, b = leaf.wide(self.a), leaf.wide(self.b)
    _check_factors("adapter", a, b)
    return _scaled(self.scale, a.dtype) * leaf.dot(a, b)

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + scale a b."""
    return added(kernel, self.value(), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return added(changed, self.value(), -1)


@flax.struct.dataclass
class SvdLora:
  """A change in the form of a singular value decomposition, scale a e b."""

  a: Any  # [..., in, r]
  e: Any  # [..., r]; a triplet whose entry is zero is pruned
  b: Any  # [..., r, out]
  scale: Any = 1.0  # alpha / r at the start; pruning does not change it
  frozen = ("scale",)

  def value(self) -> jax.Array:
    """Return scale a diag(e) b, [..., in, out], in float32 or wider."""
    a, e, b = leaf.wide(self.a), leaf.wide(self.e), leaf.wide(self.b)
    _check_factors("svd_lora", a, b)
    if e.shape[-1] != a.shape[-1]:
      raise ValueError(
        f"svd_lora: e is {e.shape}, expected one entry for each of"
        f" {a.shape[-1]} columns of a"
      )
    return _scaled(self.scale, a.dtype) * leaf.dot(a * e[..., None, :], b)

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + scale a diag(e) b."""
    return added(kernel, self.value(), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return added(changed, self.value(), -1)


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
    moved = leaf.wide(Adapter(self.a, self.b, self.scale).value_of(kernel))
    norm = jax.lax.stop_gradient(column_norms(moved))
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
    _check_factors("vera", a, b)
    inner, outer = leaf.wide(self.inner), leaf.wide(self.outer)
    return leaf.dot(a * inner[..., None, :], b) * outer[..., None, :]

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + a diag(inner) b diag(outer)."""
    return added(kernel, self.value(), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return added(changed, self.value(), -1)


def lora(rank: int, alpha: float | None = None) -> Make:
  """Return what makes LoRA's change of a kernel: an `Adapter`, b = 0.

  a is uniform in +-1 / sqrt(in), as in the paper's code, and scale = alpha / r.

  Args:
    rank: r, at most min(in, out).
    alpha: None for r, a scale of one.

  Raises (when called): ValueError for a rank that does not fit the kernel.

  >>> change = lora(2)(jax.random.key(0), jnp.zeros((8, 3)))
  >>> change.a.shape, change.value().any().item()
  ((8, 2), False)

  Hu et al. 2022, "LoRA: low-rank adaptation of large language models",
  https://arxiv.org/abs/2106.09685.
  """

  def make(key: Key, kernel: Any) -> Adapter:
    *batch, rows, columns = _fitting("lora", kernel, rank)
    a = _uniform(key, (*batch, rows, rank), kernel.dtype, 1.0)
    b = jnp.zeros((*batch, rank, columns), kernel.dtype)
    return Adapter(a, b, _ratio(alpha, rank))

  return make


def svd_lora(rank: int, alpha: float | None = None) -> Make:
  """Return what makes AdaLoRA's change of a kernel: an `SvdLora`, e = 0.

  a and b are normal with deviation 0.02, and scale = alpha / (r + 1e-5), as in
  the paper's code.

  >>> change = svd_lora(2)(jax.random.key(0), jnp.zeros((8, 3)))
  >>> change.e.tolist()
  [0.0, 0.0]

  Zhang et al. 2023, "AdaLoRA: adaptive budget allocation for
  parameter-efficient fine-tuning", https://arxiv.org/abs/2303.10512.
  """

  def make(key: Key, kernel: Any) -> SvdLora:
    *batch, rows, columns = _fitting("svd_lora", kernel, rank)
    left, right = jax.random.split(key)
    a = jax.random.normal(left, (*batch, rows, rank), kernel.dtype)
    b = jax.random.normal(right, (*batch, rank, columns), kernel.dtype)
    e = jnp.zeros((*batch, rank), kernel.dtype)
    size = (rank if alpha is None else alpha) / (rank + GUARD)
    return SvdLora(SPREAD * a, e, SPREAD * b, size)

  return make


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
    size = column_norms(leaf.wide(kernel))
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
    *batch, rows, columns = _fitting("vera", kernel, rank)
    left, right = jax.random.split(key)
    a = _uniform(left, (rows, rank), kernel.dtype, 6.0)
    b = _uniform(right, (rank, columns), kernel.dtype, 6.0)
    a = jnp.broadcast_to(a, (*batch, rows, rank))
    b = jnp.broadcast_to(b, (*batch, rank, columns))
    sizes = jnp.full((*batch, rank), inner, kernel.dtype)
    return Vera(a, b, sizes, jnp.zeros((*batch, columns), kernel.dtype))

  return make


def added(kernel: Any, change: jax.Array, sign: int) -> jax.Array:
  """Return kernel + sign change, summed wide, in the kernel's dtype."""
  start = leaf.array(kernel)
  if start.shape != change.shape:
    raise ValueError(
      f"the change is {change.shape}, expected the kernel's {start.shape}"
    )
  return (leaf.wide(start) + sign * change).astype(start.dtype)


def column_norms(kernel: jax.Array) -> jax.Array:
  """Return the norms [..., out] of a kernel's columns [..., in, out]."""
  return jnp.sqrt(jnp.sum(kernel**2, axis=-2))


def _check_factors(what: str, a: jax.Array, b: jax.Array) -> None:
  if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
    raise ValueError(
      f"{what}: factors are {a.shape} and {b.shape}, expected [in, r] and"
      " [r, out]"
    )


def _scaled(scale: Any, dtype: Any) -> jax.Array:
  """Return a scale [] or [batch] that multiplies [batch, in, out]."""
  scale = jax.lax.stop_gradient(jnp.asarray(scale, dtype))
  return scale.reshape((*scale.shape, 1, 1)) if scale.ndim else scale


def _fitting(what: str, kernel: Any, rank: int) -> tuple[int, ...]:
  leaf.check_matrix(what, kernel, (None, None))
  shape = jnp.shape(kernel)
  if not 1 <= rank <= min(shape[-2:]):
    raise ValueError(
      f"{what}: rank is {rank}, expected 1 to {min(shape[-2:])} for a kernel"
      f" {shape}"
    )
  return shape


def _uniform(
  key: Key, shape: tuple[int, ...], dtype: Any, square: float
) -> jax.Array:
  """Return a draw from +-sqrt(square / inputs)."""
  bound = (square / shape[-2]) ** 0.5
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def _ratio(alpha: float | None, rank: int) -> float:
  return 1.0 if alpha is None else alpha / rank
