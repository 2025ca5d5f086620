"""Searches over hyper-parameters, as lists of overrides for `sweep(add)`.

A space is {name: values}: a list or tuple to choose from, or a range of
numbers made by `uniform`, `log_uniform` or `integers`.  The same seed gives the
same points on every machine.

>>> for point in grid({"learning_rate": [0.1, 0.2], "seed": range(2)}):
...   print(point)
{'learning_rate': 0.1, 'seed': 0}
{'learning_rate': 0.1, 'seed': 1}
{'learning_rate': 0.2, 'seed': 0}
{'learning_rate': 0.2, 'seed': 1}
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import qmc


class Range(NamedTuple):
  """Numbers from `low` to `high`, even on the scale that is said."""

  low: float
  high: float
  scale: str  # "linear", "log" or "integers"

  def at(self, share: float) -> float | int:
    """Return the value at a share in [0, 1) of the range."""
    if self.scale == "log":
      ends = math.log(self.low), math.log(self.high)
      return math.exp(ends[0] + share * (ends[1] - ends[0]))
    if self.scale == "integers":
      return int(self.low + share * (self.high + 1 - self.low))
    return self.low + share * (self.high - self.low)


Space = Mapping[str, Range | Sequence[Any] | range]


def uniform(low: float, high: float) -> Range:
  """Return the numbers from low to high."""
  return _checked(Range(low, high, "linear"))


def log_uniform(low: float, high: float) -> Range:
  """Return the numbers from low to high, even in their logarithm."""
  return _checked(Range(low, high, "log"))


def integers(low: int, high: int) -> Range:
  """Return the whole numbers from low to high, both included."""
  return _checked(Range(low, high, "integers"))


def _checked(found: Range) -> Range:
  positive = found.low > 0 or found.scale != "log"
  if not (math.isfinite(found.low) and math.isfinite(found.high) and positive):
    raise ValueError(f"search: {found}, expected finite numbers (log: above 0)")
  if found.low > found.high:
    raise ValueError(f"search: {found}, expected low <= high")
  return found


def grid(space: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
  """Return every combination of lists, the last name running quickest.

  Raises:
    ValueError: for a range, which has no list of values.
  """
  for name, values in space.items():
    if isinstance(values, Range):
      raise ValueError(f"grid: {name!r} is a range, expected a list")
  rows = itertools.product(*(tuple(values) for values in space.values()))
  return [dict(zip(space, row)) for row in rows]


def random_search(
  space: Space, count: int, seed: int = 0
) -> list[dict[str, Any]]:
  """Return points drawn independently.

  >>> random_search({"rate": log_uniform(1e-3, 1e-1)}, 1)[0]["rate"] < 0.1
  True
  """
  shares = np.random.Generator(np.random.Philox(seed)).random(
    (_count(count), len(space))
  )
  return [_point(space, row) for row in shares]


def quasi_random(
  space: Space, count: int, seed: int = 0
) -> list[dict[str, Any]]:
  """Return points of a scrambled Halton sequence, which fill the space evenly.

  The first points of a longer search are those of a shorter one.

  >>> short = quasi_random({"rate": uniform(0.0, 1.0)}, 2)
  >>> short == quasi_random({"rate": uniform(0.0, 1.0)}, 4)[:2]
  True
  """
  sampler = qmc.Halton(len(space), scramble=True, rng=np.random.Philox(seed))
  return [_point(space, row) for row in sampler.random(_count(count))]


def _count(count: int) -> int:
  if count < 1:
    raise ValueError(f"search: {count} points, expected at least 1")
  return count


def _point(space: Space, shares: np.ndarray) -> dict[str, Any]:
  point: dict[str, Any] = {}
  for (name, values), share in zip(space.items(), shares.tolist()):
    if isinstance(values, Range):
      point[name] = values.at(share)
    else:
      point[name] = values[int(share * len(values))]
  return point
