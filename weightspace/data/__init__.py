"""Data sets as arrays in memory, and the shifts and tasks made of them.

`load` reads a data set by name; everything else is a pure keyed function on
arrays.  Nothing here knows of models.

>>> from weightspace import data
>>> data.load("digits").test["y"].shape
(359,)
"""

from weightspace.data.sets import Splits, hold_out, load, take, vocabulary

__all__ = [
  "Splits",
  "hold_out",
  "load",
  "take",
  "vocabulary",
]
