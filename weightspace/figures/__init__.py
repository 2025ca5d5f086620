"""Figures: a few kinds of panel, readable in print and on a dark page.

A panel is a function of one set of axes; `figure` puts panels side by side.
Text and frames have one ink, which the run's page replaces by the colour of
its own text.  matplotlib is an extra and is imported when a figure is drawn;
without it `figure` returns None, and the page is its table.

>>> panel = dots({"uniform": [0.97, 0.98, 0.97]}, "accuracy")
>>> callable(panel)
True
"""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weightspace import faces, intervals
from weightspace.figures.landscape_panels import plane, spectrum
from weightspace.figures.panels import COLOURS, INK, Panel, path, scale_sweep

__all__ = [
  "Panel",
  "curves",
  "dots",
  "figure",
  "path",
  "plane",
  "png",
  "scale_sweep",
  "spectrum",
  "svg",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)

STYLE: Any = {
  "axes.edgecolor": INK,
  "axes.labelcolor": INK,
  "axes.linewidth": 0.7,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlecolor": INK,
  "axes.titlelocation": "left",
  "axes.titlesize": 11,
  "axes.titleweight": "bold",
  "font.size": 10,
  "grid.color": "#8a8f98",
  "grid.alpha": 0.25,
  "legend.frameon": False,
  "legend.labelcolor": INK,
  "savefig.dpi": 170,
  "svg.hashsalt": "weightspace",  # equal figures give equal files
  "text.color": INK,
  "xtick.color": INK,
  "ytick.color": INK,
}


def figure(*panels: Panel, width: float = 9.0, height: float = 3.6) -> Any:
  """Draw panels side by side; None where matplotlib is not installed.

  Args:
    *panels: functions of one matplotlib Axes.
    width: of the whole, in inches.
    height: in inches.

  Returns:
    A matplotlib Figure, apart from pyplot's state.

  Raises:
    ValueError: when there is no panel.

  >>> figure(dots({"a": [1.0, 2.0]}, "loss")) is not None
  True

  Layout of ours, no paper.
  """
  if not panels:
    raise ValueError("figure: no panels, expected at least one")
  try:
    import matplotlib
    import matplotlib.figure
  except ImportError:
    return None
  with matplotlib.rc_context(STYLE):
    drawn = matplotlib.figure.Figure((width, height), layout="constrained")
    for axes, panel in zip(np.ravel(drawn.subplots(1, len(panels))), panels):
      panel(axes)
  return drawn


def dots(
  rows: Mapping[str, npt.ArrayLike],
  label: str,
  title: str = "",
  clouds: Mapping[str, npt.ArrayLike] | None = None,
  colours: Mapping[str, str] | None = None,
) -> Panel:
  """Make a panel with one row a method: seeds, their mean, its 95 % interval.

  Args:
    rows: {name: [N] numbers, one a seed}, drawn from the top.
    label: of the horizontal axis.
    title: of the panel.
    clouds: {name: numbers of any shape} drawn faintly on the row of that name,
      such as the members behind a mean member.
    colours: {name: colour}; in turn for those left out.

  Returns:
    A panel for `figure`.

  >>> callable(dots({"best member": [0.95, 0.96]}, "accuracy"))
  True

  Student's interval: `intervals.mean_interval`.
  """

  def draw(axes: Any) -> None:
    for place, (name, values) in enumerate(rows.items()):
      colour = (colours or {}).get(name, COLOURS[place % len(COLOURS)])
      cloud = np.ravel((clouds or {}).get(name, values))
      spread = np.linspace(-0.22, 0.22, len(cloud)) if len(cloud) > 1 else 0.0
      axes.plot(
        cloud, place + 0 * cloud + spread, ".", color=colour, alpha=0.35, ms=5
      )
      found = intervals.mean_interval(values)
      if np.isfinite(found.low):
        ends = [found.low, found.high]
        axes.plot(ends, [place, place], color=colour, lw=2.4)
      axes.plot([found.mean], [place], "o", color=colour, ms=7)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set(xlabel=label, title=title)

  return draw


def curves(
  x: npt.ArrayLike,
  lines: Mapping[str, npt.ArrayLike],
  label: tuple[str, str],
  title: str = "",
  marks: Sequence[tuple[float, str]] = (),
  colours: Mapping[str, str] | None = None,
  dashed: Collection[str] = (),
) -> Panel:
  """Make a panel of curves over seeds: the mean, and its 95 % band.

  Args:
    x: [T].
    lines: {name: [N, T], one row a seed}.
    label: of the horizontal and of the vertical axis.
    title: of the panel.
    marks: (x, text) of places to point out.
    colours: {name: colour}; in turn for those left out.
    dashed: names whose curve is dashed.

  Returns:
    A panel for `figure`.

  >>> callable(curves([0.0, 1.0], {"loss": [[1.0, 2.0]]}, ("t", "loss")))
  True

  Student's interval: `intervals.mean_interval`.
  """

  def draw(axes: Any) -> None:
    for place, (name, values) in enumerate(lines.items()):
      colour = (colours or {}).get(name, COLOURS[place % len(COLOURS)])
      found = list(map(intervals.mean_interval, np.atleast_2d(values).T))
      line = [f.mean for f in found]
      style = "--" if name in dashed else "-"
      axes.plot(x, line, color=colour, lw=2, ls=style, label=name)
      if found[0].size > 1:
        ends = [f.low for f in found], [f.high for f in found]
        axes.fill_between(x, *ends, color=colour, alpha=0.18, lw=0)
    for at, text in marks:
      axes.axvline(at, color=INK, lw=0.7, ls=":")
      axes.annotate(
        text,
        (at, 1.0),
        xycoords=("data", "axes fraction"),
        rotation=90,
        xytext=(-3, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
      )
    axes.grid(axis="y")
    axes.set(xlabel=label[0], ylabel=label[1], title=title)
    if len(lines) > 1:
      axes.legend()

  return draw


def _save(figure: Any, **options: Any) -> bytes:
  import matplotlib

  stream = io.BytesIO()
  with matplotlib.rc_context(STYLE):
    figure.savefig(stream, **options)
  return stream.getvalue()


def png(figure: Any) -> bytes:
  """Return a figure as a PNG file on white.

  >>> png(figure(dots({"a": [1.0, 2.0]}, "loss")))[1:4]
  b'PNG'

  https://www.w3.org/TR/png-3/
  """
  return _save(figure, format="png", facecolor="white")


def svg(figure: Any) -> str:
  """Return a figure as an inline SVG element in the colour of its surroundings.

  >>> svg(figure(dots({"a": [1.0, 2.0]}, "loss")))[:4]
  '<svg'

  https://www.w3.org/TR/SVG2/
  """
  # No date: equal runs then have equal pages.
  data = _save(figure, format="svg", transparent=True, metadata={"Date": None})
  text = data.decode()
  return text[text.index("<svg") :].replace(INK, "currentColor")
