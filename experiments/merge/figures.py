"""The figures of the multi-task bed, from the lines of a run alone.

>>> callable(methods(None, []))
True
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.merge import results
from experiments.merge.results import EXPERTS, START, TUNED, UNTUNED
from experiments.run import runs
from weightspace import figures, intervals
from weightspace.figures import COLOURS, INK, Panel

SEEDS = "Bars and bands are 95 % intervals of the mean over seeds."


def methods(run: Any, names: Sequence[str], **which: Any) -> Panel:
  """Make the panel of methods: tuned filled, untuned hollow, ends dashed."""

  def draw(axes: Any) -> None:
    for place, name in enumerate(names):
      tuned = run.config.methods[name].get("tuned", True)
      both = ((UNTUNED, 0.14), (TUNED, -0.14)) if tuned else ((UNTUNED, 0.0),)
      for choice, offset in both:
        values = results.of(run, name, choice, **which)
        found = intervals.mean_interval(values)
        colour = COLOURS[0] if choice == TUNED else COLOURS[5]
        ends = [found.low, found.high]
        if np.isfinite(found.low):
          axes.plot(ends, [place + offset] * 2, color=colour, lw=2)
        fill = colour if choice == TUNED else "none"
        axes.plot(found.mean, place + offset, "o", ms=5, mfc=fill, color=colour)
    for name, style in ((EXPERTS, "--"), (START, ":")):
      mean = results.of(run, name, UNTUNED, **which).mean()
      axes.axvline(mean, color=INK, lw=0.8, ls=style, zorder=0)
      axes.annotate(
        name,
        (mean, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -4),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=8,
      )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    title = "Tuned (filled) and untuned (hollow)"
    axes.set(xlabel="mean accuracy over tasks (%)", title=title)

  return draw


def coefficients(run: runs.Run, names: Sequence[str]) -> Panel:
  """Make the panel of accuracy over the coefficient, on a log axis."""
  bed, count = list(run.config.beds)[-1], run.config.counts[-1]

  def draw(axes: Any) -> None:
    for place, name in enumerate(names):
      found: dict[float, list[float]] = {}
      for line in run.lines.values():
        same = line.get("bed") == bed and line.get("count") == count
        if line.get("tried") == name and same and line["setting"] == 0:
          found.setdefault(float(line["scale"]), []).append(line["test"])
      x = sorted(found)
      rows = [intervals.mean_interval(found[scale]) for scale in x]
      colour, style = COLOURS[place % 6], "-" if place < 6 else "--"
      means = [row.mean for row in rows]
      axes.plot(x, means, color=colour, lw=1.8, ls=style, label=name)
      if rows[0].size > 1 and len(names) < 7:
        ends = [row.low for row in rows], [row.high for row in rows]
        axes.fill_between(x, *ends, color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.grid(axis="y")
    label = "coefficient (0 the base, 1 the recipe's own)"
    axes.set(xlabel=label, ylabel="accuracy (%)", title="How far to go")
    axes.legend(fontsize=8, ncols=1 + len(names) // 7)

  return draw


def trade(run: runs.Run, names: Sequence[str]) -> Panel:
  """Make the panel of the base's own task against the merged tasks."""

  def draw(axes: Any) -> None:
    points = []
    for name in names:
      x = results.of(run, name, TUNED).mean()
      y = results.of(run, name, TUNED, f"on {results.BASE}").mean()
      points.append((x, y))
      axes.plot(x, y, "o", color=COLOURS[0], ms=5)
    # Names stand in a column, in the order of their dots, a line to each.
    order = sorted(range(len(points)), key=lambda i: points[i][1])
    low, high = (f(y for _, y in points) for f in (min, max))
    most = max(x for x, _ in points)
    column = most + 0.15 * (most - min(x for x, _ in points))
    for index, level in zip(order, np.linspace(low, high, len(order))):
      axes.annotate(
        names[index],
        points[index],
        xytext=(column, level),
        va="center",
        fontsize=7,
        arrowprops={"arrowstyle": "-", "lw": 0.4, "color": COLOURS[5]},
      )
    start = results.of(run, START, UNTUNED, f"on {results.BASE}").mean()
    axes.axhline(start, color=INK, lw=0.8, ls=":")
    axes.set_xlim(right=column + 3 * (column - most))
    axes.grid()
    axes.set(
      xlabel="mean accuracy over tasks (%)",
      ylabel="accuracy on the base's task (%)",
      title="Learnt and forgotten (tuned)",
    )

  return draw


def bed(run: runs.Run) -> Any:
  """Draw the methods, and accuracy over the coefficient."""
  names = results.ranked(run)
  tuned = [n for n in names if run.config.methods[n].get("tuned", True)]
  height = max(3.4, 0.36 * len(names))
  left, right = methods(run, names), coefficients(run, tuned)
  return figures.figure(left, right, width=11.0, height=height)


def bench(run: runs.Run) -> Any:
  """Draw the methods, and what each forgets."""
  names = results.ranked(run)
  height = max(4.0, 0.34 * len(names))
  left, right = methods(run, names), trade(run, names)
  return figures.figure(left, right, width=12.0, height=height)
