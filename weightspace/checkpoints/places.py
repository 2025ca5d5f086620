"""Paths of this machine, and of stores such as `gs://`, as one kind of object.

Stores go through `etils.epath`, as Orbax has it; a name such as `gs://bucket`
never becomes a local folder called `gs:`.

>>> is_remote("gs://bucket/run"), is_remote("runs/1")
(True, False)
"""

import os
import pathlib
from typing import Any

PathLike = str | os.PathLike[str]


def is_remote(path: PathLike) -> bool:
  """Tell whether a path is that of a store such as `gs://`."""
  return "://" in os.fspath(path)


def absolute(path: PathLike) -> str:
  """Return a path that holds in every folder."""
  return os.fspath(path) if is_remote(path) else os.path.abspath(path)


def place(path: PathLike) -> Any:
  """Return a path as an object with the methods of `pathlib.Path`."""
  if not is_remote(path):
    return pathlib.Path(path)
  from etils import epath

  return epath.Path(path)


def local(path: PathLike, what: str) -> str:
  """Return an absolute path of this machine.

  Raises:
    ValueError: for that of a store, naming what it was to hold.

  >>> local("gs://bucket/a", "safetensors")
  Traceback (most recent call last):
  ValueError: 'gs://bucket/a': safetensors ... expected a path of this machine
  """
  if is_remote(path):
    raise ValueError(
      f"{os.fspath(path)!r}: {what} cannot lie in a store (Orbax folders can),"
      " expected a path of this machine"
    )
  return os.path.abspath(path)
