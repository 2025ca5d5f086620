"""Units by a score: which a slice keeps, and what it drops.

>>> from weightspace.symmetry import Axes
>>> axes = Axes({"w": "2 a"}, {"a": 3}, {"w:0": "input"})
>>> scores = unit_scores(axes, {"w": np.array([[1.0, 5.0, 2.0]] * 2)})
>>> leading = best(axes, scores, {"a": 2})
>>> leading["a"].tolist(), dropped(axes, scores, leading)["a"].units.tolist()
([1, 2], [0])
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from weightspace import trees
from weightspace.grow import indices
from weightspace.grow.indices import Index
from weightspace.symmetry import Axes, checks, moving
from weightspace.symmetry.axes import parse
from weightspace.types import Params


class Dropped(NamedTuple):
  """The units of a name that a slice leaves out."""

  units: np.ndarray  # in order
  share: float  # of the sum of scores that goes with them
  above: int  # how many of them score above a unit that is kept


def unit_scores(axes: Axes, scores: Params) -> dict[str, np.ndarray]:
  """Return the score of each unit: the sum over all its entries.

  Args:
    axes: from `trace_axes`.
    scores: a number for each parameter, such as its magnitude, its square, or
      a Fisher information.

  Returns:
    {name: [n]} float64, of the names that lie in no block; activations of units
    that were measured are scores of the same form.

  Raises:
    ValueError: at the first leaf that does not fit.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"b": "a", "w": "a 2"}, {"a": 2}, {})
  >>> unit_scores(axes, {"b": np.ones(2), "w": np.eye(2)})["a"].tolist()
  [2.0, 2.0]
  """
  axes = checks.fitted(axes, scores, "unit_scores")
  patterns = trees.named(axes.tree)
  totals = {name: np.zeros(axes.sizes[name]) for name in indices.outer(axes)}

  def add(part: Any, labels: Any) -> Any:
    for axis, name in enumerate(labels):
      if name in totals:
        others = tuple(a for a in range(part.ndim) if a != axis)
        totals[name] += np.asarray(part, np.float64).sum(others)
    return part

  for path, leaf in trees.named(scores).items():
    moving.by_parts(np.asarray(leaf), parse(patterns[path]), axes.sizes, add)
  return totals


def best(
  axes: Axes, scores: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
  """Return the index of the units of highest score, in order of their places.

  Args:
    axes: from `trace_axes`.
    scores: {name: [n]}, as from `unit_scores`.
    sizes: {name: how many to keep}, as from `sizes`.

  Raises:
    ValueError: for a name without scores, a wrong number of them or a NaN, or
      more units than there are.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes("a", {"a": 3}, {})
  >>> best(axes, {"a": [0.0, 2.0, 1.0]}, {"a": 2})["a"].tolist()
  [1, 2]

  Of equal scores the first is kept.
  """
  index = {}
  for name, number in sizes.items():
    row = _row(axes, scores, name)
    if not 1 <= number <= len(row):
      raise ValueError(
        f"best: {number} of {len(row)} {name!r}, expected 1 to {len(row)}"
      )
    index[name] = np.sort(np.argsort(-row, kind="stable")[:number])
  return index


def dropped(
  axes: Axes, scores: Mapping[str, Any], index: Index
) -> dict[str, Dropped]:
  """Report for each name of an index which units a slice drops.

  Args:
    axes: from `trace_axes`.
    scores: {name: [n]}, not negative for the shares to mean anything.
    index: as `take` takes it; indices the same in each block.

  >>> from weightspace.symmetry import Axes
  >>> dropped(Axes("a", {"a": 3}, {}), {"a": [1.0, 1.0, 2.0]}, {"a": 2})["a"]
  Dropped(units=array([2]), share=0.5, above=1)
  """
  report = {}
  for name in index:
    row = _row(axes, scores, name)
    kept = np.unique(np.asarray(indices.array(axes, index, name)))
    units = np.setdiff1d(np.arange(len(row)), kept)
    total = row.sum()
    share = float(row[units].sum() / total) if total else 0.0
    above = int((row[units] > row[kept].min()).sum())
    report[name] = Dropped(units, share, above)
  return report


def _row(axes: Axes, scores: Mapping[str, Any], name: str) -> np.ndarray:
  """Return the scores of a name, checked."""
  if name not in scores or name not in axes.sizes:
    raise ValueError(f"scores: nothing of {name!r}, expected [n] of each")
  row = np.asarray(scores[name], np.float64)
  if row.shape != (axes.sizes[name],) or np.isnan(row).any():
    raise ValueError(
      f"scores: {name!r} has {row.shape}, expected ({axes.sizes[name]},),"
      " without NaN"
    )
  return row
