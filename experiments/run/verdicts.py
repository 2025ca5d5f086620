"""Verdicts: holds, does not hold, or undecided, each from an interval.

A judge compares numbers of several seeds.  A comparison holds where the whole
95 % interval lies on the side that is claimed, does not hold where it lies on
the other, and is undecided between.  A claim of several comparisons holds where
all do.  One value says nothing of its spread, so its interval is the whole
line, and nothing is decided by it.

>>> above([0.2, 0.3, 0.4]).word, above([-0.1, 0.3, 0.1]).word
('holds', 'undecided')
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.special

from experiments.run import estimates
from weightspace import intervals

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
WORDS = (HOLDS, FAILS, OPEN)
ENDLESS = re.compile(r"\s*\[[-+]?inf, [-+]?inf\]")
COUNTED = re.compile(r"\bover 1 (seed|pair)s\b")


class Verdict(NamedTuple):
  """One of WORDS, and the p-value of the claim's weakest comparison.

  It is true where the claim holds.
  """

  word: str
  p: float = math.nan  # one-sided; small where the claim holds

  def __bool__(self) -> bool:
    """Tell whether the claim holds."""
    return self.word == HOLDS


def above(
  values: npt.ArrayLike, bound: float = 0.0, effect: float | None = None
) -> Verdict:
  """Judge whether a mean over seeds lies above a bound.

  Args:
    values: [S], one number for each seed.
    bound: what the mean has to exceed.
    effect: a smaller mean than this is no effect worth the claim, such as the
      paper's: the claim does not hold where the whole interval lies below.
      The bound itself by default.

  Returns:
    Verdict with the p-value of Student's one-sided test against the bound.

  >>> above([0.01, 0.02, 0.0, -0.01], effect=1.0).word
  'does not hold'
  """
  found = intervals.mean_interval(values)
  small = effect is not None and found.high < effect
  fails = FAILS if small or found.high <= bound else OPEN
  return Verdict(HOLDS if found.low > bound else fails, _p(values, bound))


def below(
  values: npt.ArrayLike, bound: float = 0.0, effect: float | None = None
) -> Verdict:
  """Judge whether a mean over seeds lies below a bound, as `above`.

  >>> below([-0.2, -0.3, -0.4]).word
  'holds'
  """
  mirrored = None if effect is None else -effect
  return above(-np.asarray(values, np.float64), -bound, mirrored)


def not_below(values: npt.ArrayLike, margin: float = 0.0) -> Verdict:
  """Judge whether a mean over seeds is at least minus a margin.

  As `above(values, -margin)`, but that values which lie on the margin itself,
  all alike, are granted.

  >>> not_below([0.0, 0.0]).word
  'holds'
  """
  found = intervals.mean_interval(values)
  if found.low == found.high == -margin:
    return Verdict(HOLDS, 0.0)
  return above(values, -margin)


def within(values: npt.ArrayLike, low: float, high: float) -> Verdict:
  """Judge whether a mean over seeds lies between two bounds: equivalence.

  Two one-sided tests; it does not hold where the whole interval is outside.

  >>> within([0.1, -0.1, 0.0], -1.0, 1.0).word
  'holds'
  """
  found = intervals.mean_interval(values)
  p = max(_p(values, low), _p(-np.asarray(values, np.float64), -high))
  if found.low > low and found.high < high:
    return Verdict(HOLDS, p)
  outside = found.high <= low or found.low >= high
  return Verdict(FAILS if outside else OPEN, p)


def correlated(
  values: npt.ArrayLike, bound: float = 0.0, effect: float | None = None
) -> Verdict:
  """Judge whether a mean correlation over seeds lies above a bound.

  As `above`, of Fisher's z, which unlike correlations may be normal.

  >>> correlated([0.9, 0.91, 0.92], 0.5).word
  'holds'
  """
  least = None if effect is None else math.atanh(effect)
  return above(estimates.fisher_z(values), math.atanh(bound), least)


def share(part: npt.ArrayLike, whole: npt.ArrayLike, bound: float) -> Verdict:
  """Judge whether the mean of a part over that of a whole exceeds a bound.

  Fieller's test: the part less so much of the whole, whose mean is positive.

  >>> share([0.9, 1.0, 0.9], [1.0, 1.0, 1.1], 0.5).word
  'holds'
  """
  gap = np.asarray(part, np.float64) - bound * np.asarray(whole, np.float64)
  return every(above(gap), above(whole))


def exact(condition: bool | np.bool_) -> Verdict:
  """Judge what is true or false of the numbers, without an interval.

  >>> exact(1 < 2).word
  'holds'
  """
  return Verdict(HOLDS, 0.0) if condition else Verdict(FAILS, 1.0)


def every(*verdicts: Verdict) -> Verdict:
  """Judge a claim of several comparisons: it holds where all of them do.

  It does not hold where one of them does not.  The p-value is the largest, that
  of an intersection-union test.

  >>> every(exact(True), above([-1.0, 1.0])).word
  'undecided'
  """
  words = [verdict.word for verdict in verdicts]
  word = FAILS if FAILS in words else OPEN if OPEN in words else HOLDS
  return Verdict(word, max(verdict.p for verdict in verdicts))


def _p(values: npt.ArrayLike, bound: float) -> float:
  """Return Student's one-sided p-value of a mean that is not above a bound."""
  gaps = np.asarray(values, np.float64) - bound
  if len(gaps) < 2:
    return 0.5
  error = gaps.std(ddof=1) / math.sqrt(len(gaps))
  if error == 0:
    return 0.0 if gaps.mean() > 0 else 1.0
  return float(scipy.special.stdtr(len(gaps) - 1, -gaps.mean() / error))


def of(holds: Verdict | bool | None) -> Verdict | None:
  """Return the verdict that a main gives, which may be plain true or false."""
  if holds is None or isinstance(holds, Verdict):
    return holds
  return exact(bool(holds))


def entries(verdict: Verdict | None) -> dict[str, Any]:
  """Return what result.json says of a verdict; `holds` is null if undecided.

  >>> entries(Verdict(OPEN, 0.2))
  {'holds': None, 'verdict': 'undecided', 'p': 0.2}
  """
  if verdict is None:
    return {"holds": None, "verdict": None, "p": None}
  holds = {HOLDS: True, FAILS: False}.get(verdict.word)
  p = None if math.isnan(verdict.p) else verdict.p
  return {"holds": holds, "verdict": verdict.word, "p": p}


def settle(
  measured: str, holds: Verdict | None, lines: Iterable[Mapping[str, Any]]
) -> tuple[str, Verdict | None]:
  """Return what was measured, and what is judged of it, if anything.

  Args:
    measured: what a judge found, in words; infinite ends of an interval say
      that it is of a single value.
    holds: what the judge made of it; None where nothing is claimed.
    lines: what the run logged, some of it with a seed.

  Returns:
    (measured, holds): as given where all intervals are of several values, and
    several seeds were run; else nothing is decided.

  >>> settle("+0.30 points [-inf, +inf]", exact(False), [{"seed": 0}])[1].word
  'undecided'
  """
  found = COUNTED.sub(r"over one \1", ENDLESS.sub("", measured))
  seeds = {line["seed"] for line in lines if "seed" in line}
  alone = len(seeds) == 1
  if holds is None:
    return found, None
  if not alone and not ENDLESS.search(measured):
    return measured, holds
  what = "seed" if alone else "value"
  return f"{found}; one {what} gives no interval: undecided", Verdict(OPEN)
