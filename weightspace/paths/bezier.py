"""Paths that are mixes of a few models: straight segments, Bezier curves.

At each t such a path is sum_k c_k(t) theta_k, so whoever knows the coefficients
knows the path; `paths.along` and the training of curves make use of it.

>>> curve = Bezier({"w": jnp.array([0.0, 4.0, 0.0])})
>>> curve.weights(0.5).tolist(), curve(0.5)["w"].item()
([0.25, 0.5, 0.25], 2.0)
"""

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.types import Params, Stack


@flax.struct.dataclass
class Polyline:
  """Straight segments through M >= 2 models; t in [0, 1] is spread evenly."""

  points: Stack

  def __repr__(self) -> str:
    return _shown(self)

  def weights(self, t: jax.Array | float) -> jax.Array:
    """Return the coefficients [M] of the models at `t`.

    Outside [0, 1] the first and the last segment go on straight.
    """
    last = trees.size(self.points) - 1
    place = jnp.asarray(t, float) * last
    first = jnp.clip(jnp.floor(place), 0, last - 1)
    share = place - first
    at = jnp.arange(last + 1)
    after = jnp.where(at == first + 1, share, 0.0)
    return jnp.where(at == first, 1.0 - share, after)

  def __call__(self, t: jax.Array | float) -> Params:
    return means.weighted_sum(self.points, self.weights(t))


@flax.struct.dataclass
class Bezier:
  """The curve sum_k C(n, k) t^k (1-t)^(n-k) theta_k of n + 1 models.

  It passes the first and the last; those between pull it towards them.
  """

  points: Stack

  def __repr__(self) -> str:
    return _shown(self)

  def weights(self, t: jax.Array | float) -> jax.Array:
    """Return the coefficients [n + 1] of the models at `t`."""
    last = trees.size(self.points) - 1
    t = jnp.asarray(t, float)
    # Whole powers as products: 0 ** 0 is 1, and gradients stay finite.
    return jnp.stack(
      [
        math.comb(last, k) * t**k * (1.0 - t) ** (last - k)
        for k in range(last + 1)
      ]
    )

  def __call__(self, t: jax.Array | float) -> Params:
    return means.weighted_sum(self.points, self.weights(t))


def _shown(path: Any) -> str:
  """Return a path in one line: its kind, its models, their parameters."""
  leaves = jax.tree.leaves(path.points)
  count = len(leaves[0]) if leaves else 0
  size = sum(math.prod(np.shape(x)[1:]) for x in leaves)
  return f"{type(path).__name__}({count} models of {size} parameters)"
