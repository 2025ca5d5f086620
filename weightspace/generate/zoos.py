"""Zoos: a population with its records and what was measured of its members.

>>> import tempfile
>>> found = zoo({"w": jnp.ones((2, 3))}, metrics={"accuracy": [0.5, 0.7]})
>>> path = f"{tempfile.mkdtemp()}/zoo"
>>> save_zoo(path, found)
>>> load_zoo(path).metrics["accuracy"].tolist()
[0.5, 0.7]
"""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import checkpoints, trees
from weightspace.types import Member, Params, Stack

PathLike = str | os.PathLike[str]
MODELS, METRICS = "models.safetensors", "metrics.safetensors"
MEMBERS = "members.json"


class Zoo(NamedTuple):
  """Models as data: who they are, and what is known of each."""

  stack: Stack  # [M, ...]
  members: tuple[Member, ...]  # [M], where each came from
  metrics: dict[str, np.ndarray]  # [M, ...] by name: accuracies, conditions


def zoo(
  models: Stack | Sequence[Params] | Sequence[PathLike],
  members: Sequence[Member] | None = None,
  metrics: Mapping[str, Any] | None = None,
) -> Zoo:
  """Return a population with its records and metrics, checked to fit.

  Args:
    models: a Stack, a list of models, or of paths of checkpoints, as a sweep
      leaves them: those are read with the records that lie in them.
    members: M records; None for those of the checkpoints, or for records that
      know the seed 0 to M - 1 and, as their start, nothing.
    metrics: arrays [M, ...] by name, such as test accuracy, or the condition
      that a model was trained under.

  Returns:
    Zoo.

  Raises:
    ValueError: for no models, members or metrics that are not M, a model that
      differs from the first, or NaN in a model.

  >>> len(zoo([{"w": 1.0}, {"w": 2.0}]).members)
  2

  The zoos of Soro et al. 2024, https://arxiv.org/abs/2402.18153, and Schürholt
  et al. 2022, https://arxiv.org/abs/2209.14764.
  """
  listed = isinstance(models, list | tuple) and len(models) > 0
  if listed and isinstance(models[0], str | os.PathLike):
    found = [checkpoints.member(path) for path in models]
    if members is None and None not in found:
      members = [record for record in found if record is not None]
    models = [checkpoints.restore(path) for path in models]
  stack = trees.stack(models) if listed else jax.tree.map(jnp.asarray, models)
  count = trees.size(stack)
  trees.check_finite(stack, "zoo", stacked=True)
  if members is None:
    members = [Member("", seed) for seed in range(count)]
  if len(members) != count:
    raise ValueError(f"zoo: {len(members)} members, expected {count}")
  arrays = {name: np.asarray(x) for name, x in (metrics or {}).items()}
  for name, array in arrays.items():
    if array.shape[:1] != (count,):
      raise ValueError(
        f"zoo: metric {name!r} is {array.shape}, expected [{count}, ...]"
      )
  return Zoo(stack, tuple(members), arrays)


def save_zoo(path: PathLike, zoo: Zoo) -> None:
  """Write a zoo as one new folder of safetensors and a table of its members.

  The folder is written aside and renamed: it holds all or is not there.

  Args:
    path: of the folder; parent folders are made.
    zoo: from `zoo`.

  Raises:
    ValueError: for a path that exists, or a leaf or metric that safetensors
      cannot hold.

  >>> import tempfile
  >>> path = f"{tempfile.mkdtemp()}/zoo"
  >>> save_zoo(path, zoo([{"w": 1.0}], metrics={"loss": [0.5]}))
  >>> sorted(os.listdir(path))
  ['members.json', 'metrics.safetensors', 'models.safetensors']
  """
  path = pathlib.Path(path).absolute()
  if path.exists():
    raise ValueError(f"zoo: {str(path)!r} exists, expected a new path")
  aside = path.with_name(f".{path.name}.writing")
  shutil.rmtree(aside, ignore_errors=True)
  aside.mkdir(parents=True)
  checkpoints.save(aside / MODELS, zoo.stack)
  if zoo.metrics:
    checkpoints.save(aside / METRICS, zoo.metrics)
  records = [member._asdict() for member in zoo.members]
  (aside / MEMBERS).write_text(json.dumps(records, indent=1))
  aside.rename(path)


def load_zoo(path: PathLike) -> Zoo:
  """Return the zoo that `save_zoo` wrote.

  Raises:
    ValueError: for a folder that is none, or whose files do not fit together.
  """
  folder = pathlib.Path(path)
  for name in (MODELS, MEMBERS):
    if not (folder / name).is_file():
      raise ValueError(f"zoo: {str(folder)!r} has no {name}, expected a zoo")
  try:
    records = json.loads((folder / MEMBERS).read_text())
    members = [Member(**record) for record in records]
  except (ValueError, TypeError) as error:
    raise ValueError(f"zoo: {str(folder / MEMBERS)!r}: {error}") from None
  stack = checkpoints.restore(folder / MODELS)
  measured = folder / METRICS
  metrics = checkpoints.restore(measured) if measured.exists() else {}
  return zoo(stack, members, metrics)
