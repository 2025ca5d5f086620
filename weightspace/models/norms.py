"""The choice of normalisation in the convolutional models.

All act on the channels, the last axis of [B, H, W, C]: "layer" over the
channels of each pixel, "group" over the pixels and channels of each group of
one image, "batch" over the pixels and images of each channel, "none" not at
all.

>>> import jax.numpy as jnp
>>> x = jnp.array([[1.0, 3.0]])
>>> norm("layer", 1, "norm").init_with_output(jax.random.key(0), x)[0].tolist()
[[-0.9999..., 0.9999...]]
"""

from collections.abc import Callable

import jax
from flax import linen as nn

from weightspace.models.batchnorm import BatchNorm

KINDS = ("layer", "group", "batch", "none")
EPSILON = 1e-5


def norm(kind: str, groups: int, name: str) -> Callable[[jax.Array], jax.Array]:
  """Return the normalising layer `name`, one of KINDS.

  Only "batch" and "layer" commute with a permutation of the channels; "group"
  does so only for permutations that keep its groups.

  Ba et al. 2016, https://arxiv.org/abs/1607.06450 (layer); Wu and He 2018,
  https://arxiv.org/abs/1803.08494 (group); Ioffe and Szegedy 2015,
  https://arxiv.org/abs/1502.03167 (batch).
  """
  if kind == "layer":
    return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, name=name)
  if kind == "group":
    return nn.GroupNorm(
      groups, epsilon=EPSILON, use_fast_variance=False, name=name
    )
  if kind == "batch":
    return BatchNorm(epsilon=EPSILON, name=name)
  return lambda x: x
