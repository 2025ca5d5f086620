"""Smaller and larger networks from this one: sliced, repeated, assembled.

Width is an index map over the axes that `trace_axes` reads off a model
(`take`), depth an order of its blocks (`restack`).  Both are linear maps of the
parameters, so a supernet is a loss of slices, and a tie is a repeat.

>>> restack({"block_0": 1.0, "block_1": 2.0}, "block_*", spaced(2, 1))
{'block_0': 1.0}
"""

from weightspace.grow.depth import restack, spaced
from weightspace.grow.width import compose, sizes, take

__all__ = ["compose", "restack", "sizes", "spaced", "take"]
