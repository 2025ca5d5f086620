"""Two models side by side, without a recipe.

>>> a, b = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([3.0, -4.0])}
>>> print(compare(a, b).text())
leaf     norm_a  norm_b  distance  cosine  conflict
w             5       5         8   -0.28       0.5
total         5       5         8   -0.28       0.5
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge.core import task_vector
from weightspace.merge.reports import tables
from weightspace.types import Params


class Comparison(NamedTuple):
  """How two models differ, per leaf and in total."""

  leaves: dict[str, dict[str, float]]  # {path: {measure: number}}
  total: dict[str, float]

  def text(self) -> str:
    """Return a table."""
    return tables.text(self.leaves, self.total)

  def json(self) -> str:
    """Return {"leaves": .., "total": ..}; what is undefined is null."""
    return tables.dump(self._asdict())


def compare(a: Params, b: Params, base: Params | None = None) -> Comparison:
  """Compare two models, or their task vectors, leaf by leaf.

  Args:
    a: the first model.
    b: the second.
    base: what both were fine-tuned from; the task vectors are then compared.

  Returns:
    Comparison of `norm_a`, `norm_b`, `distance` (|a - b|), `cosine` (NaN where
    one is zero), and `conflict`, the share of entries with opposite signs among
    those that neither has at zero.

  Raises:
    ValueError: naming the first path that differs in shape or dtype, or a NaN.

  >>> a, b = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([3.0, -4.0])}
  >>> found = compare(a, b)
  >>> found.total["norm_a"], found.total["conflict"]
  (5.0, 0.5)

  Sign conflict as in Yadav et al. 2023, https://arxiv.org/abs/2306.01708.
  """
  trees.check_same(a, b, "b")
  if base is not None:
    a, b = task_vector.delta(a, base), task_vector.delta(b, base)
  else:
    trees.check_finite(a, "a")
    trees.check_finite(b, "b")
  other, sums = trees.named(b), {}
  for path, x in trees.named(a).items():
    if trees.inexact(x):
      sums[path] = np.asarray(_sums(jnp.asarray(x), jnp.asarray(other[path])))
  if not sums:
    raise ValueError("compare: no leaf of real numbers, expected one")
  leaves = {path: _measures(found) for path, found in sums.items()}
  return Comparison(leaves, _measures(np.sum(list(sums.values()), axis=0)))


@jax.jit
def _sums(x: jax.Array, y: jax.Array) -> jax.Array:
  """Return |x|^2, |y|^2, x.y, |x - y|^2, opposite signs, both not zero."""
  wide = trees.accumulator(x.dtype)
  x, y = x.astype(wide), y.astype(wide)
  product = jnp.real(x * jnp.conj(y))
  signs = jnp.sign(jnp.real(x)) * jnp.sign(jnp.real(y))
  squares = [jnp.sum(jnp.abs(z) ** 2) for z in (x, y, x - y)]
  opposite, both = _count(signs < 0), _count(signs != 0)
  return jnp.stack(
    [squares[0], squares[1], product.sum(), squares[2], opposite, both]
  )


def _count(test: jax.Array) -> jax.Array:
  # By rows in int32 first: float32 cannot add one to 2^24.
  rows = test.sum(-1, dtype=jnp.int32) if test.ndim else test
  return rows.astype(jnp.float32).sum()


def _measures(sums: np.ndarray) -> dict[str, float]:
  a, b, product, apart, opposite, both = map(float, sums)
  size = (a * b) ** 0.5
  return {
    "norm_a": a**0.5,
    "norm_b": b**0.5,
    "distance": apart**0.5,
    "cosine": product / size if size else float("nan"),
    "conflict": opposite / both if both else 0.0,
  }
