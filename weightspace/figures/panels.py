"""Panels of one's own results: losses along paths, scores over a scale.

Each is a function of a result as a probe returns it, and gives a panel for
`figures.figure`.  Lines differ in colour, dashes and markers, so that they can
be told apart in grey.

>>> callable(path({"line": [1.0, 2.0, 1.0]}))
True
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from weightspace import intervals

Panel = Callable[[Any], None]  # draws on matplotlib Axes

INK = "#1a1b1e"  # every text and frame; `svg` makes it the page's own colour
COLOURS = ("#3b7dc4", "#d9722e", "#2f9e79", "#9467bd", "#c2488f", "#8a8f98")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")


def path(
  results: Any,
  *,
  label: tuple[str, str] = ("t", "loss"),
  title: str = "",
  ts: npt.ArrayLike | None = None,
) -> Panel:
  """Make a panel of losses along paths, with their intervals.

  Args:
    results: {name: result}, or one result: a `Barrier`, `Summary` or `Profile`,
      whose places it has; or losses [T], or [N, T] of N seeds or pairs, which
      get Student's 95 % band.
    label: of the horizontal and of the vertical axis.
    title: of the panel.
    ts: [T] places of losses that are arrays; evenly on [0, 1] by default.

  Returns:
    A panel for `figure`.  An interval of a barrier's chord stands in its name.

  Raises:
    ValueError: for no result.

  >>> callable(path({"line": [1.0, 2.0, 1.0]}))
  True
  """
  named = results if isinstance(results, Mapping) else {"": results}
  if not named:
    raise ValueError("path: no results, expected at least one")
  lines = {name: _along(one, ts) for name, one in named.items()}

  def draw(axes: Any) -> None:
    for place, (name, (x, rows, note)) in enumerate(lines.items()):
      line(axes, place, x, rows, f"{name} {note}".strip())
    finish(
      axes, label, title, len(lines) > 1 or any(x[2] for x in lines.values())
    )

  return draw


def _along(one: Any, ts: Any) -> tuple[np.ndarray, np.ndarray, str]:
  """Return places [T], losses [N, T] and a note of one result."""
  found = getattr(one, "losses", None)
  losses = np.atleast_2d(np.asarray(one if found is None else found, float))
  x = getattr(one, "ts", ts)
  count = losses.shape[-1]
  x = np.linspace(0.0, 1.0, count) if x is None else np.asarray(x, float)
  if x.shape != (count,):
    raise ValueError(f"path: {count} losses at {x.shape} places, expected [T]")
  chord = (getattr(one, "intervals", None) or {}).get("chord")
  if chord is None:
    return x, losses, ""
  return x, losses, f"(barrier {chord.low:.3g} to {chord.high:.3g})"


def scale_sweep(
  scales: npt.ArrayLike,
  results: Mapping[str, npt.ArrayLike],
  *,
  label: tuple[str, str] = ("scale", "accuracy"),
  title: str = "",
  best: bool = True,
) -> Panel:
  """Make a panel of scores over a scale, the best of each marked.

  Args:
    scales: [S], such as the factors of a task vector.
    results: {name: [S], or [N, S] of N seeds or tasks}.
    label: of the horizontal and of the vertical axis.
    title: of the panel.
    best: mark where each mean is largest.

  Returns:
    A panel for `figure`.

  Raises:
    ValueError: for scores that are not one for each scale.

  >>> callable(scale_sweep([0.0, 1.0], {"sum": [0.5, 0.9]}))
  True
  """
  x = np.asarray(scales, float)
  rows = {name: np.atleast_2d(np.asarray(y)) for name, y in results.items()}
  for name, y in rows.items():
    if y.ndim != 2 or y.shape[1:] != x.shape:
      raise ValueError(
        f"scale_sweep: {name!r} is {np.shape(results[name])} at {x.shape}"
        " scales, expected [S] or [N, S]"
      )

  def draw(axes: Any) -> None:
    for place, (name, y) in enumerate(rows.items()):
      line(axes, place, x, y, name)
      if best:
        at = int(np.argmax(y.mean(0)))
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(x[at], y.mean(0)[at], "*", color=colour, ms=14, mec=INK)
    finish(axes, label, title, len(rows) > 1)

  return draw


def line(
  axes: Any,
  place: int,
  x: np.ndarray,
  rows: np.ndarray,
  name: str,
  marker: str | None = None,
) -> None:
  """Draw the mean of rows [N, T], and its band where there are several.

  >>> drawn = []
  >>> class Axes: plot = lambda self, x, y, **style: drawn.append(y)
  >>> line(Axes(), 0, np.arange(2.0), np.ones((1, 2)), "a")
  >>> drawn
  [[1.0, 1.0]]
  """
  colour = COLOURS[place % len(COLOURS)]
  found = [intervals.mean_interval(column) for column in rows.T]
  own = MARKERS[place % len(MARKERS)] if marker is None else marker
  axes.plot(
    x, [f.mean for f in found], color=colour, lw=1.8, label=name, ms=4,
    ls=DASHES[place % len(DASHES)], marker=own or None,
    markevery=max(1, len(x) // 12),
  )  # fmt: skip
  if len(rows) > 1:
    ends = [f.low for f in found], [f.high for f in found]
    axes.fill_between(x, *ends, color=colour, alpha=0.18, lw=0)


def finish(axes: Any, label: tuple[str, str], title: str, legend: bool) -> None:
  """Label axes, with a grid and perhaps a legend; see `line`."""
  axes.grid(axis="y")
  axes.set(xlabel=label[0], ylabel=label[1], title=title)
  if legend:
    axes.legend()
