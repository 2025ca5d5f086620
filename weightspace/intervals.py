"""Intervals: how sure a mean over seeds or examples is.

An experiment's number is a mean over seeds with a 95 % interval; a comparison
is the mean of paired differences, so what the seeds share cancels.  Few seeds
are the rule here, hence Student's t; `bootstrap` serves where the statistic is
not a mean.

>>> interval = mean_interval([1.0, 2.0, 3.0])
>>> f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
'2.00 [-0.48, 4.48]'
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import scipy.special

from weightspace.types import Key


class Interval(NamedTuple):
  """An estimate, the ends of its interval, and the number of its values."""

  mean: float
  low: float
  high: float
  size: int


def _check_level(level: float) -> None:
  if not 0.0 < level < 1.0:
    raise ValueError(f"level: {level}, expected a number between 0 and 1")


def _numbers(values: npt.ArrayLike, what: str) -> np.ndarray:
  """Return float64 [N], refusing what has no mean."""
  array = np.asarray(values, np.float64)
  if array.ndim != 1 or not len(array):
    raise ValueError(f"{what}: shape {array.shape}, expected [N] with N >= 1")
  if not np.isfinite(array).all():
    first = int(np.argmin(np.isfinite(array)))
    raise ValueError(f"{what}: value {first} is {array[first]}, not finite")
  return array


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
  """Return mean ± t_{N-1} s / √N, Student's interval of a mean.

  One value says nothing of its spread: its interval is the whole line.

  Args:
    values: [N], one number for each independent seed.
    level: coverage when the values are normal, in (0, 1).

  Returns:
    Interval: mean, low, high, size.

  Raises:
    ValueError: for no values, a value that is not finite, or a bad level.

  >>> mean_interval([5.0, 5.0])
  Interval(mean=5.0, low=5.0, high=5.0, size=2)

  Student 1908, "The probable error of a mean",
  https://doi.org/10.1093/biomet/6.1.1.
  """
  _check_level(level)
  array = _numbers(values, "values")
  mean, count = float(array.mean()), len(array)
  if count == 1:
    return Interval(mean, -math.inf, math.inf, 1)
  quantile = scipy.special.stdtrit(count - 1, (1.0 + level) / 2.0)
  half = float(quantile * array.std(ddof=1) / math.sqrt(count))
  return Interval(mean, mean - half, mean + half, count)


def paired(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95) -> Interval:
  """Return the interval of mean(a - b), seed by seed.

  Args:
    a: [N].
    b: [N], measured on the same seeds in the same order.
    level: coverage, in (0, 1).

  Returns:
    Interval of the difference; it is above zero where `low > 0`.

  Raises:
    ValueError: when the lengths differ, or as `mean_interval`.

  >>> paired([1.0, 12.0], [0.0, 11.0]).low
  1.0

  Student 1908, https://doi.org/10.1093/biomet/6.1.1.
  """
  a, b = _numbers(a, "a"), _numbers(b, "b")
  if a.shape != b.shape:
    raise ValueError(f"b: {len(b)} values, expected {len(a)} as in a")
  return mean_interval(a - b, level)


def bootstrap(
  values: npt.ArrayLike,
  key: Key,
  statistic: Callable[[jax.Array], jax.Array] = jnp.mean,
  draws: int = 1000,
  level: float = 0.95,
) -> Interval:
  """Return the percentile bootstrap interval of a statistic.

  The statistic of N values drawn with replacement, `draws` times; the interval
  lies between its (1 ± level)/2 quantiles.

  Args:
    values: [N], for instance one score for each example.
    key: of the draws.
    statistic: [N] -> [], a jax function.
    draws: number of resamples.
    level: share of the resamples inside, in (0, 1).

  Returns:
    Interval: `mean` is the statistic of the values themselves.

  Raises:
    ValueError: as `mean_interval`, or for no draws.

  >>> bootstrap([2.0, 2.0], jax.random.key(0), draws=10).high
  2.0

  Efron 1979, "Bootstrap methods", https://doi.org/10.1214/aos/1176344552.
  """
  _check_level(level)
  if draws < 1:
    raise ValueError(f"draws: {draws}, expected at least 1")
  array = _numbers(values, "values")
  count = len(array)
  sample = jnp.asarray(array, jnp.float32)
  picks = jax.random.randint(key, (draws, count), 0, count)
  # One resample at a time: [draws, N] floats would not fit for large N.
  drawn = jax.lax.map(lambda index: statistic(sample[index]), picks)
  low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
  return Interval(float(statistic(sample)), low, high, count)
