"""Smaller and larger networks from this one: sliced, repeated, assembled.

Width is an index map over the axes that `trace_axes` reads off a model
(`take`), depth an order of its blocks (`restack`).  Both are linear maps of the
parameters, so a supernet is a loss of slices, and a tie is a repeat.

>>> restack({"block_0": 1.0, "block_1": 2.0}, "block_*", spaced(2, 1))
{'block_0': 1.0}
"""

from weightspace.grow.children import draw_children, sandwich
from weightspace.grow.depth import restack, spaced
from weightspace.grow.entanglement import (
  chosen,
  darts,
  drnas,
  entangle,
  search,
)
from weightspace.grow.growth import orthogonal, side_by_side
from weightspace.grow.inheritance import affinity, inherit
from weightspace.grow.net2net import deepen, widen
from weightspace.grow.upcycling import upcycle
from weightspace.grow.width import compose, sizes, take

__all__ = [
  "affinity",
  "chosen",
  "compose",
  "darts",
  "deepen",
  "draw_children",
  "drnas",
  "entangle",
  "inherit",
  "orthogonal",
  "restack",
  "sandwich",
  "search",
  "side_by_side",
  "sizes",
  "spaced",
  "take",
  "upcycle",
  "widen",
]
