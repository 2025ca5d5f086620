"""Softened labels for fine-tuning: mixup, then label smoothing.

A model that is fine-tuned on soft labels is less sure of itself, so that it
does not drown the other model when the two are averaged (BANG).

>>> import jax, jax.numpy as jnp
>>> batch = {"x": jnp.ones((2, 3)), "y": jnp.array([0, 1])}
>>> soft = soften(smoothing=0.5, mixup=0.0, classes=2)
>>> soft(jax.random.key(0), batch)["y"].tolist()
[[0.75, 0.25], [0.25, 0.75]]
"""

from collections.abc import Mapping
from typing import Any

# `data.batches` is the function of that name, not its module.
from weightspace.data.batches import Batch, Prepare, smooth_labels
from weightspace.data.batches import mixup as mix_pairs
from weightspace.types import Key


def soften(smoothing: float, mixup: float, classes: int) -> Prepare:
  """Build the transform of BANG's fine-tuning: mixup, label smoothing, or both.

  y <- (1 - e)(l y + (1 - l) y') + e / C, x <- l x + (1 - l) x', with l drawn
  from Beta(mixup, mixup).  That both go together is from the paper, that
  smoothing comes last is ours.

  Args:
    smoothing: e, from 0 (off) to 1.
    mixup: 0 (off) or above; larger mixes more.
    classes: C.

  Returns:
    prepare(key, batch), which makes "y" float32 [B, C].

  Raises:
    ValueError: for a smoothing outside [0, 1] or a negative mixup.

  >>> import jax, jax.numpy as jnp
  >>> batch = {"x": jnp.ones((2, 3)), "y": jnp.array([0, 1])}
  >>> soft = soften(smoothing=0.1, mixup=0.4, classes=10)
  >>> round(soft(jax.random.key(0), batch)["y"].min().item(), 3)
  0.01

  Lin et al. 2024, sec. 4, https://arxiv.org/abs/2309.17230.
  """
  smooth = smooth_labels(smoothing, classes)
  mixed = mix_pairs(mixup, classes) if mixup else None

  def prepare(key: Key, batch: Mapping[str, Any]) -> Batch:
    return smooth(key, mixed(key, batch) if mixed else batch)

  return prepare
