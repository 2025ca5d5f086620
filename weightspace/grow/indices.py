"""What an index map may be: checked before any unit is taken.

>>> from weightspace.symmetry import Axes
>>> axes = Axes({"b": "3", "w": "a 3"}, {"a": 2}, {"b:0": "output"})
>>> checked(axes, {"b:0": [0, 1]}, False, False)
Traceback (most recent call last):
ValueError: take: 'b:0' is fixed by output, expected one of 'a'; pinned=True ...
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from weightspace import trees
from weightspace.symmetry import Axes
from weightspace.symmetry.axes import base, blocks, free, parse

Index = Mapping[str, Any]  # {name: a number, or indices [n] or [*blocks, n]}


def outer(axes: Axes) -> list[str]:
  """Return the names that can be taken and lie in no block that can be.

  >>> from weightspace.symmetry import Axes
  >>> outer(Axes("heads heads>d", {"heads": 2, "heads>d": 3}, {}))
  ['heads']
  """
  movable = free(axes)
  around = {base(name) for name in movable}
  return [n for n in movable if not around & set(blocks(n))]


def block_names(axes: Axes, name: str) -> list[str]:
  """Return the blocks of a name, outermost first, by their names in `sizes`."""
  names = {base(n): n for n in axes.sizes}
  return [names[block] for block in blocks(name)]


def length(places: Any) -> int:
  """Return how many units indices take."""
  return places if isinstance(places, int) else int(np.shape(places)[-1])


def array(axes: Axes, index: Index, name: str) -> Any:
  """Return the indices of a name as an array; of a name left out, all."""
  places = index.get(name, axes.sizes[name])
  return np.arange(places) if isinstance(places, int) else places


def checked(axes: Axes, index: Index, pinned: bool, unique: bool) -> Index:
  """Return an index whose names the axes have, its values numbers or arrays.

  Raises:
    ValueError: for another name, or a value that is no number and no indices.
  """
  movable = free(axes)
  known = ", ".join(map(repr, movable[:4])) + ", ..." * (len(movable) > 4)
  result = {}
  for name, places in index.items():
    if name not in movable:
      reason = axes.pins.get(name)
      if reason is None:
        raise ValueError(f"take: {name!r} is unknown, expected one of {known}")
      if not pinned:
        raise ValueError(
          f"take: {name!r} is fixed by {reason}, expected one of {known};"
          " pinned=True takes it all the same"
        )
      if name not in axes.sizes and not _is_fixed(axes, name):
        raise ValueError(f"take: {name!r} has a name, expected that name")
    result[name] = _plain(name, places)
  return result


def _is_fixed(axes: Axes, place: str) -> bool:
  """Tell whether "path:axis" is an axis of a number, without any name."""
  path, _, axis = place.rpartition(":")
  words = parse(trees.named(axes.tree).get(path, ""))
  return axis.isdigit() and isinstance(words[int(axis)], int)


def _plain(name: str, places: Any) -> Any:
  """Return a number as int, and indices as an array of whole numbers."""
  if isinstance(places, int | np.integer) and not isinstance(places, bool):
    if places < 1:
      raise ValueError(f"take: {name!r} has {places} units, expected 1 or more")
    return int(places)
  if not isinstance(places, jax.core.Tracer):
    places = np.asarray(places)
  if not np.ndim(places) or not np.shape(places)[-1]:
    raise ValueError(
      f"take: {name!r} has indices of shape {np.shape(places)}, expected a"
      " number or indices [n], at least one"
    )
  if not np.issubdtype(places.dtype, np.integer):
    raise ValueError(f"take: {name!r} is {places.dtype}, expected integers")
  return places


def check_range(axes: Axes, index: Index, unique: bool) -> None:
  """Raise a ValueError at the first indices that the sizes do not allow."""
  for name, places in index.items():
    size = axes.sizes[name] if name in axes.sizes else _fixed_size(axes, name)
    if isinstance(places, int):
      if places > size:
        raise ValueError(
          f"take: {name!r} has {size} units, expected no more than that; got"
          f" {places}"
        )
      continue
    if np.ndim(places) > 1:
      _check_rows(axes, index, name)
    if not trees.concrete(places):
      continue
    wrong = places[(places < 0) | (places >= size)]
    if wrong.size:
      raise ValueError(
        f"take: {name!r} holds {wrong[0]}, expected 0 to {size - 1}"
      )
    ordered = np.sort(places, -1)
    twice = ordered[..., 1:][ordered[..., 1:] == ordered[..., :-1]]
    if unique and twice.size:
      raise ValueError(f"take: {name!r} holds {twice[0]} twice, expected once")


def _fixed_size(axes: Axes, place: str) -> int:
  path, _, axis = place.rpartition(":")
  return parse(trees.named(axes.tree)[path])[int(axis)]


def _check_rows(axes: Axes, index: Index, name: str) -> None:
  """Raise a ValueError unless there is a row for each block of the result."""
  around = block_names(axes, name) if name in axes.sizes else []
  lead = tuple(length(index.get(n, axes.sizes[n])) for n in around)
  shape = np.shape(index[name])
  if shape[:-1] != lead:
    raise ValueError(
      f"take: {name!r} has shape {shape}, expected [n]"
      + (f" or {[*lead, 'n']}" if lead else "")
    )
