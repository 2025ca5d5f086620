"""A conditional Gaussian over vectors: the model that a diffusion has to beat.

>>> z = jnp.array([[0.0], [2.0], [4.0], [6.0]])
>>> model = conditional_gaussian(z, z / 2, penalty=0.0)
>>> model.sample(jax.random.key(0), jnp.array([[5.0]])).round(2).tolist()
[[10.0]]
"""

import flax.struct
import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Key


@flax.struct.dataclass
class Gaussian:
  """z ~ N(b + (c - m) W, L L'), what `conditional_gaussian` fits."""

  center: jax.Array  # m [c]
  weights: jax.Array  # W [c, d]
  offset: jax.Array  # b [d]
  spread: jax.Array  # L [d, d]

  def sample(self, key: Key, conditions: jax.Array) -> jax.Array:
    """Return one vector for each condition [K, c], [K, d]."""
    if conditions.shape[1:] != self.center.shape:
      raise ValueError(
        f"sample: conditions are {conditions.shape}, expected"
        f" [K, {len(self.center)}]"
      )
    means = self.offset[None] + (conditions - self.center[None]) @ self.weights
    return means + jax.random.normal(key, means.shape) @ self.spread.T


def conditional_gaussian(
  z: jax.Array, conditions: jax.Array, penalty: float = 1.0
) -> Gaussian:
  """Fit z = b + (c - mean c) W + noise, by ridge regression.

  Args:
    z: [M, d].
    conditions: [M, c]; [M, 0] gives the Gaussian of z alone.
    penalty: on |W|^2, at least 0.

  Returns:
    Gaussian, whose covariance is that of the residuals, over M.

  Raises:
    ValueError: for NaN, a negative penalty, or shapes that do not fit.

  Ours: a baseline.
  """
  z, c = jnp.asarray(z, jnp.float32), jnp.asarray(conditions, jnp.float32)
  if z.ndim != 2 or c.ndim != 2 or len(c) != len(z):
    raise ValueError(
      f"conditional_gaussian: z {z.shape} and conditions {c.shape}, expected"
      " [M, d] and [M, c]"
    )
  if not penalty >= 0:
    raise ValueError(
      f"conditional_gaussian: penalty is {penalty}, expected at least 0"
    )
  trees.check_finite({"z": z, "conditions": c}, "conditional_gaussian")
  center, offset = c.mean(0), z.mean(0)
  x, y = c - center[None], z - offset[None]
  u, s, v = jnp.linalg.svd(x, full_matrices=False)
  kept = s > jnp.finfo(s.dtype).eps * len(x) * jnp.max(s, initial=0.0)
  inverse = jnp.where(kept, s / jnp.where(kept, s**2 + penalty, 1.0), 0.0)
  weights = v.T @ (inverse[:, None] * (u.T @ y))
  _, sizes, directions = jnp.linalg.svd(y - x @ weights, full_matrices=False)
  spread = directions.T * (sizes / len(z) ** 0.5)[None]
  return Gaussian(center, weights, offset, spread)
