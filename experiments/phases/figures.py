"""The phase diagram, and the measures behind it, as small heat maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weightspace import figures
from weightspace.probe.landscape.phases import PHASES, UNDECIDED

COLOURS = dict(
  zip(
    (*PHASES, UNDECIDED),
    ("#c9584a", "#e5a24a", "#8e7cc3", "#7fb3d5", "#4a9c6d", "#dddddd"),
  )
)
LOGARITHMIC = ("training loss", "trace of the Hessian", "top eigenvalue")
Sides = tuple[Sequence[int], Sequence[int]]


def _frame(axes: Any, sides: Sides, title: str) -> None:
  widths, batches = sides
  axes.set_xticks(range(len(batches)), [str(b) for b in batches])
  axes.set_yticks(range(len(widths)), [str(w) for w in widths])
  axes.tick_params(length=0)
  for spine in axes.spines.values():
    spine.set_visible(False)
  axes.set(xlabel="batch size", ylabel="width", title=title)


def diagram(
  phases: np.ndarray, accuracy: np.ndarray, sides: Sides
) -> tuple[Any, str]:
  """Draw the phase of each cell, with its test accuracy."""

  def draw(axes: Any) -> None:
    import matplotlib.colors

    names = list(COLOURS)
    numbers = np.vectorize(names.index)(phases)
    colours = matplotlib.colors.ListedColormap(list(COLOURS.values()))
    axes.imshow(
      numbers,
      cmap=colours,
      vmin=0,
      vmax=len(names) - 1,
      origin="lower",
      aspect="auto",
    )
    middle: Any = {"ha": "center", "va": "center"}
    for (i, j), label in np.ndenumerate(phases):
      text = "?" if label == UNDECIDED else str(label)
      axes.text(j, i + 0.12, text, fontsize=11, weight="bold", **middle)
      axes.text(j, i - 0.24, f"{accuracy[i, j]:.1f} %", fontsize=8, **middle)
    axes.set_xticks(np.arange(phases.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(phases.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=2, alpha=1.0)
    axes.tick_params(which="minor", length=0)
    _frame(axes, sides, "Phases")

  caption = (
    "The phase of each cell (?: undecided by the margins), and its test"
    " accuracy. I: under-fitted behind barriers; II: under-fitted, connected;"
    " III: fitted behind barriers; IV-A: fitted, connected,"
    " dissimilar; IV-B: fitted, connected, similar."
  )
  return figures.figure(draw, width=6.4, height=4.6), caption


def measures(grids: Mapping[str, np.ndarray], sides: Sides) -> tuple[Any, str]:
  """Draw each measure as a heat map."""

  def panel(name: str, grid: np.ndarray) -> figures.Panel:
    def draw(axes: Any) -> None:
      import matplotlib.colors

      norm: Any = None
      colours = "viridis"
      if name in LOGARITHMIC:
        norm = matplotlib.colors.LogNorm()
      if "gain" in name or "matching" in name or "connectivity" in name:
        edge = max(float(np.nanmax(np.abs(grid))), 1e-9)
        norm, colours = matplotlib.colors.Normalize(-edge, edge), "RdBu"
      shown = np.maximum(grid, 1e-6) if name in LOGARITHMIC else grid
      image = axes.imshow(
        shown, cmap=colours, norm=norm, origin="lower", aspect="auto"
      )
      bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
      bar.outline.set_visible(False)
      _frame(axes, sides, name)

    return draw

  panels = [panel(name, grid) for name, grid in grids.items()]
  drawn = _rows(panels, 4)
  caption = (
    "The measures behind the phases, means over seeds and pairs. Averaging:"
    " accuracy of the mean of two independent networks less that of the two,"
    " plain and after the second was permuted to the first."
  )
  return drawn, caption


def _rows(panels: Sequence[figures.Panel], columns: int) -> Any:
  """Draw panels in rows; None where matplotlib is not installed."""
  try:
    import matplotlib
    import matplotlib.figure
  except ImportError:
    return None
  rows = -(-len(panels) // columns)
  with matplotlib.rc_context(figures.STYLE):
    drawn = matplotlib.figure.Figure(
      (3.7 * columns, 3.1 * rows), layout="constrained"
    )
    for axes, panel in zip(np.ravel(drawn.subplots(rows, columns)), panels):
      panel(axes)
  return drawn
