"""Intervals that fit what they bound: accuracies, correlations, shares.

Student's interval of a mean knows no bounds.  An accuracy lies within 0 and 100
%, a correlation within -1 and 1, and a share is a ratio of two means, not the
mean of ratios whose denominators may be near zero.

>>> bounded([99.0, 100.0], 0.0, 100.0).high
100.0
"""

import math

import numpy as np
import numpy.typing as npt
import scipy.special

from weightspace import intervals
from weightspace.intervals import Interval


def bounded(values: npt.ArrayLike, low: float, high: float) -> Interval:
  """Return the 95 % interval of a mean of numbers between two bounds.

  Student's interval cut to [low, high], outside of which no mean can lie, so
  that its coverage stays.

  Args:
    values: [N], all between the bounds, such as accuracies in percent.
    low: the least possible value.
    high: the greatest.

  Raises:
    ValueError: for a value out of bounds, or as `mean_interval`.

  >>> bounded([0.0, 1.0], 0.0, 100.0).low
  0.0

  Student 1908, https://doi.org/10.1093/biomet/6.1.1.
  """
  found = intervals.mean_interval(values)
  for place, value in enumerate(np.asarray(values, np.float64)):
    if not low <= value <= high:
      raise ValueError(
        f"values: value {place} is {value:g}, expected {low:g} to {high:g}"
      )
  return found._replace(low=max(found.low, low), high=min(found.high, high))


def fisher_z(values: npt.ArrayLike) -> np.ndarray:
  """Return artanh r of correlations [N], those of ±1 at the nearest number.

  Raises:
    ValueError: for a value outside [-1, 1].

  >>> fisher_z([0.0]).item()
  0.0

  Fisher 1915, "Frequency distribution of the values of the correlation
  coefficient", https://doi.org/10.2307/2331838.
  """
  array = np.asarray(values, np.float64)
  for place, value in enumerate(array):
    if not -1.0 <= value <= 1.0:
      raise ValueError(f"values: value {place} is {value:g}, expected -1 to 1")
  edge = 1.0 - np.finfo(np.float64).epsneg
  return np.arctanh(np.clip(array, -edge, edge))


def correlation(values: npt.ArrayLike) -> Interval:
  """Return the 95 % interval of a mean correlation over seeds, by Fisher's z.

  tanh(z̄ ± t_{N-1} s_z / √N), z = artanh r.

  Args:
    values: [N] correlations, one for each seed.

  Returns:
    Interval: `mean` is tanh z̄.

  Raises:
    ValueError: for a value outside [-1, 1], or as `mean_interval`.

  >>> found = correlation([0.9, 0.99, 0.95])
  >>> f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
  '0.96 [0.45, 1.00]'

  Fisher 1915, https://doi.org/10.2307/2331838.
  """
  found = intervals.mean_interval(fisher_z(values))
  mean, low, high = (math.tanh(z) for z in found[:3])
  return Interval(mean, low, high, found.size)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Interval:
  """Return the 95 % interval of mean(part) / mean(whole): Fieller's.

  All q for which the mean of part - q whole does not differ from zero by a
  t-test.  Unlike a mean of ratios it does not suffer from single small wholes.

  Args:
    part: [N].
    whole: [N], measured on the same seeds in the same order.

  Returns:
    Interval: `mean` is the ratio of the means, NaN where that of the whole is
    zero; the whole line where the whole does not differ from zero.

  Raises:
    ValueError: when the lengths differ, or as `mean_interval`.

  >>> found = ratio([1.0, 1.2, 0.9], [2.0, 2.1, 1.9])
  >>> f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
  '0.52 [0.37, 0.63]'

  Fieller 1954, "Some problems in interval estimation",
  https://doi.org/10.1111/j.2517-6161.1954.tb00159.x.
  """
  means = [intervals.mean_interval(x) for x in (part, whole)]
  intervals.paired(part, whole)  # refuses lengths that differ
  (a, *_, count), (b, low, high, _) = means
  mean = a / b if b else math.nan
  if low <= 0.0 <= high:
    return Interval(mean, -math.inf, math.inf, count)
  quantile = scipy.special.stdtrit(count - 1, 0.975)
  both = np.asarray(part, np.float64), np.asarray(whole, np.float64)
  spread = quantile**2 / count * np.cov(*both)
  # (a - q b)^2 is at most the spread of a - q b: a quadratic in q.
  square, middle = b**2 - spread[1, 1], a * b - spread[0, 1]
  root = math.sqrt(max(middle**2 - square * (a**2 - spread[0, 0]), 0.0))
  low, high = (float((middle + sign * root) / square) for sign in (-1, 1))
  return Interval(mean, low, high, count)
