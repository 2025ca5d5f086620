"""Mixes: many weighted means of one population, scored in one call.

>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> stack, data = {"w": jnp.array([1.0, 3.0])}, {"x": jnp.array([2.0])}
>>> score = lambda params, data: params["w"] * data["x"]
>>> ws.mixes.evaluate_mixes(stack, jnp.eye(2), score, data).tolist()
[2.0, 6.0]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.mixes.evaluate import check_mixes, evaluate_mixes, scores

__all__ = [
  "check_mixes",
  "evaluate_mixes",
  "scores",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
