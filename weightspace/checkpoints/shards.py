"""Where the leaves of a new checkpoint will lie: files, heads, places.

Shapes and dtypes are known before the values are, so that whatever does not fit
the format or the disk is refused before any work.

>>> import tempfile
>>> kinds = {"w": ((2,), np.dtype("float32")), "b": ((2,), np.dtype("float32"))}
>>> found = lay_out(f"{tempfile.mkdtemp()}/merged", kinds, 8)
>>> [os.path.basename(entry.file) for entry in found.entries.values()]
['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from weightspace.checkpoints import places, tensor_files

SHARD = re.compile(r"-\d{5}-of-(\d{5})\.safetensors$")
SHARD_BYTES = 5_000_000_000
FORMAT = {"format": "pt"}  # transformers reads files that say so, and no others

Stem = str | Mapping[str, str]
Kinds = Mapping[str, tensor_files.Kind]


class Layout(NamedTuple):
  """Where each leaf of a checkpoint will lie."""

  path: str
  aside: str  # where it is written until it is whole
  heads: dict[str, bytes]  # by file
  entries: dict[str, tensor_files.Entry]

  @property
  def ends(self) -> dict[str, int]:
    """The size of each file in bytes."""
    ends = {file: len(head) for file, head in self.heads.items()}
    for entry in self.entries.values():
      ends[entry.file] = max(ends[entry.file], entry.start + entry.size)
    return ends


def lay_out(
  path: str | os.PathLike[str],
  kinds: Kinds,
  shard_bytes: int = SHARD_BYTES,
  stem: Stem = "model",
) -> Layout:
  """Return where each leaf of a new checkpoint would lie; nothing is written.

  Args:
    path: a new folder, or a new file that ends in `.safetensors`.
    kinds: shape and dtype of each leaf by name, in file order.
    shard_bytes: largest shard of a folder; a larger leaf has one of its own.
    stem: what the files of a folder are named after; or, by how the leaves'
      names begin, which is then their folder: {"unet/": "model"}.

  Raises:
    ValueError: for a path that exists, no leaves, a dtype that safetensors does
      not have, or too little room on the disk.
  """
  path = places.local(path, "files of safetensors")
  if os.path.lexists(path):
    raise ValueError(f"{path!r} exists, expected a new path")
  if not kinds:
    raise ValueError(f"{path!r}: no leaves, expected at least one")
  folder, name = os.path.split(path)
  aside = os.path.join(folder, f".{name}.writing")
  limit = 2**62 if name.endswith(".safetensors") else shard_bytes
  layout = Layout(path, aside, {}, {})
  stems = {"": stem} if isinstance(stem, str) else dict(stem)
  for prefix in stems:
    inner = {k: kind for k, kind in kinds.items() if k.startswith(prefix)}
    parts = _shards(inner, limit)
    for number, keys in enumerate(parts):
      file = _shard_name(stems[prefix], number, len(parts))
      file = os.path.join(aside, prefix, file)
      names = {key.removeprefix(prefix): inner[key] for key in keys}
      layout.heads[file], placed = tensor_files.lay_out(names, file, FORMAT)
      for key, entry in placed.items():
        layout.entries[f"{prefix}{key}"] = entry
  if not os.path.isdir(aside):  # else its files are there in their full size
    check_room(layout)
  return layout


def check_room(layout: Layout) -> None:
  """Raise a ValueError where the disk has too little room for all files."""
  folder, need = os.path.dirname(layout.path), sum(layout.ends.values())
  while not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  free = shutil.disk_usage(folder).free
  if need > free:
    raise ValueError(
      f"{layout.path!r} needs {need} bytes, but the disk has {free}"
    )


def indices(entries: Mapping[str, tensor_files.Entry]) -> dict[str, str]:
  """Return the text of each index, by its path: one where there are shards."""
  groups: dict[str, dict[str, tensor_files.Entry]] = {}
  for entry in entries.values():
    shard = SHARD.search(entry.file)
    if shard:
      stem = entry.file[: shard.start()]
      groups.setdefault(stem, {})[entry.name] = entry
  texts = {}
  for stem, found in groups.items():
    placed = {name: os.path.basename(e.file) for name, e in found.items()}
    total = sum(entry.size for entry in found.values())
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    texts[f"{stem}.safetensors.index.json"] = json.dumps(index, indent=1)
  return texts


def _shards(kinds: Kinds, limit: int) -> list[list[str]]:
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
