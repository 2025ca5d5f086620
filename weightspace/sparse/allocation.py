"""How much to prune of each layer: the best split of a total, from curves.

If the distortions of layers add up, the least sum at a given number of pruned
weights is a knapsack, which a dynamic programme over layers solves.

>>> curves = {"a": [0.0, 1.0, 4.0], "b": [0.0, 0.1, 9.0]}
>>> allocate(curves, {"a": 4, "b": 4}, 0.5)
{'a': 1, 'b': 1}
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from weightspace.sparse.selection import EDGE

BINS = 2**14  # of counts, after each layer


class States(NamedTuple):
  """Numbers of pruned entries that some layers can reach, cheapest ways only.

  `gone` and `cost` rise together; `ways` has, for each layer so far, where a
  state came from and by which amount.
  """

  gone: np.ndarray
  cost: np.ndarray
  ways: tuple[tuple[np.ndarray, np.ndarray], ...]


def allocate(
  curves: Mapping[str, Any],
  sizes: Mapping[str, int],
  target: float,
  *,
  least: Mapping[str, int] | None = None,
  bins: int = BINS,
) -> dict[str, int]:
  """Return the amount of each leaf that gives the least sum of distortions.

  min over indices i_l of sum_l curves_l[i_l], with sum_l floor(n_l i_l / (D -
  1)) >= target: a dynamic programme over leaves whose states are numbers of
  pruned entries.

  Args:
    curves: {path: [D]}, distortions at D equally spaced amounts of [0, 1].
    sizes: {path: n}, entries of each leaf.
    target: how many entries are pruned at least; below 1, the share of all.
    least: smallest index by path, from an earlier round; 0 for the others.
    bins: into how many bins of counts the states after a leaf are put once
      there are more, the cheapest of each being kept.  Exact up to then.

  Returns:
    {path: index}; the amount is index / (D - 1), see `by_layer`.

  Raises:
    ValueError: for curves of different grids, of other paths than sizes or
      with a NaN, or a target out of range, or `least` of an unknown path.

  >>> curves = {"a": [0.0, 1.0, 2.0], "b": [0.0, 5.0, 5.0]}
  >>> allocate(curves, {"a": 10, "b": 2}, target=11)
  {'a': 2, 'b': 1}

  Xu et al. 2023, https://arxiv.org/abs/2308.10438.  The programme is theirs but
  for a slip of the code, which forgets the first layer's cost where nothing is
  left of the second; bins of counts are ours.
  """
  grids, start = _grids(curves, sizes), dict(least or {})
  for path in start:
    if path not in grids:
      raise ValueError(f"allocate: least: {path!r} is no path of the curves")
  rest = sum(int(sizes[path]) for path in grids)
  wanted = _wanted(target, rest)
  states = States(np.zeros(1, np.int64), np.zeros(1), ())
  for path, curve in grids.items():
    rest -= int(sizes[path])
    shares = np.arange(len(curve)) / (len(curve) - 1)
    pruned = np.floor(shares * int(sizes[path]) + EDGE).astype(np.int64)
    curve = np.where(np.arange(len(curve)) < start.get(path, 0), np.inf, curve)
    states = _extended(states, pruned, curve, wanted - rest)
    states = _thinned(_front(states, wanted), bins)
  return dict(zip(grids, _way(states)))


def _grids(
  curves: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
  """Return the curves as float64, checked."""
  grids = {path: np.asarray(curve, float) for path, curve in curves.items()}
  if not grids:
    raise ValueError("allocate: no curves, expected one for each leaf")
  if set(grids) != set(sizes):
    path = min(set(grids) ^ set(sizes))
    raise ValueError(
      f"allocate: {path!r} is in one of curves and sizes, expected in both"
    )
  first, grid = next(iter(grids.items()))
  for path, curve in grids.items():
    if curve.ndim != 1 or len(curve) < 2 or len(curve) != len(grid):
      raise ValueError(
        f"allocate: the curve of {path!r} is {curve.shape}, expected [D] with D"
        f" of 2 or more, and {grid.shape} as of {first!r}"
      )
    if np.isnan(curve).any():
      raise ValueError(f"allocate: NaN in the curve of {path!r}")
  return grids


def _wanted(target: float, total: int) -> int:
  """Return how many entries are to be pruned."""
  share = isinstance(target, float) and target <= 1
  if not 0 <= target <= total or (share and target == 1):
    raise ValueError(
      f"allocate: target is {target}, expected a share in [0, 1) or a number of"
      f" entries up to {total}"
    )
  return math.ceil((target * total if target < 1 else target) - EDGE)


def _extended(
  states: States, pruned: np.ndarray, curve: np.ndarray, least: int
) -> States:
  """Return the states with one more layer, at least `least` pruned."""
  count = (states.gone[:, None] + pruned).ravel()
  cost = (states.cost[:, None] + curve).ravel()
  fit = np.flatnonzero((count >= least) & (cost < np.inf))
  if not len(fit):
    raise ValueError("allocate: no finite sum reaches the target")
  way = np.divmod(fit, len(pruned))
  return States(count[fit], cost[fit], (*states.ways, way))


def _front(states: States, wanted: int) -> States:
  """Keep the states that no other beats, in count up to wanted and in cost."""
  order = np.lexsort((states.cost, -np.minimum(states.gone, wanted)))
  cost = states.cost[order]
  better = np.concatenate([[True], cost[1:] < np.minimum.accumulate(cost)[:-1]])
  return _taken(states, order[better][::-1])


def _thinned(states: States, bins: int) -> States:
  """Keep the cheapest state of each bin of counts, and the last of all."""
  if len(states.gone) <= bins:
    return states
  low, high = states.gone[0], states.gone[-1]
  place = (states.gone - low) * bins // (high - low + 1)
  first = np.flatnonzero(np.diff(place, prepend=-1))
  return _taken(states, np.union1d(first, len(place) - 1))


def _taken(states: States, chosen: np.ndarray) -> States:
  *before, (previous, amount) = states.ways
  way = previous[chosen], amount[chosen]
  return States(states.gone[chosen], states.cost[chosen], (*before, way))


def _way(states: States) -> list[int]:
  """Return the amounts, layer by layer, of the cheapest state."""
  place, amounts = int(np.argmin(states.cost)), []
  for previous, amount in reversed(states.ways):
    amounts.append(int(amount[place]))
    place = int(previous[place])
  return amounts[::-1]
