"""Checkpoints written leaf by leaf, as safetensors shards with their index.

Shapes are known before the values are, so every shard is laid out at once and
each leaf goes to its place whenever it is ready.  What is written lies in a
folder of its own, `.<name>.writing`, beside a journal of the leaves that are
whole; `finish` renames it.  A killed process leaves the folder, and the same
plan goes on from its journal.  One process at a time holds the folder, by a
lock that the system frees however the process ends.

>>> import tempfile
>>> path = f"{tempfile.mkdtemp()}/merged"
>>> writer = begin(path, {"w": ((2,), np.dtype("float32"))})
>>> writer.write("w", np.array([1.0, 2.0], np.float32))
>>> writer.finish()
>>> sorted(os.listdir(path))
['model.safetensors']
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from weightspace.checkpoints import shards, tensor_files

JOURNAL = "journal.jsonl"
LOCK = "lock"
SHARD_BYTES = shards.SHARD_BYTES
Text = str | bytes | Callable[[], str]  # of a file beside the shards


class Writer(NamedTuple):
  """A checkpoint on its way: leaves in any order, then `finish`."""

  path: str
  aside: str
  entries: dict[str, tensor_files.Entry]
  done: set[str]  # leaves that are whole, from before too
  lock: int  # an open file, whose lock ends with it

  def write(self, key: str, leaf: Any) -> None:
    """Put a leaf in its place and note it in the journal.

    Raises:
      ValueError: naming the leaf, when it is unknown or of another shape or
        dtype than planned, or when the disk is full.
    """
    self.write_rows(key, leaf, None, True)

  def write_rows(
    self, key: str, part: Any, rows: slice | None, ends: bool
  ) -> None:
    """Put some rows of a leaf in their place; None for all of them.

    Args:
      key: the leaf.
      part: its rows `rows`.
      rows: a slice of the first axis, of step one.
      ends: whether the leaf is whole with them.

    Raises:
      ValueError: as `write`.
    """
    if key not in self.entries:
      raise ValueError(f"{self.path!r}: {key!r} is not planned")
    entry, array = self.entries[key], np.asarray(part)
    shape, before = entry.shape, 0
    if rows is not None:
      shape = (rows.stop - rows.start, *shape[1:])
      before = rows.start * entry.size // max(entry.shape[0], 1)
    if (array.shape, array.dtype) != (shape, entry.dtype):
      raise ValueError(
        f"{self.path!r}: {key!r} is {array.shape} {array.dtype}, expected"
        f" {shape} {entry.dtype}"
      )
    # The bytes of a strided array are not those of its values.
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    try:
      _write_at(entry.file, entry.start + before, flat.data)
      if ends:
        _append(os.path.join(self.aside, JOURNAL), json.dumps(key) + "\n")
    except OSError as error:
      raise _refused(self.path, key, error) from error
    if ends:
      self.done.add(key)

  def finish(self, extra: Mapping[str, Text] | None = None) -> None:
    """Write the index and further files, and rename the folder.

    Args:
      extra: text, bytes or what returns text, by path in the folder: a model
        card, say.

    Raises:
      ValueError: naming the first leaf that was not written.
    """
    for key in self.entries:
      if key not in self.done:
        raise ValueError(f"{self.path!r}: {key!r} was not written")
    for name, text in {**shards.indices(self.entries), **(extra or {})}.items():
      made = text() if callable(text) else text
      where = os.path.join(self.aside, name)
      os.makedirs(os.path.dirname(where), exist_ok=True)
      with open(where, "wb") as stream:
        stream.write(made if isinstance(made, bytes) else made.encode())
    files = sorted({entry.file for entry in self.entries.values()})
    for file in files:
      _sync(file)
    os.remove(os.path.join(self.aside, JOURNAL))
    os.remove(os.path.join(self.aside, LOCK))
    if self.path.endswith(".safetensors"):
      os.replace(files[0], self.path)
      shutil.rmtree(self.aside)
    else:
      os.rename(self.aside, self.path)
    os.close(self.lock)


def begin(
  path: str | os.PathLike[str],
  kinds: Mapping[str, tensor_files.Kind],
  shard_bytes: int = SHARD_BYTES,
  about: str = "",
  stem: shards.Stem = "model",
) -> Writer:
  """Lay out a checkpoint, or go on with one of the same plan.

  Args:
    path, kinds, shard_bytes, stem: as in `shards.lay_out`.
    about: what the leaves are made from: only the same text is gone on with.

  Raises:
    ValueError: as `shards.lay_out`; for a path that another process writes.
  """
  layout = shards.lay_out(path, kinds, shard_bytes, stem)
  plan = hashlib.sha256(about.encode())
  for head in layout.heads.values():
    plan.update(head)
  lock = _hold(layout.path, layout.aside)
  done = _journal(layout.aside, plan.hexdigest())
  if done is None:
    done = set()
    _create(layout, plan.hexdigest())
  entries = layout.entries
  return Writer(layout.path, layout.aside, entries, done & set(entries), lock)


def _hold(path: str, aside: str) -> int:
  """Make the working folder and lock it; return the file that has the lock.

  Raises:
    ValueError: when another process holds it, or has just finished.
  """
  os.makedirs(aside, exist_ok=True)
  where = os.path.join(aside, LOCK)
  file = os.open(where, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:  # any other kind: a file system without locks
    if error.errno in (errno.EACCES, errno.EAGAIN):
      os.close(file)
      raise ValueError(
        f"{path!r} is being written by another process, expected one at a time"
      ) from None
  moved = not os.path.exists(where)
  if moved or not os.path.samestat(os.stat(where), os.fstat(file)):
    os.close(file)
    raise ValueError(f"{path!r} exists, expected a new path")
  return file


def _journal(aside: str, plan: str) -> set[str] | None:
  """Return the leaves that a killed process left; None where none count."""
  path = os.path.join(aside, JOURNAL)
  try:
    with open(path, "rb") as stream:
      text = stream.read()
  except OSError:
    return None
  whole = text[: text.rfind(b"\n") + 1]  # a torn last line has no newline
  lines = whole.decode().splitlines()
  if not lines or lines[0] != json.dumps({"plan": plan}):
    return None
  os.truncate(path, len(whole))
  return {json.loads(line) for line in lines[1:]}


def _create(layout: shards.Layout, plan: str) -> None:
  """Fill the working folder with every shard at its full size."""
  for name in os.listdir(layout.aside):
    old = os.path.join(layout.aside, name)
    if os.path.isdir(old):
      shutil.rmtree(old)
    elif name != LOCK:
      os.remove(old)
  shards.check_room(layout)
  for file, end in layout.ends.items():
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "wb") as stream:
      stream.write(layout.heads[file])
      stream.truncate(end)
  journal = os.path.join(layout.aside, JOURNAL)
  _append(journal, json.dumps({"plan": plan}) + "\n")


def _write_at(path: str, place: int, view: memoryview) -> None:
  file = os.open(path, os.O_WRONLY)
  try:
    while view:
      count = os.pwrite(file, view[: 2**30], place)
      place, view = place + count, view[count:]
  finally:
    os.close(file)


def _append(path: str, line: str) -> None:
  with open(path, "a", encoding="utf-8") as stream:
    stream.write(line)


def _sync(path: str) -> None:
  file = os.open(path, os.O_RDONLY)
  try:
    os.fsync(file)
  finally:
    os.close(file)


def _refused(path: str, key: str, error: OSError) -> ValueError:
  if error.errno in (errno.ENOSPC, errno.EDQUOT):
    return ValueError(
      f"{path!r}: the disk is full at {key!r}; what was written is kept, free"
      " some space and run this again"
    )
  return ValueError(f"{path!r}: {key!r} cannot be written: {error}")
