"""Barriers: the numbers that losses along a path are summed up in.

The field has several conventions for one idea, and they differ when the ends
do: here they are computed together, from the losses at T places.  Losses per
example give each an interval over examples.

>>> ts, losses = np.array([0.0, 0.5, 1.0]), np.array([1.0, 4.0, 3.0])
>>> found = summarise(ts, losses)
>>> found.chord, found.mean, found.connectivity, found.violation
(2.0, 2.0, -2.0, 3.0)
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace.intervals import Interval
from weightspace.types import Key

DRAWS = 64  # bootstrap resamples at a time
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Barrier(NamedTuple):
  """Losses along a path and its barrier in the conventions of the field.

  With L_A, L_B the end losses and d(t) = L(t) - (L_A + L_B) / 2:
  """

  chord: float  # max_t L(t) - [(1-t) L_A + t L_B] >= 0; Entezari et al. 2022
  mean: float  # max_t d(t); Frankle et al. 2020 (on error), Git Re-Basin
  half: float  # L(1/2) - (L_A + L_B) / 2, nearest grid point
  connectivity: float  # -d(t) at max |d|; Yang et al. 2021: < 0 is a barrier
  at: float  # t where the chord is exceeded most
  ts: np.ndarray  # [T]
  losses: np.ndarray  # [T]
  violation: float = 0.0  # max_{s<t} (L(t) - L(s))_+; Lucas et al. 2021
  intervals: dict[str, Interval] | None = None  # over examples, by convention
  statistics: str = "none"  # what BatchNorm was normalised by on the path


def conventions(ts: np.ndarray, losses: np.ndarray) -> dict[str, np.ndarray]:
  """Return each convention's number [...] for losses [..., T] at ts [T]."""
  first, last = losses[..., :1], losses[..., -1:]
  above = losses - ((1 - ts) * first + ts * last)
  away = losses - (first + last) / 2
  farthest = np.abs(away).argmax(-1)[..., None]
  rises = losses - np.minimum.accumulate(losses, -1)
  return {
    "chord": above.max(-1),
    "mean": away.max(-1),
    "half": away[..., np.argmin(np.abs(ts - 0.5))],
    "connectivity": -np.take_along_axis(away, farthest, -1)[..., 0],
    "violation": rises.max(-1),
    "at": ts[above.argmax(-1)],
  }


def summarise(ts: np.ndarray, losses: np.ndarray, **about: Any) -> Barrier:
  """Return the barrier of losses [T] at places ts [T], both ends included.

  A NaN on the path makes chord, mean, connectivity and violation NaN, and `at`
  says where it is.

  >>> summarise(np.array([0.0, 0.5, 1.0]), np.array([1.0, 4.0, 3.0])).chord
  2.0
  """
  ts, losses = np.asarray(ts, float), np.asarray(losses, float)
  numbers: dict[str, Any] = {
    name: float(v) for name, v in conventions(ts, losses).items()
  }
  return Barrier(ts=ts, losses=losses, **numbers, **about)


def intervals(
  ts: np.ndarray,
  losses: np.ndarray,
  key: Key,
  draws: int = 1000,
  level: float = 0.95,
) -> dict[str, Interval]:
  """Return percentile bootstrap intervals of every convention over examples.

  Whole examples are drawn, each with its losses at all places, so what places
  share cancels.  A maximum over places is biased upwards by noise, and so are
  its resamples: call it a barrier when `low` is above 0.

  Args:
    ts: [T] places, both ends included.
    losses: [T, N].
    key: of the draws.
    draws: resamples.
    level: share of the resamples inside, in (0, 1).

  Returns:
    {convention: Interval}; `mean` of an Interval is that of all examples.

  >>> flat = intervals(np.array([0.0, 1.0]), np.ones((2, 5)), jax.random.key(0))
  >>> flat["chord"].high
  0.0

  Efron 1979, https://doi.org/10.1214/aos/1176344552; of barriers: ours.
  """
  if draws < 1 or not 0.0 < level < 1.0:
    raise ValueError(
      f"intervals: draws {draws} and level {level}, expected at least 1, and a"
      " number between 0 and 1"
    )
  losses, count = np.asarray(losses, float), losses.shape[1]
  words = np.asarray(jax.random.key_data(key)).tolist()
  random, drawn = np.random.Generator(np.random.Philox(words)), []
  for start in range(0, draws, DRAWS):
    size = min(DRAWS, draws - start)
    picks = random.multinomial(count, np.full(count, 1 / count), size)
    drawn.append(picks @ losses.T / count)
  own = conventions(ts, losses.mean(1))
  many = conventions(ts, np.concatenate(drawn))
  tails = [(1 - level) / 2, (1 + level) / 2]
  found = {}
  for name, values in many.items():
    if name != "at":
      low, high = np.quantile(values, tails).tolist()
      found[name] = Interval(float(own[name]), low, high, count)
  return found


def refine(
  measure: Callable[[np.ndarray], np.ndarray],
  ts: np.ndarray,
  values: np.ndarray,
  steps: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Search the largest chord between its neighbours; return more places.

  Args:
    measure: [T] places -> [T] or [T, N] losses.
    ts: [T] places, both ends included.
    values: the losses there.
    steps: of the golden section; the first costs two losses, the others one.

  Returns:
    ts and values with the new places among them, in order.

  Kiefer 1953, https://doi.org/10.1090/S0002-9939-1953-0055639-3.
  """
  means = values.reshape(len(ts), -1).mean(1)

  def above(t: float, value: np.ndarray) -> float:
    return float(value.mean() - (1 - t) * means[0] - t * means[-1])

  heights = [above(t, v) for t, v in zip(ts, values)]
  worst = int(np.argmax(heights))
  low, high = ts[max(worst - 1, 0)], ts[min(worst + 1, len(ts) - 1)]
  found: dict[float, np.ndarray] = {}

  def height(t: float) -> float:
    if t not in found:
      found[t] = np.asarray(measure(np.array([t])), float)[0]
    return above(t, found[t])

  for _ in range(steps):
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    if height(left) >= height(right):
      high = right
    else:
      low = left
  more = np.array(list(found)), np.array(list(found.values()))
  if not found:
    return ts, values
  order = np.argsort(np.concatenate([ts, more[0]]), kind="stable")
  joined = [np.concatenate(pair)[order] for pair in zip((ts, values), more)]
  return joined[0], joined[1]
