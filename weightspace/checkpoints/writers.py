"""Checkpoints written leaf by leaf, as safetensors shards with their index.

Shapes are known before the values are, so every shard is laid out at once and
each leaf goes to its place whenever it is ready.  What is written lies in a
folder of its own, `.<name>.writing`, beside a journal of the leaves that are
whole; `finish` renames it.  A killed process leaves the folder, and the same
plan goes on from its journal.

>>> import tempfile
>>> path = f"{tempfile.mkdtemp()}/merged"
>>> writer = begin(path, {"w": ((2,), np.dtype("float32"))})
>>> writer.write("w", np.array([1.0, 2.0], np.float32))
>>> writer.finish()
>>> sorted(os.listdir(path))
['model.safetensors']
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from weightspace.checkpoints import tensor_files

JOURNAL = "journal.jsonl"
SHARD_BYTES = 5_000_000_000
Text = str | bytes | Callable[[], str]  # of a file beside the shards
FORMAT = {"format": "pt"}  # transformers reads files that say so, and no others


class Writer(NamedTuple):
  """A checkpoint on its way: leaves in any order, then `finish`."""

  path: str
  aside: str
  entries: dict[str, tensor_files.Entry]
  done: set[str]  # leaves that are whole, from before too

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
      extra: text, bytes or what returns text, by file name: a model card, say.

    Raises:
      ValueError: naming the first leaf that was not written.
    """
    for key in self.entries:
      if key not in self.done:
        raise ValueError(f"{self.path!r}: {key!r} was not written")
    texts: dict[str, Text] = dict(extra or {})
    files = sorted({entry.file for entry in self.entries.values()})
    if len(files) > 1:
      placed = {k: os.path.basename(e.file) for k, e in self.entries.items()}
      total = sum(entry.size for entry in self.entries.values())
      index = {"metadata": {"total_size": total}, "weight_map": placed}
      stem = os.path.basename(files[0]).rsplit("-", 3)[0]
      texts[f"{stem}.safetensors.index.json"] = json.dumps(index, indent=1)
    for name, text in texts.items():
      made = text() if callable(text) else text
      with open(os.path.join(self.aside, name), "wb") as stream:
        stream.write(made if isinstance(made, bytes) else made.encode())
    for file in files:
      _sync(file)
    os.remove(os.path.join(self.aside, JOURNAL))
    if self.path.endswith(".safetensors"):
      os.replace(files[0], self.path)
      shutil.rmtree(self.aside)
    else:
      os.rename(self.aside, self.path)


def begin(
  path: str | os.PathLike[str],
  kinds: Mapping[str, tensor_files.Kind],
  shard_bytes: int = SHARD_BYTES,
  about: str = "",
  stem: str = "model",
) -> Writer:
  """Lay out a checkpoint, or go on with one of the same plan.

  Args:
    path: a new folder, or a new file that ends in `.safetensors`.
    kinds: shape and dtype of each leaf by name, in file order.
    shard_bytes: largest shard of a folder; a larger leaf has one of its own.
    about: what the leaves are made from: only the same text is gone on with.
    stem: what the files of a folder are named after.

  Raises:
    ValueError: for a path that exists, no leaves, a dtype that safetensors does
      not have, or too little room on the disk.
  """
  path = os.path.abspath(path)
  if os.path.lexists(path):
    raise ValueError(f"{path!r} exists, expected a new path")
  if not kinds:
    raise ValueError(f"{path!r}: no leaves, expected at least one")
  folder, name = os.path.split(path)
  aside = os.path.join(folder, f".{name}.writing")
  shards = _shards(
    kinds, 2**62 if name.endswith(".safetensors") else shard_bytes
  )
  heads: dict[str, bytes] = {}
  entries: dict[str, tensor_files.Entry] = {}
  for number, keys in enumerate(shards):
    file = os.path.join(aside, _shard_name(stem, number, len(shards)))
    head, placed = tensor_files.lay_out(
      {k: kinds[k] for k in keys}, file, FORMAT
    )
    heads[file] = head
    entries |= placed
  plan = hashlib.sha256(about.encode())
  for head in heads.values():
    plan.update(head)
  done = _journal(aside, plan.hexdigest())
  if done is None:
    done = set()
    _create(path, aside, heads, entries, plan.hexdigest())
  return Writer(path, aside, entries, done & set(entries))


def _shards(
  kinds: Mapping[str, tensor_files.Kind], limit: int
) -> list[list[str]]:
  """Return the names that go into each shard, in order."""
  shards: list[list[str]] = [[]]
  filled = 0
  for key, (shape, dtype) in kinds.items():
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if shards[-1] and filled + size > limit:
      shards.append([])
      filled = 0
    shards[-1].append(key)
    filled += size
  return shards


def _shard_name(stem: str, number: int, count: int) -> str:
  if count == 1:
    return f"{stem}.safetensors"
  return f"{stem}-{number + 1:05d}-of-{count:05d}.safetensors"


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


def _create(
  path: str,
  aside: str,
  heads: Mapping[str, bytes],
  entries: Mapping[str, tensor_files.Entry],
  plan: str,
) -> None:
  """Make the folder with every shard at its full size."""
  shutil.rmtree(aside, ignore_errors=True)
  os.makedirs(aside)
  ends = {file: len(head) for file, head in heads.items()}
  for entry in entries.values():
    ends[entry.file] = max(ends[entry.file], entry.start + entry.size)
  free = shutil.disk_usage(aside).free
  if sum(ends.values()) > free:
    shutil.rmtree(aside)
    raise ValueError(
      f"{path!r} needs {sum(ends.values())} bytes, but the disk has {free}"
    )
  for file, head in heads.items():
    with open(file, "wb") as stream:
      stream.write(head)
      stream.truncate(ends[file])
  _append(os.path.join(aside, JOURNAL), json.dumps({"plan": plan}) + "\n")


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
