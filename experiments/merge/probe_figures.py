"""Figures of single claims about merging: what their probes logged.

>>> callable(dropped)
True
"""

from typing import Any

import numpy as np

from experiments.merge import results
from experiments.merge.figures import SEEDS, methods
from experiments.merge.results import TUNED
from experiments.run import runs
from experiments.run.claims import gather
from weightspace import figures
from weightspace.figures import Panel

LEFT = (
  "Left: test accuracy of each method, with the coefficient that validation"
  " images chose and without; lines are the experts and the base."
)


def names_of(run: runs.Run, word: str) -> list[str]:
  """Return the values of a word over the lines, in order."""
  return list(dict.fromkeys(x[word] for x in run.lines.values() if word in x))


def dropped(run: runs.Run) -> Any:
  """Draw accuracy over the drop rate, of task vectors and of weights."""
  lines = {
    kind: gather(run, "normalised", dropped=kind)
    for kind in names_of(run, "dropped")
  }
  rates = [float(rate) for rate in names_of(run, "rate")]
  label = ("share dropped", "accuracy over the expert's (%)")
  left = methods(run, results.ranked(run))
  marks = [(0.9, "0.9, the paper's")]
  right = figures.curves(rates, lines, label, "Dropped from single experts")
  return figures.figure(left, _marked(right, marks), width=11.0, height=3.8)


def _marked(panel: Panel, marks: list[tuple[float, str]]) -> Panel:
  def draw(axes: Any) -> None:
    panel(axes)
    for at, text in marks:
      axes.axvline(at, color=figures.INK, lw=0.7, ls=":")
      axes.annotate(
        text,
        (at, 0.3),
        xycoords=("data", "axes fraction"),
        rotation=90,
        xytext=(-3, 0),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
      )

  return draw


DROPPED = (
  f"{LEFT} Right: entries dropped at random from each expert's task vector or"
  " from its weights, with and without division by the share kept;"
  f" accuracy over the expert's, mean over tasks. {SEEDS}"
)


def orders(run: runs.Run) -> Any:
  """Draw the methods, and OPCM over orders of arrival."""
  found = gather(run, "test", tried="OPCM, other orders")
  rows = {f"order {k}": found[:, k] for k in range(found.shape[1])}
  left = methods(run, results.ranked(run))
  right = figures.dots(rows, "accuracy (%)", "OPCM, by order of arrival")
  return figures.figure(left, right, width=11.0, height=3.6)


ORDERS = (
  f"{LEFT} Right: OPCM with the experts arriving in other orders; dots are"
  f" seeds. {SEEDS}"
)


def descent(run: runs.Run) -> Any:
  """Draw the methods, and the interaction loss over steps."""
  steps = [int(x) for x in names_of(run, "steps")]
  loss = 100 * gather(run, "interaction")
  label = ("steps of Adam", "interaction loss over the sum's (%)")
  left = methods(run, results.ranked(run))
  right = figures.curves(steps, {"loss": loss}, label, "Interaction loss")
  return figures.figure(left, right, width=11.0, height=3.6)


DESCENT = (
  f"{LEFT} Right: loss of interaction between task vectors over the steps of"
  f" the optimiser, from their sum. {SEEDS}"
)


def reversible(run: runs.Run) -> Any:
  """Draw accuracy over the number of basis vectors, and what they store."""
  count = len(run.config.tasks)
  found = {
    name: gather(run, "accuracy", adapted=name)[:, 0]
    for name in names_of(run, "adapted")
  }
  names = [f"RMM, p = {p}" for p in range(1, count + 1)]
  stored = [gather(run, "stored", reversible=n).mean() for n in names]
  flat = ("adapters", "mean of products", "mean of factors", "base")
  lines = {"RMM": np.stack([found[n] for n in names], 1)}
  lines |= {n: np.repeat(found[n][:, None], count, 1) for n in flat}
  error = 100 * np.stack(
    [gather(run, "error", reversible=n)[:, 0] for n in names], 1
  )
  left = figures.curves(
    stored,
    lines,
    ("numbers stored over all adapters' (%)", "mean accuracy over tasks (%)"),
    "What comes back",
  )
  right = figures.curves(
    range(1, count + 1),
    {"error": error},
    ("basis vectors p", "squared error over the adapters' (%)"),
    "What is lost",
  )
  return figures.figure(left, right, width=11.0, height=3.8)


REVERSIBLE = (
  "Left: accuracy of adapters reconstructed from p basis vectors, over what is"
  " stored, beside one averaged model for all tasks. Right: squared error of"
  f" the reconstructed factors. {SEEDS}"
)


def scale(run: runs.Run) -> Any:
  """Draw the gap to the experts over the number of experts, by bed."""
  counts = list(run.config.counts)
  methods = results.ranked(run)

  def gaps(bed: str, name: str) -> np.ndarray:
    return np.stack(
      [
        100 - results.of(run, name, TUNED, "normalised", bed=bed, count=count)
        for count in counts
      ],
      1,
    )

  lines = {
    bed: np.mean([gaps(bed, n) for n in methods], 0) for bed in run.config.beds
  }
  rows = {
    f"{bed}: {name}": gaps(bed, name)[:, -1]
    for bed in run.config.beds
    for name in methods
  }
  left = figures.curves(
    counts,
    lines,
    ("experts merged", "gap to the experts (%)"),
    "Mean over methods, tuned",
  )
  title = f"{counts[-1]} experts"
  right = figures.dots(rows, "gap to the experts (%)", title)
  height = max(3.8, 0.27 * len(rows))
  return figures.figure(left, right, width=11.0, height=height)


SCALE = (
  "Left: how far tuned merges stay below their experts, in percent of the"
  " experts' accuracy, mean over methods. Right: the same for each method with"
  f" all experts; dots are seeds. {SEEDS}"
)
