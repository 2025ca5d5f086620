"""Panels of landscapes: contours over a plane, densities of a spectrum.

>>> panel = spectrum({"start": ([[0.0, 1.0]], [[0.5, 0.5]])})
>>> callable(panel)
True
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from weightspace.figures import panels
from weightspace.figures.panels import INK, MARKERS, Panel
from weightspace.numerics import densities as densities_of

LEVELS = 14


def plane(
  losses: npt.ArrayLike,
  us: npt.ArrayLike,
  vs: npt.ArrayLike,
  *,
  models: Mapping[str, Sequence[float]] | None = None,
  curve: npt.ArrayLike | None = None,
  label: str = "loss",
  title: str = "",
  log: bool = False,
) -> Panel:
  """Make a panel of contours over a plane, with models and a curve in it.

  Args:
    losses: [U, V], as `probe.surface` gives them; what is not finite is blank.
    us: [U] coordinates along the first direction.
    vs: [V].
    models: {name: (u, v)}, such as `probe.Plane.coordinates` gives.
    curve: [T, 2] coordinates of a path or a trajectory.
    label: of the colours.
    title: of the panel.
    log: space the contours evenly in the logarithm.

  Returns:
    A panel for `figure`.

  Raises:
    ValueError: for losses that are not [U, V], or none that is finite.

  >>> callable(plane(np.eye(3), [0, 1, 2], [0, 1, 2], models={"a": (0, 1)}))
  True

  As Li et al. 2018, https://arxiv.org/abs/1712.09913, and Garipov et al. 2018,
  https://arxiv.org/abs/1802.10026, draw them.
  """
  z, u, v = (np.asarray(x, float) for x in (losses, us, vs))
  if z.shape != (*u.shape, *v.shape) or z.ndim != 2 or min(z.shape) < 2:
    raise ValueError(
      f"plane: losses {z.shape} at {u.shape} by {v.shape}, expected [U, V], at"
      " least 2 by 2"
    )
  shown = np.where(np.isfinite(z) & ((z > 0) | (not log)), z, np.nan)
  if np.isnan(shown).all():
    raise ValueError("plane: no loss is finite, expected some")

  def draw(axes: Any) -> None:
    low, high = np.nanmin(shown), np.nanmax(shown)
    high = high if high > low else low + 1.0
    spaced = np.geomspace if log else np.linspace
    levels = spaced(low, high, LEVELS)
    whole = np.ma.masked_invalid(shown.T)
    scale: Any = {"norm": "log"} if log else {}
    drawn = axes.contourf(u, v, whole, levels, cmap="cividis", **scale)
    axes.contour(u, v, whole, levels, colors=INK, linewidths=0.3, alpha=0.5)
    axes.figure.colorbar(drawn, ax=axes, label=label)
    if curve is not None:
      x, y = np.asarray(curve, float)[:, :2].T
      axes.plot(x, y, color="white", lw=2.2)
      axes.plot(x, y, color=INK, lw=1.0, ls="--")
    for place, (name, at) in enumerate((models or {}).items()):
      marker = MARKERS[place % len(MARKERS)]
      axes.plot(*at[:2], marker, color="white", mec=INK, ms=8)
      axes.annotate(
        name, at[:2], xytext=(6, 6), textcoords="offset points", fontsize=9,
        bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1},
      )  # fmt: skip
    axes.set(xlabel="u", ylabel="v", title=title)

  return draw


def spectrum(
  densities: Mapping[str, Any],
  *,
  grid: npt.ArrayLike | None = None,
  width: float | None = None,
  label: tuple[str, str] = ("eigenvalue", "density"),
  title: str = "",
) -> Panel:
  """Make a panel of spectral densities, on a logarithmic scale.

  Args:
    densities: {name: (nodes, weights)}, as `probe.density` gives them.
    grid: [G] eigenvalues; by default 400 over all nodes.
    width: of the bells that are drawn; see `probe.smooth`.
    label: of the horizontal and of the vertical axis.
    title: of the panel.

  Returns:
    A panel for `figure`.

  Raises:
    ValueError: for no density.

  >>> callable(spectrum({"a": ([0.0, 2.0], [0.9, 0.1])}))
  True

  As Ghorbani et al. 2019, https://arxiv.org/abs/1901.10159, draw them.
  """
  if not densities:
    raise ValueError("spectrum: no densities, expected at least one")
  every = np.concatenate([np.ravel(nodes) for nodes, _ in densities.values()])
  low, high = float(every.min()), float(every.max())
  edge = 0.05 * (high - low) or 0.1 * max(abs(high), 1.0)
  x = np.linspace(low - edge, high + edge, 400) if grid is None else grid
  lines = {
    name: densities_of.smooth(nodes, weights, x, width)
    for name, (nodes, weights) in densities.items()
  }

  def draw(axes: Any) -> None:
    top = max(float(y.max()) for y in lines.values())
    for place, (name, y) in enumerate(lines.items()):
      panels.line(axes, place, np.asarray(x, float), y[None], name, "")
    axes.set_yscale("log")
    axes.set_ylim(top * 1e-6, top * 3)
    panels.finish(axes, label, title, len(lines) > 1)

  return draw
