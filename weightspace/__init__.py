"""weightspace: experiments in weight space as pure pytree transforms.

Averaging, merging, permutation matching and loss-landscape probes on the
parameters of any model, in memory, vmapped, sharded or streamed.

>>> import weightspace as ws
>>> ws.weighted_mean(ws.stack([{"w": 1.0}, {"w": 3.0}]))["w"].item()
2.0
"""

import importlib
from typing import TYPE_CHECKING, Any

from weightspace.trees import (
  fingerprint,
  stack,
  unstack,
  weighted_mean,
  weighted_sum,
)
from weightspace.types import Fold, Member

if TYPE_CHECKING:
  from weightspace import checkpoints, data, merge, models, report, train

_ROOMS = ("checkpoints", "data", "graph", "merge", "mixes", "models", "paths")
_ROOMS += ("report", "train", "trees", "types")


def __getattr__(name: str) -> Any:
  """Import a room when it is first asked for: flax and Orbax are slow."""
  if name in _ROOMS:
    return importlib.import_module(f"weightspace.{name}")
  raise AttributeError(f"module 'weightspace' has no attribute {name!r}")


__all__ = [
  "Fold",
  "Member",
  "checkpoints",
  "data",
  "fingerprint",
  "merge",
  "models",
  "report",
  "stack",
  "train",
  "unstack",
  "weighted_mean",
  "weighted_sum",
]
