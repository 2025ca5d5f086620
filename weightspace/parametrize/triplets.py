"""A change in the form of a singular value decomposition, for AdaLoRA.

>>> one = SvdLora(jnp.eye(2), jnp.array([2.0, 0.0]), jnp.eye(2))
>>> one.value().tolist(), kept_ranks({"w": one})
([[2.0, 0.0], [0.0, 0.0]], {'w': 1})
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from weightspace.parametrize import leaf, low_rank
from weightspace.parametrize.low_rank import Make
from weightspace.types import Key, Params

SPREAD = 0.02  # of the factors at the start
GUARD = 1e-5  # the code adds it to the rank


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
    low_rank.check_factors(a, b)
    if e.shape[-1] != a.shape[-1]:
      raise ValueError(
        f"svd_lora: e is {e.shape}, expected one entry for each of"
        f" {a.shape[-1]} columns of a"
      )
    return low_rank.scaled(self.scale, a.dtype) * leaf.dot(
      a * e[..., None, :], b
    )

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + scale a diag(e) b."""
    return low_rank.added(kernel, self.value(), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return low_rank.added(changed, self.value(), -1)


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
    *batch, rows, columns = low_rank.fitting("svd_lora", kernel, rank)
    left, right = jax.random.split(low_rank.keyed(key))
    a = jax.random.normal(left, (*batch, rows, rank), kernel.dtype)
    b = jax.random.normal(right, (*batch, rank, columns), kernel.dtype)
    e = jnp.zeros((*batch, rank), kernel.dtype)
    size = (rank if alpha is None else alpha) / (rank + GUARD)
    return SvdLora(SPREAD * a, e, SPREAD * b, size)

  return make


def kept_ranks(tree: Params) -> dict[str, int]:
  """Return how many triplets of each `SvdLora` are not zero, by path.

  >>> one = SvdLora(jnp.ones((2, 2)), jnp.array([0.0, 2.0]), jnp.ones((2, 2)))
  >>> kept_ranks({"w": one})
  {'w': 1}
  """
  found = triplets(tree)
  return {path: int((one.e != 0).sum()) for path, one in found.items()}


def orthogonality(tree: Params, squared: bool = False) -> jax.Array:
  """Return how far the factors of every `SvdLora` are from orthonormal.

  The mean over all a and b of |a' a - I| and |b b' - I|, Frobenius norms; the
  code adds 0.1 times this to the loss.

  Args:
    tree: holds `SvdLora` changes.
    squared: the sum of squares, as in the paper's equation 4.

  >>> one = SvdLora(jnp.eye(3)[:, :2], jnp.ones(2), 2.0 * jnp.eye(2))
  >>> round(orthogonality({"w": one}).item(), 4)  # (0 + 3 sqrt 2) / 2
  2.1213

  https://arxiv.org/abs/2303.10512.
  """
  found = triplets(tree)
  if not found:
    raise ValueError("orthogonality: no SvdLora in the tree")
  squares = []
  for one in found.values():
    a, b = leaf.wide(one.a), leaf.wide(one.b)
    for gram in (leaf.dot(a.mT, a), leaf.dot(b, b.mT)):
      eye = jnp.broadcast_to(jnp.eye(gram.shape[-1]), gram.shape)
      squares.append(jnp.sum((gram - eye) ** 2, axis=(-2, -1)).reshape(-1))
  sums = jnp.concatenate(squares)
  if squared:
    return sums.sum()
  # The slope of a root at zero is infinite; there the penalty is flat.
  safe = jnp.where(sums > 0, sums, 1.0)
  return jnp.where(sums > 0, jnp.sqrt(safe), 0.0).mean()


def _is_one(x: Any) -> bool:
  return isinstance(x, SvdLora)


def triplets(tree: Params) -> dict[str, Any]:
  """Return each `SvdLora` by path, its scale left out."""
  nodes = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_one)[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): one.replace(
      scale=None
    )
    for path, one in nodes
    if _is_one(one)
  }


def replaced(tree: Params, new: dict[str, Any]) -> Params:
  """Return the tree with other triplets, and the scales that it has."""

  def at(path: Any, x: Any) -> Any:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return new[name].replace(scale=x.scale) if _is_one(x) else x

  return jax.tree_util.tree_map_with_path(at, tree, is_leaf=_is_one)
