"""The figure of the re-basin experiments: along the line, and the mean of all.

A method has one colour in both panels; what was done to its mean is dashed.

>>> colours(["weights", "weights + REPAIR"])
{'weights': '#3b7dc4', 'weights + REPAIR': '#3b7dc4'}
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.rebasin.results import cases
from experiments.run import runs
from experiments.run.claims import only, rows
from weightspace import figures

HUES = {
  "ends": figures.INK,
  "naive": figures.COLOURS[5],
  "random": figures.COLOURS[3],
  "weights": figures.COLOURS[0],
  "activations": figures.COLOURS[1],
  "without heads": figures.COLOURS[1],
  "activations, without heads": figures.COLOURS[4],
  "many": figures.COLOURS[2],
  "MergeMany": figures.COLOURS[4],
  "straight-through": figures.COLOURS[4],
}


def colours(names: Iterable[str]) -> dict[str, str]:
  """Return the colour of each method, or of its mean after something."""
  return {name: HUES[name.partition(" + ")[0]] for name in names}


def draw(run: runs.Run) -> Any:
  """Draw the loss along the line, and the accuracy of the merged models."""
  names = cases(run)
  return figures.figure(
    _left(run, names[-1]), _right(run, names), width=11.0, height=4.0
  )


def _left(run: runs.Run, case: str) -> figures.Panel:
  lines: dict[str, Any] = {}
  for method in run.config.methods:
    seeds: dict[int, list[float]] = {}
    for line in only(run, "place", case=case, split="test", method=method):
      seeds.setdefault(line["seed"], []).append(line["loss"])
    lines[method] = list(seeds.values())
  # Lines that lie on others are dashed, and those show.
  return figures.curves(
    np.linspace(0, 1, run.config.points),
    lines,
    ("place on the line", "test loss"),
    f"From the first model to the second, {case}",
    colours=colours(lines),
    dashed=("random", "activations"),
  )


def _right(run: runs.Run, ordered: list[str]) -> figures.Panel:
  found = [rows(run, "accuracy", "merged", case=case) for case in ordered]
  title = "The mean of all models"
  if len(ordered) == 1:
    return figures.dots(
      found[0], "test accuracy (%)", title, colours=colours(found[0])
    )
  names = [n for n in found[0] if n != "random"]
  sizes = [float(run.config.sizes[case]) for case in ordered]
  panel = figures.curves(
    sizes,
    {n: np.stack([f[n] for f in found], 1) for n in names},
    (run.config.axis, "test accuracy (%)"),
    title,
    colours=colours(names),
    dashed=[n for n in names if " + " in n],
  )

  def on(axes: Any) -> None:
    panel(axes)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(None, 100)

  return on
