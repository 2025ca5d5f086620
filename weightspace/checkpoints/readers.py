"""Checkpoints opened without loading: names, shapes, dtypes, single leaves.

One reader for a safetensors file, a folder of shards with its index, an Orbax
folder and an npz file.  Opening checks the whole checkpoint's headers; a leaf,
or a slice of one, is read when it is asked for and nothing else is.

>>> import tempfile
>>> from weightspace.checkpoints import folders as checkpoints
>>> path = f"{tempfile.mkdtemp()}/model.safetensors"
>>> checkpoints.save(path, {"dense": {"kernel": np.arange(6).reshape(3, 2)}})
>>> reader = open(path)
>>> reader.keys(), reader.shape("dense/kernel")
(['dense/kernel'], (3, 2))
>>> reader.read("dense/kernel", slice(1, 2)).tolist()
[[2, 3]]
"""

import builtins
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from weightspace.checkpoints import (
  orbax_trees,
  places,
  publishers,
  tensor_files,
  tree_json,
)

PathLike = places.PathLike
Read = Callable[[str, Any], np.ndarray]
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INDEX = publishers.INDEX
GGUF = (
  "{!r} is GGUF, quantised for llama.cpp, which is not read; expected the"
  " safetensors that it was made from"
)
RECORD = "weightspace.json"  # beside our trees in an Orbax folder
METADATA = "weightspace"  # in the header of our safetensors files


class Reader(NamedTuple):
  """A checkpoint whose leaves are read one at a time."""

  path: str
  kinds: Mapping[str, tensor_files.Kind]  # shape and dtype by name
  load: Read
  computed: Mapping[str, Any] = {}  # forms of our trees' computed leaves

  def keys(self) -> list[str]:
    """Return the names of the leaves, in the order of the files."""
    return list(self.kinds)

  def shape(self, key: str) -> tuple[int, ...]:
    """Return the shape of a leaf, which is not read."""
    return self._kind(key)[0]

  def dtype(self, key: str) -> np.dtype:
    """Return the dtype of a leaf, which is not read."""
    return self._kind(key)[1]

  def read(self, key: str, slice: Any = None) -> np.ndarray:
    """Read a leaf, or a slice of its first axis (or a tuple of slices).

    Raises:
      ValueError: naming the checkpoint and the leaf, when it has none of that
        name or the file cannot be read.
    """
    self._kind(key)
    try:
      return self.load(key, slice)
    except ValueError:
      raise
    except Exception as error:  # each back-end has its own kinds of errors
      reason = str(error).split("\n")[0][:200] or type(error).__name__
      raise ValueError(f"{self.path!r}: {key!r}: {reason}") from error

  def _kind(self, key: str) -> tensor_files.Kind:
    if key not in self.kinds:
      raise ValueError(
        f"{self.path!r}: no leaf {key!r}, expected one of {len(self.kinds)}"
        f" such as {next(iter(self.kinds), None)!r}"
      )
    return self.kinds[key]


def open(path: PathLike, factors: bool = False) -> Reader:
  """Open a checkpoint of any supported kind.

  Args:
    path: a `.safetensors` or `.npz` file; a folder with one safetensors file,
      or shards and their index (`model.safetensors`, else its index, whatever
      lies beside it); a tree that Orbax wrote, a step of it, a run (its last
      step) or `run@step`, here or at `gs://`.
    factors: show what computed leaves of our trees consist of
      (`layer/kernel/a`) in place of their values (`layer/kernel`).

  Returns:
    Reader: `.keys()`, `.shape(key)`, `.dtype(key)`, `.read(key, slice=None)`.

  Raises:
    ValueError: naming the file, and the tensor where there is one, when
      something is missing, truncated, malformed or a pickle.
  """
  path = places.absolute(path)
  reader = _open(path)
  if factors or not reader.computed:
    return reader
  from weightspace.checkpoints import computed_leaves  # flax is slow to import

  return computed_leaves.as_values(reader)


def _open(path: str) -> Reader:
  try:
    tree = publishers.orbax_item(places.place(path))
    if tree is not None:
      return _open_orbax(str(tree))
    if not places.place(path).exists():
      raise ValueError(f"{path!r} is missing, expected a checkpoint")
    if places.is_remote(path):
      raise ValueError(f"{path!r} is no folder of Orbax, expected one there")
    if os.path.isdir(path):
      return _open_folder(path)
    if path.endswith(".npz"):
      return _open_npz(path)
    if path.endswith(".gguf"):
      raise ValueError(GGUF.format(path))
    if path.endswith(PICKLES):
      raise ValueError(
        f"{path!r} is a pickle, which can run code, so it is not read;"
        " expected safetensors, Orbax or npz"
      )
    return _open_files(path, {None: path})
  except ValueError:
    raise
  except Exception as error:
    reason = str(error).split("\n")[0][:200] or type(error).__name__
    raise ValueError(
      f"{path!r} is truncated or foreign, expected a checkpoint: {reason}"
    ) from error


def weight_files(path: str) -> list[str]:
  """Return the names of the files of safetensors that are a folder's model."""
  chosen = publishers.weights(
    os.listdir(path), lambda name: _placed(os.path.join(path, name))
  )
  if len(chosen) == 1 and chosen[0].endswith(INDEX):
    where = os.path.join(path, chosen[0])
    return [chosen[0], *sorted(set(_placed(where).values()))]
  return chosen


def _open_folder(path: str) -> Reader:
  """Find out what a folder holds."""
  files = sorted(os.listdir(path))
  if "model_index.json" in files:
    parts = [n for n in files if os.path.isdir(os.path.join(path, n))]
    raise ValueError(
      f"{path!r} is a pipeline of diffusers with {', '.join(parts)}, expected"
      f" one of its models, such as {os.path.join(path, 'unet')!r}"
    )
  chosen = publishers.weights(
    files, lambda name: _placed(os.path.join(path, name))
  )
  if len(chosen) == 1 and chosen[0].endswith(INDEX):
    return _open_index(path, chosen[0])
  if chosen:
    files_of = {name: os.path.join(path, name) for name in chosen}
    return _open_files(path, files_of)
  indices = [name for name in files if name.endswith(INDEX)]
  plain = [name for name in files if name.endswith(".safetensors")]
  pickles = [name for name in files if name.endswith(PICKLES)]
  if any(name.endswith(".gguf") for name in files) and not plain:
    raise ValueError(GGUF.format(path))
  if pickles and not plain:
    raise ValueError(
      f"{path!r} holds {pickles[0]!r}, a pickle, which is not read; expected"
      " safetensors, Orbax or npz"
    )
  raise ValueError(
    f"{path!r} holds {len(plain)} safetensors files and {len(indices)} indices,"
    f" expected one file, or shards with one index: {', '.join(files)[:200]}"
  )


def _open_index(folder: str, index: str) -> Reader:
  """Open shards by their index, which must agree with them."""
  where = os.path.join(folder, index)
  placed = _placed(where)
  if not placed:
    raise ValueError(f"{where!r} has no weight_map, expected {{name: shard}}")
  files: dict[Any, str] = {}
  for name, shard in placed.items():
    if not isinstance(shard, str) or os.path.basename(shard) != shard:
      raise ValueError(
        f"{where!r}: {name!r} lies in {shard!r}, expected a file of this folder"
      )
    files[shard] = os.path.join(folder, shard)
    if not os.path.isfile(files[shard]):
      raise ValueError(f"{where!r}: the shard {shard!r} is missing")
  return _open_files(folder, files, placed)


def _placed(index: str) -> dict[str, Any]:
  """Return the shard of each leaf, as an index says; {} where it does not."""
  with builtins.open(index, encoding="utf-8") as stream:
    try:
      found = json.load(stream)
    except (ValueError, RecursionError) as error:
      raise ValueError(f"{index!r} is no JSON: {error}") from None
  placed = found.get("weight_map") if isinstance(found, dict) else None
  return placed if isinstance(placed, dict) else {}


def _open_files(
  path: str,
  files: Mapping[Any, str],
  placed: Mapping[str, str] | None = None,
) -> Reader:
  """Open safetensors files; an index says in which each tensor lies."""
  entries: dict[str, tensor_files.Entry] = {}
  for shard, file in files.items():
    for name, entry in tensor_files.header(file).items():
      if name in entries:
        raise ValueError(f"{path!r}: {name!r} lies in two shards, expected one")
      if placed is not None and placed.get(name) != shard:
        raise ValueError(
          f"{path!r}: {name!r} lies in {shard!r}, but the index says"
          f" {placed.get(name)!r}"
        )
      entries[name] = entry
  for name in placed or ():
    if name not in entries:
      raise ValueError(f"{path!r}: {name!r} of the index is in no shard")
  kinds = {name: (entry.shape, entry.dtype) for name, entry in entries.items()}
  reader = Reader(
    path, kinds, lambda key, i: tensor_files.read(entries[key], i)
  )
  (file, *more) = files.values()
  return reader if more else _with_empties(reader, _record(file))


def _record(file: str) -> dict[str, Any]:
  return json.loads(tensor_files.metadata(file).get(METADATA, "{}"))


def _with_empties(reader: Reader, record: dict[str, Any]) -> Reader:
  """Add what only the record of a tree of ours holds."""
  if "tree" not in record:
    return reader
  reader = reader._replace(computed=tree_json.computed(record["tree"]))
  none = tree_json.empties(record["tree"])
  if not none:
    return reader
  kinds = {name: (x.shape, x.dtype) for name, x in none.items()}

  def load(key: str, index: Any) -> np.ndarray:
    return none[key] if key in none else reader.load(key, index)

  return reader._replace(kinds={**reader.kinds, **kinds}, load=load)


def _open_npz(path: str) -> Reader:
  """Open an npz file by the headers of its arrays."""
  kinds: dict[str, tensor_files.Kind] = {}
  with zipfile.ZipFile(path) as archive:
    for member in archive.namelist():
      name = member.removesuffix(".npy")
      with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        reads = {
          (1, 0): np.lib.format.read_array_header_1_0,
          (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = reads[version](stream)
      if dtype.hasobject or dtype.kind not in "biufc":
        raise ValueError(
          f"{path!r}: {name!r} is {dtype}, expected numbers (npz files keep"
          " neither bfloat16 nor objects)"
        )
      kinds[name] = (shape, dtype)

  def load(key: str, index: Any) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
      return arrays[key] if index is None else arrays[key][index]

  return Reader(path, kinds, load)


def _open_orbax(path: str) -> Reader:
  """Open an Orbax folder by its metadata."""
  kinds, load = orbax_trees.opened(path)
  beside = places.place(path) / RECORD
  record = json.loads(beside.read_text("utf-8")) if beside.exists() else {}
  return _with_empties(Reader(path, kinds, load), record)
