"""Smaller and larger networks from this one: sliced, repeated, assembled.

Width is an index map over the axes that `trace_axes` reads off a model
(`take`), depth an order of its blocks (`restack`).  Both are linear maps of the
parameters, so a supernet is a loss of slices, and a tie is a repeat.

>>> restack({"block_0": 1.0, "block_1": 2.0}, "block_*", spaced(2, 1))
{'block_0': 1.0}
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.grow.block_scoring import block_scores, gated
from weightspace.grow.children import draw_children, sandwich
from weightspace.grow.deeper import deepen
from weightspace.grow.depth import restack, spaced
from weightspace.grow.entanglement import (
  chosen,
  darts,
  drnas,
  entangle,
  search,
)
from weightspace.grow.gates import (
  draw_gates,
  gate_optimiser,
  gate_units,
  gated_loss,
  kept_share,
  open_units,
)
from weightspace.grow.growth import orthogonal, side_by_side
from weightspace.grow.inheritance import affinity, inherit
from weightspace.grow.modules import assemble, hybrid, inside, part
from weightspace.grow.routing import balance, pooling, rewarded, route
from weightspace.grow.unit_scores import Dropped, best, dropped, unit_scores
from weightspace.grow.upcycling import upcycle
from weightspace.grow.wider import widen
from weightspace.grow.width import compose, sizes, take

__all__ = [
  "Dropped",
  "affinity",
  "assemble",
  "balance",
  "best",
  "block_scores",
  "chosen",
  "compose",
  "darts",
  "deepen",
  "draw_children",
  "draw_gates",
  "drnas",
  "dropped",
  "entangle",
  "gate_optimiser",
  "gate_units",
  "gated",
  "gated_loss",
  "hybrid",
  "inherit",
  "inside",
  "kept_share",
  "open_units",
  "orthogonal",
  "part",
  "pooling",
  "restack",
  "rewarded",
  "route",
  "sandwich",
  "search",
  "side_by_side",
  "sizes",
  "spaced",
  "take",
  "unit_scores",
  "upcycle",
  "widen",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
