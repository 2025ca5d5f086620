"""Studies: a function that yields lines, and the table and figure made of them.

A study logs one line for a seed and a method, and lines with `at` for points of
a curve; a family of studies has a main of three lines.

  study.work(run, STUDIES)
  study.finish(run, CLAIMS)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from experiments.run import claims, runs
from experiments.run.claims import Claim, Rows
from weightspace import figures

KEYS = ("seed", "method", "seconds", "stage", "curve", "at")
Lines = Iterator[dict[str, Any]]
Study = Callable[[runs.Run], Lines]
CAPTION = (
  "Left: one row a method; faint dots are seeds, bars 95 % intervals of the"
  " mean over seeds. Curves: the mean over seeds and its 95 % band."
)


def work(run: runs.Run, studies: Mapping[str, Study]) -> None:
  """Run the study of the config and log its lines, unless that was done.

  A study is one piece: it holds trajectories that lie nowhere else, so that one
  that is killed trains them again, and logs only the lines that are not there.
  """
  done = {"stage": "measured"}
  if runs.identity(done) not in run.lines:
    for line in studies[run.config.study](run):
      run.log(**line)
    run.log(**done)


def curves(run: runs.Run, metric: str) -> tuple[list[float], Rows]:
  """Return places, and {method: [seeds, places]} of lines that have `at`."""
  methods: dict[str, dict[int, list[float]]] = {}
  places: dict[str, float] = {}
  for line in claims.only(run, "at", metric):
    seeds = methods.setdefault(line["method"], {})
    seeds.setdefault(line["seed"], []).append(line[metric])
    places[line["at"]] = float(line["at"])
  return list(places.values()), {
    name: np.array(list(seeds.values())) for name, seeds in methods.items()
  }


def finish(run: runs.Run, known: Mapping[str, Claim]) -> None:
  """Judge the config's claim, and write the table, the figure and the page."""
  metrics = dict.fromkeys(
    key
    for line in claims.only(run, "method")
    if "at" not in line
    for key in line
    if key not in KEYS
  )
  numbers = claims.table({name: claims.rows(run, name) for name in metrics})
  charts = {run.config.study: (draw(run, next(iter(metrics))), CAPTION)}
  claims.finish(run, known[run.config.claim], numbers, charts)


def draw(run: runs.Run, metric: str) -> Any:
  """Draw the first metric of the table, and a curve where there is one."""
  metric = run.config.get("figure", metric)
  methods = claims.rows(run, metric)
  panels = [figures.dots(methods, metric, run.config.get("heading", ""))]
  curve = run.config.get("curve", ())
  if curve:
    label, name, title = curve
    places, lines = curves(run, name)
    panels.append(figures.curves(places, lines, (label, name), title))
  if run.config.get("trade", ()):
    panels.append(trade(run, *run.config.trade))
  height = max(2.4, 1.2 + 0.42 * len(methods))
  room = 0.075 * max(map(len, methods))  # for the names of methods
  width = 5.0 * len(panels) + room
  return figures.figure(*panels, width=width, height=height)


def trade(run: runs.Run, across: str, up: str) -> figures.Panel:
  """Make the panel of one metric against another, a point for each method.

  Methods of one name but for what follows a comma are joined in their order.
  """
  x, y = claims.rows(run, across), claims.rows(run, up)

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
