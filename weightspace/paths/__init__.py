"""Paths through weight space, the losses along them, and barriers.

>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> path = ws.paths.line({"w": jnp.array(1.0)}, {"w": jnp.array(3.0)})
>>> path(0.5)["w"].item()
2.0
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.paths.path import (
  Barrier,
  Bezier,
  Polyline,
  along,
  barrier,
  barrier_on,
  bezier,
  line,
  polyline,
  summarise,
)

__all__ = [
  "Barrier",
  "Bezier",
  "Polyline",
  "along",
  "barrier",
  "barrier_on",
  "bezier",
  "line",
  "polyline",
  "summarise",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
