"""weightspace: experiments in weight space as pure pytree transforms.

Averaging, merging, permutation matching and loss-landscape probes on the
parameters of any model, in memory, vmapped, sharded or streamed.

>>> import weightspace as ws
>>> ws.weighted_mean(ws.stack([{"w": 1.0}, {"w": 3.0}]))["w"].item()
2.0
"""

import importlib
from typing import TYPE_CHECKING, Any

from weightspace import faces
from weightspace.means import weighted_mean, weighted_sum
from weightspace.trees import fingerprint, stack, unstack
from weightspace.types import Fold, Member

__version__ = "0.2.0"

if TYPE_CHECKING:
  from weightspace import (
    average,
    checkpoints,
    data,
    figures,
    generate,
    grow,
    intervals,
    losses,
    match,
    merge,
    models,
    parametrize,
    probe,
    report,
    sparse,
    statistics,
    train,
  )
  from weightspace.paths.path import along, barrier, line

_ROOMS = {"average", "match", "probe", "sparse", "statistics"}
_ROOMS |= {"grow", "checkpoints", "data", "intervals", "losses", "means"}
_ROOMS |= {"merge", "mixes", "models", "parametrize", "paths", "report"}
_ROOMS |= {"figures", "generate", "train", "trees"}
_ROOMS |= {"jaxpr", "search", "symmetry", "types"}
_MOVED = {"graph": "weightspace.jaxpr.graph"}  # names that stay public
_PATHS = {"along", "barrier", "line"}


def __getattr__(name: str) -> Any:
  """Import a room when it is first asked for: flax and Orbax are slow."""
  if name in _ROOMS:
    return importlib.import_module(f"weightspace.{name}")
  if name in _MOVED:
    return importlib.import_module(_MOVED[name])
  if name in _PATHS:
    return getattr(importlib.import_module("weightspace.paths"), name)
  raise AttributeError(faces.unknown("weightspace", name, __dir__()))


def __dir__() -> list[str]:
  """Show the rooms and the public names."""
  return sorted({*_ROOMS, *__all__})


__all__ = [
  "Fold",
  "Member",
  "along",
  "average",
  "barrier",
  "checkpoints",
  "data",
  "figures",
  "fingerprint",
  "generate",
  "grow",
  "intervals",
  "line",
  "losses",
  "match",
  "merge",
  "models",
  "parametrize",
  "probe",
  "report",
  "sparse",
  "stack",
  "statistics",
  "symmetry",
  "train",
  "unstack",
  "weighted_mean",
  "weighted_sum",
]
