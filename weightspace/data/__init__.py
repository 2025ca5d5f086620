"""Data sets as arrays in memory, and the shifts and tasks made of them.

`load` reads a data set by name; everything else is a pure keyed function on
arrays.  Nothing here knows of models.

>>> from weightspace import data
>>> data.load("digits").test["y"].shape
(359,)
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.data.batches import batches, mixup, one_hot, smooth_labels
from weightspace.data.corruptions import CORRUPTIONS, corrupt
from weightspace.data.domains import mix, patches
from weightspace.data.geometry import rotate, shear, translate, zoom
from weightspace.data.sets import Splits, hold_out, load, take, vocabulary
from weightspace.data.softening import soften
from weightspace.data.spurious import multicolor
from weightspace.data.tasks import (
  bootstrap,
  dirichlet,
  few_shot,
  flip_labels,
  keep_classes,
)

__all__ = [
  "CORRUPTIONS",
  "Splits",
  "batches",
  "bootstrap",
  "corrupt",
  "dirichlet",
  "few_shot",
  "flip_labels",
  "hold_out",
  "keep_classes",
  "load",
  "mix",
  "mixup",
  "multicolor",
  "one_hot",
  "patches",
  "rotate",
  "shear",
  "smooth_labels",
  "soften",
  "take",
  "translate",
  "vocabulary",
  "zoom",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
