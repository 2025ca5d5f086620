"""Which weights count: a tree of boolean masks beside the parameters.

A mask is chosen (largest, random, learned), met with other masks, and kept in
training, where what is outside of it does not move.

>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> mask = ws.sparse.top({"w": jnp.array([0.3, -2.0, 1.0])}, 0.4)
>>> ws.sparse.counts(mask), mask["w"].tolist()
({'w': 1}, [False, False, True])
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.sparse.allocation import allocate
from weightspace.sparse.costs import flops
from weightspace.sparse.distortions import curves
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
from weightspace.sparse.jackpots import (
  Jackpot,
  Search,
  jackpot,
  search,
  swapping,
  value,
)
from weightspace.sparse.magnitudes import (
  frozen_zeros,
  magnitude_mask,
  masked_mean,
  prune,
  sparsity,
)
from weightspace.sparse.masks import (
  apply,
  counts,
  exclusive,
  intersect,
  overlap,
  union,
)
from weightspace.sparse.packed import Packed, merged, pack, unpack
from weightspace.sparse.principal_weights import principal
from weightspace.sparse.selection import by_layer, top
from weightspace.sparse.swaps import short_restriction, swap
from weightspace.sparse.transfer import Similarity, similar

__all__ = [
  "Dynamic",
  "Jackpot",
  "Packed",
  "Search",
  "Similarity",
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
  "flops",
  "frozen_zeros",
  "hard_concrete",
  "intersect",
  "jackpot",
  "magnitude_mask",
  "masked_mean",
  "merged",
  "open_chance",
  "overlap",
  "pack",
  "parallel",
  "principal",
  "prune",
  "random",
  "rigl",
  "search",
  "set_",
  "short_restriction",
  "shuffled",
  "similar",
  "sparsity",
  "straight_through",
  "supermask",
  "swap",
  "swapping",
  "top",
  "train_only",
  "union",
  "unpack",
  "value",
  "wide",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
