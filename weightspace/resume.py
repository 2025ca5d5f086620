"""Resuming: a training run saved after whole epochs, and taken up again.

What determines a run (starts, data, program, key, hyper-parameters) is hashed
into the `Member` record beside its state, so that a folder is only ever resumed
by the run that wrote it.  The number of epochs and the strategy are not part of
it: a run may be prolonged, or go on elsewhere.

>>> Checkpoint("runs/one/checkpoints", every=5).every
5
"""

import os
import re
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import checkpoints, processes, trees
from weightspace.types import Data, Member, Stack

NAME = re.compile(r"epoch-\d{6}")


class Checkpoint(NamedTuple):
  """Where a run is saved, and after how many epochs each time."""

  folder: str | os.PathLike[str]
  every: int = 1


def record(stack: Stack, data: Data, program: Any, *rest: Any) -> Member:
  """Return what determines a run.

  Args:
    stack: the starts.
    data: the training data.
    program: the jaxpr of a step: loss, optimiser, augmentation and folds.
    *rest: trees of arrays and numbers.
  """
  text = re.sub(r"0x[0-9a-f]+", "", str(program))  # addresses of functions
  own = trees.fingerprint(
    (np.frombuffer(text.encode(), np.uint8), program.consts, rest)
  )
  return Member(trees.fingerprint(stack), 0, trees.fingerprint(data), own)


def load(
  checkpoint: Checkpoint, run: Member, state: Any, epochs: int
) -> tuple[int, list[np.ndarray], Any]:
  """Return (epochs done, losses of each, state) of the newest save.

  Args:
    checkpoint: where to look.
    run: what determines the run that asks.
    state: before the first epoch; returned when nothing is saved.
    epochs: how many the run shall have.

  Raises:
    ValueError: when the folder holds another run, saying what differs, or one
      that is longer already.
  """
  newest = processes.share(max(_saved(checkpoint.folder), default=""))
  if not newest:
    return 0, [], state
  path = os.path.join(checkpoint.folder, newest)
  found = checkpoints.member(path)
  parts = ("starts", None, "data", "loss, optimiser or settings")
  for part, a, b in zip(parts, found or Member("", -1), run):
    if part and a != b:
      raise ValueError(
        f"{path!r} is of a run with other {part}, expected this run's own or an"
        " empty folder"
      )
  tree = checkpoints.restore(path)
  done = len(tree["losses"])
  if done > epochs:
    raise ValueError(f"{path!r} has {done} epochs, expected at most {epochs}")
  leaves = map(jnp.asarray, tree["state"])
  return (
    done,
    list(tree["losses"]),
    jax.tree.unflatten(jax.tree.structure(state), leaves),
  )


def store(
  checkpoint: Checkpoint, run: Member, losses: list[np.ndarray], state: Any
) -> None:
  """Save a run after as many epochs as it has losses; drop older saves."""
  folder = os.fspath(checkpoint.folder)
  older = _saved(folder)
  tree = {"state": jax.tree.leaves(state), "losses": np.stack(losses)}
  path = os.path.join(folder, f"epoch-{len(losses):06d}")
  checkpoints.save(path, tree, member=run, overwrite=True)

  def drop() -> None:
    for name in older:
      if name != os.path.basename(path):
        shutil.rmtree(os.path.join(folder, name))

  processes.first(drop)


def _saved(folder: str | os.PathLike[str]) -> list[str]:
  names = os.listdir(folder) if os.path.isdir(folder) else []
  return [name for name in names if NAME.fullmatch(name)]
