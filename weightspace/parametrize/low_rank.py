"""Changes of low rank: LoRA, and what its variants share.

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

Make = Callable[[Any, Any], Any]  # from a key and a kernel to a change


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
    check_factors(a, b)
    return scaled(self.scale, a.dtype) * leaf.dot(a, b)

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + scale a b."""
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
    *batch, rows, columns = fitting("lora", kernel, rank)
    a = uniform(key, (*batch, rows, rank), kernel.dtype, 1.0)
    b = jnp.zeros((*batch, rank, columns), kernel.dtype)
    return Adapter(a, b, ratio(alpha, rank))

  return make


def added(kernel: Any, change: jax.Array, sign: int) -> jax.Array:
  """Return kernel + sign change, summed wide, in the kernel's dtype."""
  start = leaf.array(kernel)
  if start.shape != change.shape:
    raise ValueError(
      f"the change is {change.shape}, expected the kernel's {start.shape}"
    )
  return (leaf.wide(start) + sign * change).astype(start.dtype)


def check_factors(a: jax.Array, b: jax.Array) -> None:
  """Raise a ValueError unless factors are [..., in, r] and [..., r, out]."""
  if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
    raise ValueError(
      f"factors {a.shape} and {b.shape}, expected [in, r] and [r, out]"
    )


def scaled(scale: Any, dtype: Any) -> jax.Array:
  """Return a scale [] or [batch] that multiplies [batch, in, out]."""
  scale = jax.lax.stop_gradient(jnp.asarray(scale, dtype))
  return scale.reshape((*scale.shape, 1, 1)) if scale.ndim else scale


def fitting(what: str, kernel: Any, rank: int) -> tuple[int, ...]:
  """Return the shape of a kernel that changes of a rank fit."""
  leaf.check_matrix(what, kernel, (None, None))
  shape = jnp.shape(kernel)
  if not 1 <= rank <= min(shape[-2:]):
    raise ValueError(
      f"{what}: rank is {rank}, expected 1 to {min(shape[-2:])} for a kernel"
      f" {shape}"
    )
  return shape


def keyed(key: Key | None) -> Key:
  """Return the key; refuse None, where a change draws its start."""
  if key is None:
    raise ValueError("this change draws its start, expected key= of attach")
  return key


def uniform(
  key: Key, shape: tuple[int, ...], dtype: Any, square: float
) -> jax.Array:
  """Return a draw from +-sqrt(square / inputs)."""
  keyed(key)
  bound = (square / shape[-2]) ** 0.5
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def ratio(alpha: float | None, rank: int) -> float:
  """Return LoRA's scale, alpha / r; one where alpha is None."""
  return 1.0 if alpha is None else alpha / rank
