"""Views of checkpoints: other names, other dtypes, the same reader.

>>> import numpy as np
>>> whole = {"a": np.ones(2), "b": np.zeros(2)}
>>> kinds = {name: (x.shape, x.dtype) for name, x in whole.items()}
>>> reader = readers.Reader("m", kinds, lambda name, index: whole[name])
>>> seen = view(reader, {"c": "a"}, {"c": np.dtype("float16")})
>>> seen.keys(), seen.dtype("c"), seen.read("c").sum().item()
(['c'], dtype('float16'), 2.0)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from weightspace import trees
from weightspace.checkpoints import readers
from weightspace.hosts import concrete


def view(
  reader: readers.Reader,
  names: Mapping[str, str],
  dtypes: Mapping[str, np.dtype] | None = None,
) -> readers.Reader:
  """Return some leaves of a checkpoint under other names and dtypes.

  Args:
    reader: the checkpoint.
    names: for each leaf of the view, that of the checkpoint.
    dtypes: of the view's leaves that are cast when they are read.
  """
  kinds = {
    name: (reader.shape(inner), (dtypes or {}).get(name, reader.dtype(inner)))
    for name, inner in names.items()
  }

  def load(name: str, index: Any) -> Any:
    leaf = reader.read(names[name], index)
    dtype = kinds[name][1]
    if leaf.dtype == dtype:
      return leaf
    with np.errstate(over="ignore"):
      cast = leaf.astype(dtype)
    if trees.inexact(leaf) and not concrete.all_below(cast, np.inf):
      _check_range(reader.path, name, leaf, cast)
    return cast

  return readers.Reader(reader.path, kinds, load)


def joined(reader: readers.Reader, other: readers.Reader) -> readers.Reader:
  """Return a checkpoint with the leaves of another beside its own."""

  def load(name: str, index: Any) -> Any:
    return (reader if name in reader.kinds else other).read(name, index)

  kinds = {**other.kinds, **reader.kinds}
  return readers.Reader(reader.path, kinds, load)


def _check_range(
  path: str, name: str, leaf: np.ndarray, cast: np.ndarray
) -> None:
  """Refuse finite numbers that a dtype has no room for."""
  lost = np.isfinite(leaf) & ~np.isfinite(cast)
  if lost.any():
    raise ValueError(
      f"{path!r}: {name!r} holds {leaf[lost][0]}, too large for {cast.dtype}"
    )
