"""Panels of landscapes: contours of a plane with its models, and spectra.

>>> callable(contour([0.0, 1.0], [0.0, 1.0], [[0.0, 1.0], [1.0, 2.0]]))
True
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from weightspace.figures import COLOURS, INK, Panel
from weightspace.probe import smooth


def contour(
  us: npt.ArrayLike,
  vs: npt.ArrayLike,
  grid: npt.ArrayLike,
  models: Mapping[str, tuple[float, float]] | None = None,
  paths: Mapping[str, npt.ArrayLike] | None = None,
  *,
  title: str = "",
  label: str = "training loss",
) -> Panel:
  """Make a panel of a plane's loss: filled contours at even steps of its log.

  Args:
    us: [U] coordinates, drawn to the right.
    vs: [V], drawn upwards.
    grid: [U, V] losses; NaN is left blank.
    models: {name: (u, v)} marked as points.
    paths: {name: [T, 2]} drawn as lines.
    title: of the panel.
    label: of the colours.
  """

  def draw(axes: Any) -> None:
    filled, levels = _filled(axes, us, vs, grid)
    _marked(axes, models or {}, paths or {})
    bar = axes.figure.colorbar(filled, ax=axes, pad=0.02)
    ticks = levels[:: max(1, len(levels) // 5)]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.set_label(label)
    bar.minorticks_off()
    bar.outline.set_linewidth(0.5)
    axes.set_aspect("equal")
    axes.set(xlabel="distance along u", ylabel="distance along v", title=title)

  return draw


def _filled(
  axes: Any, us: npt.ArrayLike, vs: npt.ArrayLike, grid: npt.ArrayLike
) -> tuple[Any, np.ndarray]:
  """Draw the contours, in grey for what is drawn on them; return levels too."""
  import matplotlib.colors

  values = np.ma.masked_invalid(np.asarray(grid, float)).T
  low, high = float(values.min()), float(np.ma.median(values) * 3)
  high = max(min(high, float(values.max())), low * 1.5 + 1e-9)
  levels = np.geomspace(max(low, 1e-6), high, 16)
  whole = matplotlib.colormaps["Greys_r"](np.linspace(0.3, 1.0, 256))
  filled = axes.contourf(
    us,
    vs,
    np.maximum(values, levels[0]),
    levels=levels,
    norm=matplotlib.colors.LogNorm(levels[0], levels[-1]),
    cmap=matplotlib.colors.ListedColormap(whole),
    extend="max",
  )
  axes.contour(
    us, vs, values, levels=levels, colors="white", linewidths=0.4, alpha=0.7
  )
  return filled, levels


def _marked(
  axes: Any,
  models: Mapping[str, tuple[float, float]],
  paths: Mapping[str, npt.ArrayLike],
) -> None:
  """Mark models and paths; a path's colour is that in `figures.curves`."""
  for place, (name, points) in enumerate(paths.items()):
    xs, ys = np.asarray(points).T
    colour = COLOURS[place % len(COLOURS)]
    axes.plot(xs, ys, color="white", lw=3.6, alpha=0.8)
    axes.plot(xs, ys, color=colour, lw=2.0, label=name)
  for name, (x, y) in models.items():
    axes.plot([x], [y], "o", ms=7, mfc="white", mec=INK, mew=1.2, zorder=5)
    axes.annotate(
      name,
      (x, y),
      xytext=(0, 8),
      textcoords="offset points",
      ha="center",
      fontsize=9,
      bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1.0},
    )
  if paths:
    axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.8)


def spectrum(
  found: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
  tops: Mapping[str, float],
  title: str = "",
) -> Panel:
  """Make a panel of spectral densities on a log axis, with top eigenvalues.

  Args:
    found: {name: (nodes, weights)} as `probe.density` gives them.
    tops: {name: top eigenvalue}, marked by a tick at the bottom.
    title: of the panel.
  """

  def draw(axes: Any) -> None:
    ends = [np.asarray(nodes) for nodes, _ in found.values()]
    low = min(float(x.min()) for x in ends)
    high = max([float(x.max()) for x in ends] + [*tops.values()])
    span = high - low
    grid, peak = np.linspace(low - 0.05 * span, high + 0.05 * span, 800), 0.0
    for place, (name, (nodes, weights)) in enumerate(found.items()):
      colour = COLOURS[place % len(COLOURS)]
      curve = smooth(nodes, weights, grid, width=span / 120)
      peak = max(peak, float(curve.max()))
      axes.plot(grid, curve, color=colour, lw=1.6, label=name)
      axes.fill_between(grid, curve, 1e-9, color=colour, alpha=0.12, lw=0)
      if name in tops:
        axes.plot([tops[name]], [1.6e-7], "^", color=colour, ms=7)
    axes.set_yscale("log")
    axes.set_ylim(1e-7, 5 * peak)
    axes.grid(axis="y")
    axes.set(xlabel="eigenvalue", ylabel="density", title=title)
    axes.legend()

  return draw


def scatter(
  points: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
  label: tuple[str, str],
  title: str = "",
  diagonal: bool = True,
  log: bool = False,
) -> Panel:
  """Make a panel of points, each name in its colour, beside y = x.

  Args:
    points: {name: (x, y)}.
    label: of the horizontal and of the vertical axis.
    title: of the panel.
    diagonal: draw y = x.
    log: both axes logarithmic.
  """

  def draw(axes: Any) -> None:
    if log:
      axes.set(xscale="log", yscale="log")
      axes.tick_params(which="minor", labelbottom=False, labelleft=False)
    every = [np.ravel(z) for xy in points.values() for z in xy]
    low = min(float(z.min()) for z in every)
    high = max(float(z.max()) for z in every)
    if diagonal:
      axes.plot([low, high], [low, high], color=INK, lw=0.8, ls=":")
    for place, (name, (x, y)) in enumerate(points.items()):
      colour = COLOURS[place % len(COLOURS)]
      axes.plot(x, y, "o", color=colour, ms=5, alpha=0.75, label=name)
    axes.grid()
    axes.set(xlabel=label[0], ylabel=label[1], title=title)
    if len(points) > 1:
      axes.legend()

  return draw
