"""What a study of averages found: a table by method, a figure, a verdict.

Serves the experiments `average`, `replicas` and `adapt`: each study logs one
line for a seed and a method, and all that a run says is made from the lines.

>>> said(np.array([1.0, 1.0]), "points")
'+1.00 points [+1.00, +1.00]'
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.run import runs
from weightspace import figures, intervals

Rows = dict[str, np.ndarray]  # {method: [seeds]} of one metric
KEYS = ("seed", "method", "seconds", "stage", "curve", "at")


class Claim(NamedTuple):
  """A statement, and the function that says what was found and if it holds."""

  statement: str
  judge: Callable[[runs.Run], tuple[str, bool]]


def study(run: runs.Run, studies: Mapping[str, Any]) -> None:
  """Run the study of the config and log its lines, unless that was done.

  A study is one piece: it holds trajectories that lie nowhere else, so that one
  that is killed trains them again, and logs only the lines that are not there.
  """
  done = {"stage": "measured"}
  if runs.identity(done) not in run.lines:
    for line in studies[run.config.study](run):
      run.log(**line)
    run.log(**done)


def rows(run: runs.Run, metric: str) -> Rows:
  """Return {method: [seeds]} of a metric, in the order of the lines."""
  found: dict[str, list[float]] = {}
  for line in run.lines.values():
    if "method" in line and "at" not in line and metric in line:
      found.setdefault(line["method"], []).append(line[metric])
  return {name: np.array(values) for name, values in found.items()}


def curves(run: runs.Run, metric: str) -> tuple[list[float], Rows]:
  """Return places, and {method: [seeds, places]} of lines that have `at`."""
  found: dict[str, dict[int, list[float]]] = {}
  places: dict[str, float] = {}
  for line in run.lines.values():
    if "at" in line and metric in line:
      own = found.setdefault(line["method"], {})
      own.setdefault(line["seed"], []).append(line[metric])
      places[line["at"]] = float(line["at"])
  return list(places.values()), {
    name: np.array(list(seeds.values())) for name, seeds in found.items()
  }


def said(values: np.ndarray, unit: str) -> str:
  """Return a mean difference over seeds with its interval, for people."""
  found = intervals.mean_interval(values)
  digits = 2 if abs(found.mean) >= 0.1 else 4
  ends = f"[{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
  return f"{found.mean:+.{digits}f} {unit} {ends}"


def below(values: np.ndarray) -> bool:
  """Tell whether the whole interval of a mean lies below zero."""
  return bool(intervals.mean_interval(values).high < 0)


def above(values: np.ndarray) -> bool:
  """Tell whether the whole interval of a mean lies above zero."""
  return below(-np.asarray(values))


def finish(run: runs.Run, claims: Mapping[str, Claim]) -> None:
  """Judge the config's claim, and write the table, the figure and the page."""
  metrics = dict.fromkeys(
    key
    for line in run.lines.values()
    if "method" in line and "at" not in line
    for key in line
    if key not in KEYS
  )
  table: runs.Table = {}
  for metric in metrics:
    for method, values in rows(run, metric).items():
      known = intervals.mean_interval(values)
      table.setdefault(method, {})[metric] = known
  claim = claims[run.config.claim]
  measured, holds = claim.judge(run)
  caption = (
    "Left: one row a method; faint dots are seeds, bars 95 % intervals of the"
    " mean over seeds. Curves: the mean over seeds and its 95 % band."
  )
  charts = {run.config.study: (draw(run, next(iter(metrics))), caption)}
  run.finish(claim.statement, measured, table, holds, charts)


def draw(run: runs.Run, metric: str) -> Any:
  """Draw the first metric of the table, and a curve where there is one."""
  metric = run.config.get("figure", metric)
  found = rows(run, metric)
  panels = [figures.dots(found, metric, run.config.get("heading", ""))]
  curve = run.config.get("curve", ())
  if curve:
    label, name, title = curve
    places, lines = curves(run, name)
    panels.append(figures.curves(places, lines, (label, name), title))
  if run.config.get("trade", ()):
    panels.append(trade(run, *run.config.trade))
  height = max(2.4, 1.2 + 0.42 * len(found))
  room = 0.075 * max(map(len, found))  # for the names of methods
  width = 5.0 * len(panels) + room
  return figures.figure(*panels, width=width, height=height)


def trade(run: runs.Run, across: str, up: str) -> figures.Panel:
  """Make the panel of one metric against another, a point for each method.

  Methods of one name but for what follows a comma are joined in their order.
  """
  x, y = rows(run, across), rows(run, up)

  def draw(axes: Any) -> None:
    groups: dict[str, list[str]] = {}
    for name in x:
      groups.setdefault(name.partition(",")[0], []).append(name)
    for place, (group, names) in enumerate(groups.items()):
      colour = figures.COLOURS[place % len(figures.COLOURS)]
      points = np.array([[x[n].mean(), y[n].mean()] for n in names])
      axes.plot(*points.T, "o-", color=colour, label=group)
    axes.grid()
    axes.legend()
    axes.set(xlabel=across, ylabel=up, title="One against the other")

  return draw
