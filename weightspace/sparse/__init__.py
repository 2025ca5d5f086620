"""Which weights count: a tree of boolean masks beside the parameters.

A mask is chosen (largest, random, learned), met with other masks, and kept in
training, where what is outside of it does not move.

>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> mask = ws.sparse.top({"w": jnp.array([0.3, -2.0, 1.0])}, 0.4)
>>> ws.sparse.counts(mask), mask["w"].tolist()
({'w': 1}, [False, False, True])
"""

from weightspace.sparse.drawing import erk, random, shuffled
from weightspace.sparse.dynamic import Dynamic, rigl, set_
from weightspace.sparse.freezing import TrainOnly, train_only
from weightspace.sparse.gates import (
  hard_concrete,
  open_chance,
  straight_through,
  supermask,
)
from weightspace.sparse.iso_flop import (
  densities,
  doped,
  factorised,
  parallel,
  wide,
)
from weightspace.sparse.jackpots import swap
from weightspace.sparse.masks import (
  apply,
  counts,
  exclusive,
  intersect,
  overlap,
  union,
)
from weightspace.sparse.principal_weights import principal
from weightspace.sparse.rate_distortion import allocate, curves
from weightspace.sparse.selection import by_layer, top

__all__ = [
  "Dynamic",
  "TrainOnly",
  "allocate",
  "apply",
  "by_layer",
  "counts",
  "curves",
  "densities",
  "doped",
  "erk",
  "exclusive",
  "factorised",
  "hard_concrete",
  "intersect",
  "open_chance",
  "overlap",
  "parallel",
  "principal",
  "random",
  "rigl",
  "set_",
  "shuffled",
  "straight_through",
  "supermask",
  "swap",
  "top",
  "train_only",
  "union",
  "wide",
]
