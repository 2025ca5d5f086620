"""Checkpoints: one tree in one Orbax folder or one safetensors file.

What `save` accepts `restore` gives back: the same nested dicts, lists and
tuples, the same dtypes and bytes, as NumPy arrays; anything else is refused by
name.  A checkpoint is written aside and renamed, so a path holds a whole tree
or nothing.  Leaves are stored under `layer/kernel`, which other tools read; the
rest (containers, empty arrays, the kind of a PRNG key, the `Member` record)
lies beside them as one line of JSON.  `open` reads single leaves, of other
tools' checkpoints too.

| in the tree | rule |
| --- | --- |
| float16 to float64, bfloat16, 8 to 64-bit integers, bool, complex64 | kept |
| float8, int4, int2, complex128 | kept by Orbax, refused by safetensors |
| Python and NumPy numbers | arrays of shape (), dtype as NumPy gives it |
| typed PRNG keys | their key_data, wrapped again by `restore` |
| empty dict, list or tuple, None, empty arrays | kept in the record |
| other containers (NamedTuple), strings, keys that hold a `/` | refused |

>>> import tempfile
>>> path = f"{tempfile.mkdtemp()}/model.safetensors"
>>> save(path, {"w": np.array([1.0, 2.0])})
>>> restore(path)["w"].sum().item()
3.0
"""

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from safetensors import safe_open

from weightspace import trees
from weightspace.checkpoints import (
  orbax_trees,
  places,
  publishers,
  tree_json,
)
from weightspace.checkpoints.readers import METADATA, RECORD, open
from weightspace.hosts import multihost
from weightspace.types import Member, Params

__all__ = ["member", "open", "restore", "save"]

PathLike = places.PathLike


def save(
  path: PathLike,
  tree: Params,
  member: Member | None = None,
  overwrite: bool = False,
) -> None:
  """Write a tree, and where it came from, to one new path.

  It is written to `.<name>.writing` and renamed, so a kill leaves the path as
  it was.  Replacing a folder takes two renames: a kill between them leaves the
  former tree whole in `.<name>.old`.

  With several processes all call this with the same tree: they write an Orbax
  folder together, each its parts of arrays that lie on all of them.

  Args:
    path: a safetensors file when it ends in `.safetensors`, else an Orbax
      folder, here or in a store (`gs://`); parent folders are made.
    tree: nested dicts, lists and tuples of arrays (the table of this module).
    member: provenance to keep beside the tree.
    overwrite: replace a checkpoint that lies there; never anything else.

  Raises:
    ValueError: naming the path that exists, or the first leaf that cannot be
      stored.
    OSError: when the disk is full; the path is as it was.

  >>> import tempfile
  >>> save(f"{tempfile.mkdtemp()}/model", {"w": np.ones(2)}, Member("a1", 0))
  """
  flat = _is_file(path)
  if flat:
    places.local(path, "a file of safetensors")
  path = places.absolute(path)
  form, arrays = tree_json.describe(tree)
  record = {"tree": form}
  if member:
    record["member"] = member._asdict()
  tree_json.check(arrays, flat)
  if places.is_remote(path):  # Orbax itself commits a folder in a store
    multihost.first(lambda: _check_target(path, overwrite))
    return _write_orbax(path, arrays, json.dumps(record), overwrite)
  aside = _beside(path, "writing")

  def begin() -> None:
    _check_target(path, overwrite)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _remove(aside)  # what a killed save left

  multihost.first(begin)
  try:
    write = _write_safetensors if flat else _write_orbax
    write(aside, arrays, json.dumps(record))
    multihost.first(lambda: _move(aside, path))
  finally:
    if multihost.writes():
      _remove(aside)


def restore(path: PathLike, like: Params | None = None) -> Params:
  """Read the tree that `save` wrote, or another tool's checkpoint.

  A file without our record comes back as nested dicts, split at `/`.

  Args:
    path: of the checkpoint.
    like: a tree of the structure that is wanted, of arrays or their shapes: the
      state of a fold or of an optimiser comes back as what it was, and is gone
      on with.

  Returns:
    The tree, with NumPy arrays as leaves; with `like`, JAX's where it has them.

  Raises:
    ValueError: naming a path that is missing, truncated or foreign, or the
      first leaf that is not as in `like`.

  >>> import tempfile
  >>> path = f"{tempfile.mkdtemp()}/model"
  >>> save(path, {"layers": [np.zeros(2), np.ones(3)], "empty": {}})
  >>> restore(path)["layers"][1].sum().item()
  3.0
  """
  tree = _guard(path, _read)
  return tree if like is None else _as(like, tree, os.fspath(path))


def _as(like: Params, tree: Params, path: str) -> Params:
  """Return the leaves of a tree in the structure of another, checked."""
  wanted, found = trees.named(like), trees.named(tree)
  for name, leaf in wanted.items():
    kinds = [
      None if x is None else f"{np.shape(x)} {jnp.result_type(x)}"
      for x in (leaf, found.get(name))
    ]
    if kinds[0] != kinds[1]:
      raise ValueError(
        f"{path!r}: {name!r} is {kinds[1] or 'missing'}, expected {kinds[0]}"
      )
  more = sorted(found.keys() - wanted.keys())
  if more:
    raise ValueError(f"{path!r}: {more[0]!r} is unexpected")
  leaves = [
    jnp.asarray(found[name]) if isinstance(x, jax.Array) else found[name]
    for name, x in wanted.items()
  ]
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def member(path: PathLike) -> Member | None:
  """Read the provenance beside a tree; None where none was kept.

  Raises:
    ValueError: naming a path that is missing, truncated or foreign.

  >>> import tempfile
  >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
  >>> save(path, {"w": np.ones(2)}, Member("a1", seed=3))
  >>> member(path).seed
  3
  """
  found = _guard(path, _record).get("member")
  return None if found is None else _guard(path, lambda _: Member(**found))


def _is_file(path: PathLike) -> bool:
  return os.fspath(path).endswith(".safetensors")


def _check_target(path: str, overwrite: bool) -> None:
  if not places.place(path).exists() and not os.path.islink(path):
    return
  if not overwrite:
    raise ValueError(f"{path!r} exists, expected a new path or overwrite=True")
  if not _is_checkpoint(path):
    raise ValueError(f"{path!r} is no checkpoint, so it is not overwritten")


def _is_checkpoint(path: str) -> bool:
  if _is_file(path):
    return os.path.isfile(path)
  return (places.place(path) / publishers.TREE).exists()


def _remove(path: str) -> None:
  if os.path.isdir(path):
    shutil.rmtree(path)
  elif os.path.lexists(path):
    os.remove(path)


def _beside(path: str, what: str) -> str:
  folder, name = os.path.split(path)
  return os.path.join(folder, f".{name}.{what}")


def _move(aside: str, path: str) -> None:
  """Put what was written aside in its place."""
  old = _beside(path, "old")
  if os.path.isdir(path):  # a folder cannot be renamed onto another
    _remove(old)
    os.rename(path, old)
  os.replace(aside, path)
  _remove(old)


def _guard(path: PathLike, read: Callable[[str], Any]) -> Any:
  """Read a path; whatever goes wrong becomes one error that names it."""
  path = places.absolute(path)
  what = "a safetensors file" if _is_file(path) else "an Orbax folder"
  if not _is_file(path):  # a run or a step stands for its tree
    path = str(publishers.orbax_item(places.place(path)) or path)
  if not places.place(path).exists():
    raise ValueError(f"{path!r} is missing, expected {what}")
  if not _is_checkpoint(path):
    raise ValueError(f"{path!r} is no checkpoint, expected {what}")
  try:
    return read(path)
  except Exception as error:  # each back-end has its own kinds of errors
    reason = str(error).split("\n")[0][:200] or type(error).__name__
    raise ValueError(
      f"{path!r} is truncated or foreign, expected {what}: {reason}"
    ) from error


def _read(path: str) -> Params:
  tree = (
    _read_safetensors(path) if _is_file(path) else orbax_trees.restored(path)
  )
  form = _record(path).get("tree")
  return tree if form is None else tree_json.rebuild(form, tree)


def _record(path: str) -> dict[str, Any]:
  if _is_file(path):
    with safe_open(path, "np") as file:
      return json.loads((file.metadata() or {}).get(METADATA, "{}"))
  beside = places.place(path) / RECORD
  return json.loads(beside.read_text("utf-8")) if beside.exists() else {}


def _write_safetensors(path: str, arrays: dict[str, Any], record: str) -> None:
  # save_file writes the memory of a strided array as if it were contiguous.
  whole = {name: np.asarray(x, order="C") for name, x in arrays.items()}
  about = {METADATA: record, "format": "np"}
  multihost.first(lambda: safetensors.numpy.save_file(whole, path, about))


def _read_safetensors(path: str) -> Params:
  return tree_json.nest(safetensors.numpy.load_file(path))


def _write_orbax(
  path: str, arrays: dict[str, Any], record: str, overwrite: bool = False
) -> None:
  import orbax.checkpoint as ocp

  if multihost.several():  # Orbax takes arrays of one process as NumPy's
    arrays = {
      name: np.asarray(x) if getattr(x, "is_fully_addressable", True) else x
      for name, x in arrays.items()
    }
  where = places.place(path)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(where, tree_json.nest(arrays), force=overwrite)
  multihost.first(lambda: (where / RECORD).write_text(record))
