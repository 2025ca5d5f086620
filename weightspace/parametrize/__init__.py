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

from weightspace.parametrize.attaching import (
  Changed,
  Shaped,
  attach,
  changes,
  detach,
  merge,
  unmerge,
  with_changes,
)
from weightspace.parametrize.blocks import (
  Bone,
  Kronecker,
  Miss,
  bone,
  kronecker,
  miss,
  rules,
  share,
)
from weightspace.parametrize.combinations import (
  Companded,
  Masked,
  Mixture,
  companded,
  masked,
)
from weightspace.parametrize.explained_variance import eva, explained_ranks
from weightspace.parametrize.few_levels import (
  Quantised,
  pack,
  quantise,
  quantised,
  unpack,
)
from weightspace.parametrize.leaf import is_leaf, value
from weightspace.parametrize.low_rank import (
  Adapter,
  Dora,
  SvdLora,
  Vera,
  dora,
  lora,
  svd_lora,
  vera,
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

__all__ = [
  "Adapter",
  "Bone",
  "Changed",
  "Companded",
  "Dora",
  "Frozen",
  "Kronecker",
  "Masked",
  "Miss",
  "Mixture",
  "Quantised",
  "Shaped",
  "SvdLora",
  "Vera",
  "attach",
  "bone",
  "changes",
  "companded",
  "count",
  "detach",
  "dora",
  "eva",
  "explained_ranks",
  "freeze",
  "is_leaf",
  "join",
  "kronecker",
  "lora",
  "masked",
  "merge",
  "miss",
  "only_trainable",
  "pack",
  "quantise",
  "quantised",
  "rules",
  "share",
  "split",
  "svd_lora",
  "trainable",
  "unmerge",
  "unpack",
  "value",
  "vera",
  "with_changes",
]
