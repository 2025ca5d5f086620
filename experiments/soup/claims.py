"""What each claim about soups asks, and whether a run's numbers grant it.

A judge reads the lines that the run logged, and nothing else.

>>> sorted(CLAIMS)
['collapse', 'greedy', 'uniform']
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.run import runs
from weightspace import intervals

Rows = dict[str, np.ndarray]  # {method: [seeds]} of one metric


def gather(run: runs.Run, metric: str) -> Rows:
  """Return {method: [seeds]} of a metric, from the lines of the run."""
  rows: dict[str, list[float]] = {}
  for line in only(run, "method"):
    rows.setdefault(line["method"], []).append(line[metric])
  return {name: np.array(values) for name, values in rows.items()}


def only(run: runs.Run, *names: str) -> list[dict[str, Any]]:
  """Return the lines of a run that have all these entries."""
  return [x for x in run.lines.values() if all(name in x for name in names)]


def _said(found: intervals.Interval, unit: str, seeds: int) -> str:
  ends = f"[{found.low:+.2f}, {found.high:+.2f}]"
  return f"{found.mean:+.2f} {unit} {ends} over {seeds} seeds"


def greedy_claim(run: runs.Run) -> tuple[str, bool]:
  """Judge: on the selection set, no greedy soup is below the best member."""
  rows = gather(run, "validation accuracy")
  gap = rows["greedy"] - rows["best"]
  found = intervals.mean_interval(gap)
  measured = (
    f"greedy minus best member on the selection set: smallest {gap.min():+.2f},"
    f" mean {_said(found, 'points', len(gap))}"
  )
  return measured, bool((gap >= 0.0).all())


def uniform_claim(run: runs.Run) -> tuple[str, bool]:
  """Judge: the uniform soup is above the best member, on average."""
  rows = gather(run, "test accuracy")
  found = intervals.paired(rows["uniform"], rows["best"])
  said = _said(found, "points of test accuracy", found.size)
  return f"uniform soup minus best member: {said}", found.low > 0.0


def collapse_claim(run: runs.Run) -> tuple[str, bool]:
  """Judge: the average of independent members falls by over ten points."""
  rows = gather(run, "test accuracy")
  fall = intervals.paired(rows["uniform"], rows["mean"])
  lines = only(run, "barrier")
  loss = intervals.mean_interval([line["loss"] for line in lines])
  error = intervals.mean_interval([line["error"] for line in lines])
  measured = (
    f"uniform soup minus mean member: {_said(fall, 'points', fall.size)};"
    f" midpoint of two members: error {error.mean:+.1f} points"
    f" [{error.low:+.1f}, {error.high:+.1f}], loss {loss.mean:+.2f}"
    f" [{loss.low:+.2f}, {loss.high:+.2f}]"
  )
  return measured, fall.high < -10.0 and loss.low > 0.0


class Claim(NamedTuple):
  """A statement, and the function that says what was found and if it holds."""

  statement: str
  judge: Callable[[runs.Run], tuple[str, bool]]


CLAIMS = {
  "greedy": Claim(
    "On the selection set the greedy soup is never below the best member.",
    greedy_claim,
  ),
  "uniform": Claim(
    "The uniform soup of members of equal quality is above the best of them,"
    " chosen on the selection set.",
    uniform_claim,
  ),
  "collapse": Claim(
    "The average of members from independent starts collapses: it falls more"
    " than ten points below them, behind a loss barrier.",
    collapse_claim,
  ),
}
