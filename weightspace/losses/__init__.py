"""Losses: of logits, one number per example; and what a probe asks of any loss.

>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> ws.losses.accuracy(jnp.array([[0.0, 1.0]]), jnp.array([1])).tolist()
[1.0]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.losses.logits import (
  Metric,
  accuracy,
  cross_entropy,
  entropy,
  of,
  soft_cross_entropy,
)

__all__ = [
  "Metric",
  "accuracy",
  "cross_entropy",
  "entropy",
  "of",
  "soft_cross_entropy",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
