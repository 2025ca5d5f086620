"""Pareto fronts of points: who dominates, and how much is dominated.

Higher is better in every objective.  A point is on the front when no other is
at least as good in all and better in one; the hypervolume is what the front
dominates above a reference point.

>>> points = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.4], [0.4, 0.3]])
>>> on_front(points).tolist(), round(hypervolume(points, np.zeros(2)), 4)
([True, True, True, False], 0.16)
"""

from collections.abc import Callable

import numpy as np


def on_front(points: np.ndarray) -> np.ndarray:
  """Tell which of [N, T] points no other dominates; equal points all stay.

  >>> on_front(np.array([[1.0], [2.0]])).tolist()
  [False, True]
  """
  return ranks(points) == 0


def ranks(points: np.ndarray) -> np.ndarray:
  """Return the number of the front that each point is on, [N].

  Front 0 is the front of all, front 1 that of the rest, and so on.

  >>> ranks(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])).tolist()
  [0, 0, 1]
  """
  least = np.all(points[:, None] >= points[None], -1)
  better = np.logical_and(least, np.any(points[:, None] > points[None], -1))
  found = np.full(len(points), -1)
  number = 0
  while (found < 0).any():
    left = found < 0
    beaten = better[left].any(0)
    found[left & ~beaten] = number
    number += 1
  return found


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
  """Return the volume that [N, T] points dominate above a reference point.

  Exact, by slices along the last objective: for a few objectives.

  Args:
    points: [N, T]; those that are not above the reference count nothing.
    reference: [T].

  >>> hypervolume(np.array([[1.0, 2.0, 3.0]]), np.zeros(3))
  6.0

  Zitzler and Thiele 1998, "Multiobjective optimization using evolutionary
  algorithms", https://doi.org/10.1007/BFb0056872.
  """
  above = np.maximum(np.asarray(points, np.float64) - reference, 0.0)
  above = above[(above > 0).all(1)]
  return float(_volume(above)) if len(above) else 0.0


def _volume(points: np.ndarray) -> float:
  if points.shape[1] == 1:
    return float(points.max())
  order = points[np.argsort(-points[:, -1])]
  edges = np.append(order[:, -1], 0.0)
  total = 0.0
  for place in range(len(order)):
    height = edges[place] - edges[place + 1]
    if height > 0:
      total += height * _volume(order[: place + 1, :-1])
  return total


def crowding(points: np.ndarray) -> np.ndarray:
  """Return how far apart the neighbours of each point are, [N].

  The sum over objectives of the gap between the next worse and the next better
  point, as a share of the range; the ends are infinitely far.

  >>> crowding(np.array([[0.0, 3.0], [1.0, 2.0], [3.0, 0.0]])).tolist()
  [inf, 2.0, inf]
  """
  gaps = np.zeros(len(points))
  for column in points.T:
    order = np.argsort(column, kind="stable")
    extent = column[order[-1]] - column[order[0]]
    gaps[order[[0, -1]]] = np.inf
    if extent > 0:
      gaps[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
  return gaps


def evolved_front(
  objectives: Callable[[np.ndarray], np.ndarray],
  first: np.ndarray,
  box: tuple[float, float],
  random: np.random.Generator,
  generations: int = 100,
) -> np.ndarray:
  """Return vectors whose objectives spread over the front of cheap functions.

  Each generation adds as many children as there are vectors, and keeps the
  better ranks and, of the last rank that fits in part, the least crowded.  A
  child is a vector moved along the difference of two others, or a little.

  Args:
    objectives: from vectors [N, D] to [N, T].
    first: [N, D], also the number that is kept.
    box: the least and the largest entry.
    random: of the children.
    generations: each scores N vectors.

  Returns:
    [F, D], F <= N, those on the front of the last generation.

  >>> def objectives(v): return np.stack([-(v**2), -((v - 1) ** 2)], -1)[:, 0]
  >>> random = np.random.default_rng(0)
  >>> found = evolved_front(objectives, random.random((20, 1)), (-3, 3), random)
  >>> bool((found > -0.01).all() and (found < 1.01).all())
  True

  Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm:
  NSGA-II", https://doi.org/10.1109/4235.996017, with differential children.
  """
  vectors, size = first, len(first)
  for _ in range(generations):
    a, b, c = vectors[random.integers(len(vectors), size=(3, size))]
    stride = random.uniform(0.2, 0.9, (size, 1))
    crossed = random.random((size, 1)) < 0.5  # the others take a small step
    length = (box[1] - box[0]) * 10 ** random.uniform(-3, -1, (size, 1))
    step = length * random.normal(size=a.shape)
    children = a + np.where(crossed, stride * (b - c), step)
    both = np.concatenate([vectors, np.clip(children, *box)])
    vectors = both[_survivors(objectives(both), size)]
  return vectors[on_front(objectives(vectors))]


def _survivors(points: np.ndarray, size: int) -> np.ndarray:
  found = ranks(points)
  kept: list[int] = []
  for number in range(found.max() + 1):
    members = np.flatnonzero(found == number)
    if len(kept) + len(members) > size:
      order = np.argsort(-crowding(points[members]), kind="stable")
      members = members[order[: size - len(kept)]]
    kept += members.tolist()
    if len(kept) == size:
      break
  return np.array(kept)
