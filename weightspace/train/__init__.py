"""Training of populations: one loop for a model or for a Stack of them.

A population is trained as one program, shared over devices, saved within a
stage and resumed on any devices.

>>> import weightspace as ws
>>> ws.train.fit_population.__name__
'fit_population'
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.train.loop import Fitted, fit, fit_population
from weightspace.train.projected_descent import adamp, sgdp
from weightspace.train.radial_projection import project_radial
from weightspace.train.resume import Checkpoint

__all__ = [
  "Checkpoint",
  "Fitted",
  "adamp",
  "fit",
  "fit_population",
  "project_radial",
  "sgdp",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
