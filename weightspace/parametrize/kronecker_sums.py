"""Sums of Kronecker products: Compacter's change of a kernel.

>>> rules_of_two = jnp.stack([jnp.eye(2), jnp.zeros((2, 2))])
>>> Kronecker(rules_of_two, jnp.ones((2, 1, 1)), jnp.ones((2, 1, 1))).value()
Array([[1., 0.],
       [0., 1.]], dtype=float32)
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from weightspace.parametrize import leaf
from weightspace.parametrize.low_rank import Make, added, keyed
from weightspace.types import Key

INITS = ("zero", "paper")


@flax.struct.dataclass
class Kronecker:
  """A sum of Kronecker products, rules_i x (left_i right_i)."""

  rules: Any  # [n, n, n]; None where `share` puts them
  left: Any  # [..., n, in / n, k]
  right: Any  # [..., n, k, out / n]

  def value(self) -> jax.Array:
    """Return sum_i rules_i x (left_i right_i), [..., in, out]."""
    if self.rules is None:
      raise ValueError("kronecker: rules are None, expected `share` before")
    rules, left, right = map(leaf.wide, (self.rules, self.left, self.right))
    count = rules.shape[-1]
    fits = rules.shape[-3:] == (count,) * 3 and min(left.ndim, right.ndim) > 2
    fits = fits and left.shape[-3] == right.shape[-3] == count
    if not fits or left.shape[-1] != right.shape[-2]:
      raise ValueError(
        f"kronecker: rules {rules.shape}, left {left.shape}, right"
        f" {right.shape}, expected [n, n, n], [n, in / n, k], [n, k, out / n]"
      )
    inner = leaf.dot(left, right)  # [..., n, in / n, out / n]
    product = jnp.einsum(
      "...iac,...ipq->...apcq", rules, inner, precision="highest"
    )
    *batch, a, p, c, q = product.shape
    return product.reshape(*batch, a * p, c * q)

  def value_of(self, kernel: Any) -> jax.Array:
    """Return kernel + value()."""
    return added(kernel, self.value(), 1)

  def kernel_of(self, changed: Any) -> jax.Array:
    """Return the kernel whose `value_of` is `changed`."""
    return added(changed, self.value(), -1)


def share(tree: Any, rules: Any) -> Any:
  """Return the tree with the rules put where a `Kronecker` has none.

  So one array, beside the tree, is trained for all of them.

  >>> one = Kronecker(None, jnp.ones((1, 2, 1)), jnp.ones((1, 1, 2)))
  >>> share({"w": one}, jnp.ones((1, 1, 1)))["w"].value().shape
  (2, 2)
  """

  def is_one(x: Any) -> bool:
    return isinstance(x, Kronecker)

  def fill(x: Any) -> Any:
    return x.replace(rules=rules) if is_one(x) and x.rules is None else x

  return jax.tree.map(fill, tree, is_leaf=is_one)


def kronecker(
  n: int, rank: int = 1, init: str = "zero", shared: bool = False
) -> Make:
  """Return what makes Compacter's change of a kernel: a `Kronecker`.

  Args:
    n: how many products; a divisor of the inputs and of the outputs.
    rank: k of each left_i right_i.
    init: "zero", right = 0, so that the function is unchanged (ours), or
      "paper", Glorot uniform factors; rules are normal with deviation 0.01.
    shared: leave the rules None, for `share`.

  Raises (when called): ValueError for an n that does not divide the kernel.

  >>> change = kronecker(2)(jax.random.key(0), jnp.zeros((4, 6)))
  >>> change.left.shape, change.right.shape, change.value().any().item()
  ((2, 2, 1), (2, 1, 3), False)

  Mahabadi et al. 2021, "Compacter: efficient low-rank hypercomplex adapter
  layers", https://arxiv.org/abs/2106.04647.
  """
  if rank < 1 or init not in INITS:
    raise ValueError(
      f"kronecker: rank {rank} and init {init!r}, expected at least 1 and one"
      f" of {INITS}"
    )

  def make(key: Key, kernel: Any) -> Kronecker:
    leaf.check_matrix("kronecker", kernel, (None, None))
    *batch, rows, columns = kernel.shape
    if n < 1 or rows % n or columns % n:
      raise ValueError(
        f"kronecker: n is {n}, expected a divisor of {rows} and of {columns}"
      )
    keys = jax.random.split(keyed(key), 3)
    glorot = jax.nn.initializers.glorot_uniform(batch_axis=())
    left = glorot(keys[0], (*batch, n, rows // n, rank), kernel.dtype)
    right = glorot(keys[1], (*batch, n, rank, columns // n), kernel.dtype)
    right = jnp.zeros_like(right) if init == "zero" else right
    return Kronecker(None if shared else rules(keys[2], n), left, right)

  return make


def rules(key: Key, n: int) -> jax.Array:
  """Return n rules [n, n, n] at their start, normal with deviation 0.01.

  >>> rules(jax.random.key(0), 3).shape
  (3, 3, 3)
  """
  return 0.01 * jax.random.normal(key, (n, n, n))
