"""Trackers: what a run logs, sent also to TensorBoard or Weights & Biases.

A tracker is fed from `run.log`, one record a line: words and whole numbers name
the series, floats are its values, at the record's step (or epoch, or seed).
metrics.jsonl stays what counts: a tracker may miss nothing that the process has
logged, and repeats nothing when a run is resumed.

>>> series({"method": "greedy", "seed": 3, "loss": 0.5, "seconds": 1.0})
({'greedy/loss': 0.5}, 3)
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.run import runs

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
STEPS = ("step", "epoch", "seed")


class Tracker(NamedTuple):
  """Where records go."""

  write: Callable[[dict[str, float], int], None]
  close: Callable[[], None]


def check(name: str | None) -> None:
  """Raise a ValueError where the package of a tracker is missing."""
  if name and importlib.util.find_spec(PACKAGES[name]) is None:
    raise ValueError(
      f"--tracker: {name!r} needs {PACKAGES[name]}, which is not installed,"
      f" expected after pip install '.[{name}]'"
    )


def begin(
  name: str, folder: runs.Folder, about: Mapping[str, str], config: Any
) -> Tracker:
  """Return the tracker of a name, which writes into the run folder."""
  if name == "tensorboard":
    return _tensorboard(folder)
  return _wandb(folder, about, config)


def _tensorboard(folder: runs.Folder) -> Tracker:
  import tensorboardX

  writer = tensorboardX.SummaryWriter(logdir=str(folder / "tensorboard"))

  def write(values: dict[str, float], step: int) -> None:
    for tag, value in values.items():
      writer.add_scalar(tag, value, step)

  return Tracker(write, writer.close)


def _wandb(
  folder: runs.Folder, about: Mapping[str, str], config: Any
) -> Tracker:
  """Begin or go on; WANDB_MODE=offline keeps all in the folder."""
  import wandb

  session = wandb.init(
    project=about["experiment"],
    name=about["name"],
    id=folder.name,
    resume="allow",
    dir=str(folder),
    config=config,
  )

  def write(values: dict[str, float], step: int) -> None:
    # Its own steps must not fall, and seeds begin anew with each method.
    session.log(values | {"step": step})

  return Tracker(write, session.finish)


def feed(tracker: Tracker) -> Callable[[Mapping[str, Any]], None]:
  """Return what takes the records of a run."""

  def take(record: Mapping[str, Any]) -> None:
    values, step = series(record)
    if values:
      tracker.write(values, step)

  return take


def series(record: Mapping[str, Any]) -> tuple[dict[str, float], int]:
  """Return {series: value} of one record, and its step."""
  step = next((record[name] for name in STEPS if name in record), 0)
  words = [
    str(value) if isinstance(value, str) else f"{name}{value}"
    for name, value in record.items()
    if isinstance(value, str | int) and name not in STEPS
  ]
  values = {
    "/".join([*words, name]): value
    for name, value in record.items()
    if isinstance(value, float) and name != "seconds"
  }
  return values, int(step)
