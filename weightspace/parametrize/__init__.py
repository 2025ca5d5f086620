"""Parametrize: a leaf that is computed from others.

A struct with `.value()` stands where an array stands; everything else sees the
value.

>>> import jax
>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> p = ws.parametrize
>>> params = {"w": jnp.ones((4, 3)), "b": jnp.zeros(3)}
>>> tree = p.attach(params, "w", p.lora(2), jax.random.key(0))
>>> p.value(tree)["w"].shape, p.count(tree)  # a, b of the adapter, and b
((4, 3), 17)
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.parametrize.attaching import (
  attach,
  changes,
  detach,
  with_changes,
)
from weightspace.parametrize.blocks import Bone, Miss, bone, miss
from weightspace.parametrize.combinations import (
  Companded,
  Masked,
  Mixture,
  companded,
  masked,
)
from weightspace.parametrize.dora_vera import Dora, Vera, dora, vera
from weightspace.parametrize.explained_variance import eva, explained_ranks
from weightspace.parametrize.few_levels import (
  Quantised,
  pack,
  quantise,
  quantised,
  unpack,
)
from weightspace.parametrize.kronecker_sums import (
  Kronecker,
  kronecker,
  rules,
  share,
)
from weightspace.parametrize.leaf import is_leaf, value
from weightspace.parametrize.low_rank import Adapter, lora
from weightspace.parametrize.merging import Changed, Shaped, merge, unmerge
from weightspace.parametrize.nnx_lora import from_nnx_lora, to_nnx_lora
from weightspace.parametrize.oscillations import (
  Oscillations,
  anneal,
  oscillation,
)
from weightspace.parametrize.powers import best_power, learn_power
from weightspace.parametrize.rank_allocation import Allocation, adalora
from weightspace.parametrize.rank_schedule import rank_budget
from weightspace.parametrize.straight_through import (
  LearnedScale,
  StatsQ,
  query_key,
  scale_learned,
  stats_quantised,
  statsq,
)
from weightspace.parametrize.training import (
  Frozen,
  count,
  freeze,
  join,
  only_trainable,
  split,
  trainable,
)
from weightspace.parametrize.triplets import (
  SvdLora,
  kept_ranks,
  orthogonality,
  svd_lora,
)

__all__ = [
  "Adapter",
  "Allocation",
  "Bone",
  "Changed",
  "Companded",
  "Dora",
  "Frozen",
  "Kronecker",
  "LearnedScale",
  "Masked",
  "Miss",
  "Mixture",
  "Oscillations",
  "Quantised",
  "Shaped",
  "StatsQ",
  "SvdLora",
  "Vera",
  "adalora",
  "anneal",
  "attach",
  "best_power",
  "bone",
  "changes",
  "companded",
  "count",
  "detach",
  "dora",
  "eva",
  "explained_ranks",
  "freeze",
  "from_nnx_lora",
  "is_leaf",
  "join",
  "kept_ranks",
  "kronecker",
  "learn_power",
  "lora",
  "masked",
  "merge",
  "miss",
  "only_trainable",
  "orthogonality",
  "oscillation",
  "pack",
  "quantise",
  "quantised",
  "query_key",
  "rank_budget",
  "rules",
  "scale_learned",
  "share",
  "split",
  "stats_quantised",
  "statsq",
  "svd_lora",
  "to_nnx_lora",
  "trainable",
  "unmerge",
  "unpack",
  "value",
  "vera",
  "with_changes",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
