"""Claims: a statement of a paper, judged from the lines of a run.

A family of experiments has a `claims.py` with a judge for each of its claims: a
function that reads the lines that a run logged, and nothing else, and returns
what was measured, in words, and a verdict.  The statement stands in the config.

>>> said(np.array([1.0, 1.0]), "points")
'+1.00 points [+1.00, +1.00]'
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.run import estimates, runs
from experiments.run.verdicts import (
  Verdict,
  above,
  below,
  correlated,
  every,
  exact,
  not_below,
  share,
  within,
)
from weightspace import intervals

__all__ = [
  "Claim",
  "Judge",
  "Rows",
  "Verdict",
  "above",
  "below",
  "correlated",
  "every",
  "exact",
  "finish",
  "gather",
  "high",
  "low",
  "not_below",
  "only",
  "over",
  "percent",
  "points",
  "rows",
  "said",
  "share",
  "table",
  "within",
]

Rows = dict[str, np.ndarray]  # {method: [seeds]} of one metric
POINTS = ("at", "place")  # entries of lines that are points on a curve
Judge = Callable[[runs.Run], tuple[str, Verdict | None]]


class Claim(NamedTuple):
  """How a claim is judged and drawn."""

  judge: Judge
  draw: Callable[[runs.Run], Any] | None = None
  caption: str = ""


def only(run: runs.Run, *names: str, **equal: Any) -> list[dict[str, Any]]:
  """Return the lines of a run that have these entries, and these values."""
  return [
    line
    for line in run.lines.values()
    if all(name in line for name in names)
    and all(line.get(name) == value for name, value in equal.items())
  ]


def gather(run: runs.Run, number: str, **equal: Any) -> np.ndarray:
  """Return [S, ...] of a number: its lines in order, seed by seed."""
  values: dict[int, list[float]] = {}
  for line in only(run, number, **equal):
    values.setdefault(line["seed"], []).append(line[number])
  return np.array([values[seed] for seed in sorted(values)])


def rows(run: runs.Run, number: str, by: str = "method", **equal: Any) -> Rows:
  """Return {method: [S]} of a number, in the order of the lines.

  Args:
    run: whose lines are read; those of points on a curve are left out.
    number: what is gathered.
    by: the entry that names the method.
    **equal: what the lines have to say.
  """
  values: dict[str, list[float]] = {}
  for line in only(run, number, by, **equal):
    if not any(name in line for name in POINTS):
      values.setdefault(line[by], []).append(line[number])
  return {name: np.array(numbers) for name, numbers in values.items()}


def low(values: npt.ArrayLike) -> float:
  """Return the lower end of the interval of a mean over seeds."""
  return intervals.mean_interval(values).low


def high(values: npt.ArrayLike) -> float:
  """Return the upper end of the interval of a mean over seeds."""
  return intervals.mean_interval(values).high


def said(
  values: npt.ArrayLike | intervals.Interval,
  unit: str = "",
  digits: int | None = None,
  signed: bool = True,
) -> str:
  """Return a mean over seeds with its interval, for people.

  Args:
    values: [S], or the interval itself.
    unit: written after the mean, if any.
    digits: behind the point; two, or four of a mean below 0.1.
    signed: whether a plus is written, as for a difference.

  >>> said([0.01, 0.03], "nats", signed=False)
  '0.0200 nats [-0.1071, 0.1471]'
  """
  if isinstance(values, intervals.Interval):
    interval = values
  else:
    interval = intervals.mean_interval(values)
  if digits is None:
    digits = 2 if abs(interval.mean) >= 0.1 else 4
  form = f"{'+' if signed else ''}.{digits}f"
  ends = f"[{interval.low:{form}}, {interval.high:{form}}]"
  return f"{interval.mean:{form}} {unit} {ends}".replace("  ", " ")


def points(values: npt.ArrayLike, unit: str = "points") -> str:
  """Return a mean difference over seeds in points, to two digits.

  >>> points([0.01, 0.01])
  '+0.01 points [+0.01, +0.01]'
  """
  return said(values, unit, 2)


def over(run: runs.Run) -> str:
  """Return how many seeds a run has, for people."""
  return f"over {run.config.seeds} seeds"


def percent(values: npt.ArrayLike) -> intervals.Interval:
  """Return the interval of a mean accuracy or share, within 0 and 100 %.

  Of numbers that may lie outside, such as gains, that of any mean.

  >>> percent([99.0, 100.0]).high
  100.0
  """
  numbers = np.asarray(values, np.float64)
  if ((numbers >= 0) & (numbers <= 100)).all():
    return estimates.bounded(numbers, 0.0, 100.0)
  return intervals.mean_interval(numbers)


def table(columns: Mapping[str, Rows]) -> runs.Table:
  """Return {method: {column: Interval}} of several metrics by method.

  Columns in "(%)" stay within 0 and 100.
  """
  made: runs.Table = {}
  for column, methods in columns.items():
    mean = percent if "(%)" in column else intervals.mean_interval
    for method, values in methods.items():
      made.setdefault(method, {})[column] = mean(values)
  return made


def finish(
  run: runs.Run,
  claim: Claim,
  numbers: runs.Table,
  charts: dict[str, tuple[Any, str]] | None = None,
) -> None:
  """Judge the claim of a config, and write the table, the figure and the page.

  Args:
    run: whose config states the claim.
    claim: how it is judged, and drawn where no charts are given.
    numbers: {row: {column: Interval or number}}.
    charts: {name: (figure, caption)}.
  """
  measured, verdict = claim.judge(run)
  if charts is None and claim.draw:
    name = run.config.get("judge") or run.about["name"]
    charts = {name: (claim.draw(run), claim.caption)}
  run.finish(statement(run), measured, numbers, verdict, charts)


def statement(run: runs.Run) -> str:
  """Return the statement that a config registers, or else claims."""
  registered = run.config.get("registered")
  return registered.statement if registered else run.config.claim
