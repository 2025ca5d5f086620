"""Models of other widths: an index map over the named axes of a model.

A slice of units is an injective index, a permutation a bijective one, and an
expansion one with repeats.  A unit is taken wherever its name occurs, and what
lies in a block moves with it: heads with their inner units, groups of queries
with their keys, experts with their hidden units.

>>> from weightspace.symmetry import Axes
>>> axes = Axes({"v": "a 2", "w": "3 a"}, {"a": 4}, {"w:0": "input"})
>>> params = {"v": np.arange(8).reshape(4, 2), "w": np.ones((3, 4))}
>>> child = take(axes, {"a": [3, 0]}, params)
>>> child["v"].tolist(), child["w"].shape
([[6, 7], [0, 1]], (3, 2))
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import indices
from weightspace.grow.indices import Index
from weightspace.symmetry import Axes, checks, moving, permutations
from weightspace.symmetry.axes import base, blocks, parse
from weightspace.types import Params


def take(
  axes: Axes,
  index: Index,
  params: Params,
  *,
  pinned: bool = False,
  unique: bool = False,
) -> Params:
  """Return the model of the units `index`: x[index] on every axis of a name.

  Args:
    axes: from `trace_axes`; the parameters may be a slice of the model that
      they were traced from.
    index: {name: indices}.  A whole number k stands for the leading k units;
      the others stay.  The units of a name in blocks are the same in each, or
      `[*blocks, n]`, a row for each block of the result.
    params: parameters; or an optimiser state or statistics, as in `permute`.
    pinned: whether axes that are fixed may be taken too: by name, as the layers
      of a scan, or as "path:axis", as the classes of a head.
    unique: whether a unit may be taken once only.

  Returns:
    Params of the new shapes; NumPy leaves give NumPy leaves.

  Raises:
    ValueError: for a name that is unknown or fixed, indices that are none, out
      of range or, with `unique`, repeated; at the first leaf that does not fit.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"b": "a"}, {"a": 3}, {})
  >>> take(axes, {"a": [0, 1, 1]}, {"b": jnp.array([1.0, 2.0, 3.0])})["b"]
  Array([1., 2., 2.], dtype=float32)

  Slices: Yu et al. 2020, "BigNAS", https://arxiv.org/abs/2003.11142; repeats:
  Chen et al. 2016, "Net2Net", https://arxiv.org/abs/1511.05641.  Names that are
  read off the program are ours.
  """
  index = indices.checked(axes, index, pinned, unique)
  return permutations.on_copies(
    axes, params, functools.partial(_take, index, unique)
  )


def _take(index: Index, unique: bool, axes: Axes, tree: Any) -> Any:
  axes = checks.fitted(axes, tree, "take")
  indices.check_range(axes, index, unique)
  patterns, traced = trees.named(axes.tree), not trees.concrete(index)
  rows: dict[str, dict[int, Any]] = {}
  for name, places in index.items():
    if name not in axes.sizes:
      path, _, axis = name.rpartition(":")
      rows.setdefault(path, {})[int(axis)] = places

  def leaf(path: str, x: Any) -> Any:
    x = jnp.asarray(x) if traced else x
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    words = parse(patterns[path])
    if any(n in index for word in words for n in checks.names(word)):
      change = functools.partial(_take_part, xp, index)
      x = moving.by_parts(x, words, axes.sizes, change)
    for axis, places in rows.get(path, {}).items():
      x = _on_axis(xp, x, places, [], axis)
    return x

  return trees.map_named(leaf, tree)


def _take_part(xp: Any, index: Index, part: Any, labels: Any) -> Any:
  """Take units of an array whose axes have one name each, blocks first."""
  bases = [base(n) if isinstance(n, str) else n for n in labels]
  order = [a for a, n in enumerate(labels) if n in index]
  for axis in sorted(order, key=lambda a: len(blocks(labels[a]))):
    places = index[labels[axis]]
    within = [bases.index(b) for b in blocks(labels[axis])]
    part = _on_axis(xp, part, places, within, axis)
  return part


def _on_axis(xp: Any, x: Any, places: Any, within: Any, axis: int) -> Any:
  if not isinstance(places, int):
    return moving.take(
      xp, x, places, within if np.ndim(places) > 1 else [], axis
    )
  if xp is np:
    return np.take(x, np.arange(places), axis)
  return x[(slice(None),) * axis + (slice(places),)]  # cheaper than a gather


def sizes(axes: Axes, share: float) -> dict[str, int]:
  """Return how many units of each name a share of the width keeps.

  The number is rounded to the nearest, at least 1.  What lies in blocks stays
  whole: a head keeps its size and an expert its hidden units.

  Args:
    axes: from `trace_axes`.
    share: in (0, 1].

  Returns:
    {name: number}, an index of `take`: the leading units.

  Raises:
    ValueError: for a share outside of (0, 1], or that cuts through a block.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"w": "a heads heads>d"}, {"a": 6, "heads": 2, "heads>d": 3},
  ...             {})
  >>> sizes(axes, 0.5)
  {'a': 3, 'heads': 1}

  Wu et al. 2023, "TinyCLIP", https://arxiv.org/abs/2309.12314: leading heads,
  each of its size, as their code does.
  """
  if not 0 < share <= 1:
    raise ValueError(
      f"sizes: share is {share}, expected more than 0, at most 1"
    )
  around = {block for name in axes.sizes for block in blocks(name)}
  kept = {}
  for name in indices.outer(axes):
    number = share * axes.sizes[name]
    if base(name) in around and abs(number - round(number)) > 1e-6:
      raise ValueError(
        f"sizes: share {share} of {axes.sizes[name]} {name!r} is {number:g},"
        " expected whole blocks"
      )
    kept[name] = max(1, math.floor(number + 0.5))
  return kept


def compose(axes: Axes, first: Index, then: Index) -> Index:
  """Return the index that takes `first`, and of the result `then`.

  Args:
    axes: of the model that `first` is taken from.
    first, then: as `take` takes them, of names.

  Returns:
    An index of arrays: `take(axes, compose(axes, first, then), params)` is
    `take(axes, then, take(axes, first, params))`.

  Raises:
    ValueError: for an unknown name, or indices out of range.

  >>> from weightspace.symmetry import Axes
  >>> compose(Axes("a", {"a": 4}, {}), {"a": [3, 2, 0]}, {"a": 2})["a"].tolist()
  [3, 2]
  """
  first = indices.checked(axes, first, True, False)
  indices.check_range(axes, first, False)
  lengths = {n: indices.length(i) for n, i in first.items()}
  middle = axes._replace(sizes=axes.sizes | lengths)
  then = indices.checked(middle, then, True, False)
  indices.check_range(middle, then, False)
  names = dict.fromkeys([*first, *then])
  before = {n: indices.array(axes, first, n) for n in names}
  after = {n: indices.array(middle, then, n) for n in names}
  return {n: _composed(middle, before[n], after, n) for n in before}


def _composed(
  middle: Axes, before: Any, after: Mapping[str, Any], name: str
) -> Any:
  """Return before[after], rows of blocks being taken from where they were."""
  xp: Any = np if trees.concrete(before, dict(after)) else jnp
  before, places = xp.asarray(before), xp.asarray(after[name])
  if before.ndim == 1:
    return before[places]
  lead = tuple(
    len(after[n]) if n in after else middle.sizes[n]
    for n in indices.block_names(middle, name)
  )
  if places.ndim == 1:
    places = xp.broadcast_to(places, (*lead, len(places)))
  around = {n: p for n, p in after.items() if n != name}
  return before[(*permutations.block_places(around, name, places), places)]
