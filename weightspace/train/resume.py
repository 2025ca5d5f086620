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
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import checkpoints, trees
from weightspace.hosts import multihost
from weightspace.types import Data, Member, Stack

NAME = re.compile(r"epoch-\d{6}")


class Checkpoint(NamedTuple):
  """Where a run is saved, and when.

  After each `every` epochs and at the end; with `seconds` only when so many
  have passed since the last time.  A folder of another run is refused, or with
  `anew` warned of and written over.
  """

  folder: str | os.PathLike[str]
  every: int = 1
  seconds: float = 0.0
  anew: bool = False


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
  checkpoint: Checkpoint | None,
  run: Callable[[], Member],
  state: Any,
  epochs: int,
) -> tuple[int, list[np.ndarray], Any]:
  """Return (epochs done, losses of each, state) of the newest save.

  Args:
    checkpoint: where to look; None for a run that is not saved.
    run: says what determines the run that asks; called where that is needed.
    state: before the first epoch; returned when nothing is saved.
    epochs: how many the run shall have.

  Raises:
    ValueError: when the folder holds another run, saying what differs, or one
      that is longer already.
  """
  if checkpoint is None:
    return 0, [], state
  newest = multihost.share(max(_saved(checkpoint.folder), default=""))
  if not newest:
    return 0, [], state
  path = os.path.join(checkpoint.folder, newest)
  other = multihost.share(_differs(path, run()))
  if other and checkpoint.anew:
    warnings.warn(f"{other}: this run begins anew", stacklevel=3)
    return 0, [], state
  if other:
    raise ValueError(f"{other}, expected this run's own or an empty folder")
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


def _differs(path: str, run: Member) -> str:
  """Say of what other run a save is; nothing when it is of this one."""
  found = checkpoints.member(path) or Member("", -1)
  parts = ("starts", None, "data", "loss, optimiser or settings")
  for part, a, b in zip(parts, found, run):
    if part and a != b:
      return f"{path!r} is of a run with other {part}"
  return ""


def due(checkpoint: Checkpoint, done: int, epochs: int, since: float) -> bool:
  """Tell, in all processes alike, whether to save now.

  Args:
    checkpoint: says when.
    done: epochs.
    epochs: how many the run shall have.
    since: `time.monotonic()` of the last save, or of the start.

  >>> due(Checkpoint("runs/one", every=5), 5, 8, time.monotonic())
  True
  """
  if done % checkpoint.every and done < epochs:
    return False
  if not checkpoint.seconds:
    return True
  waited = time.monotonic() - since >= checkpoint.seconds
  return bool(multihost.share("now" if waited else ""))


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

  multihost.first(drop)


def _saved(folder: str | os.PathLike[str]) -> list[str]:
  names = os.listdir(folder) if os.path.isdir(folder) else []
  return [name for name in names if NAME.fullmatch(name)]
