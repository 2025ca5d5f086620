"""Densities of weighted nodes, smoothed to be drawn.

>>> smooth([0.0], [1.0], [0.0], width=1.0).round(4).tolist()
[0.3989]
"""

import numpy as np
import numpy.typing as npt


def smooth(
  nodes: npt.ArrayLike,
  weights: npt.ArrayLike,
  grid: npt.ArrayLike,
  width: float | None = None,
) -> np.ndarray:
  """Return the density at grid points, each node a Gaussian: for figures.

  Args:
    nodes: [...] as `density` returns them.
    weights: [...] of the same shape.
    grid: [G] eigenvalues.
    width: standard deviation; by default the range of the nodes over the number
      of steps, below which Lanczos does not resolve, or a hundredth of the
      largest where they are all alike; and no less than the grid's own spacing,
      below which peaks would fall between its points.

  Returns:
    [G]; its integral is the sum of the weights.

  Raises:
    ValueError: for a width that is not above 0, or no nodes.

  >>> smooth([0.0], [1.0], [0.0], width=1.0).round(4).tolist()
  [0.3989]
  """
  nodes, weights = np.asarray(nodes, float), np.asarray(weights, float)
  if nodes.shape != weights.shape or not nodes.size:
    raise ValueError(
      f"smooth: nodes {nodes.shape} and weights {weights.shape}, expected as"
      " many, at least one"
    )
  if width is None:
    width = _width(nodes, np.asarray(grid, float))
  if not width > 0:
    raise ValueError(f"smooth: width is {width}, expected above 0")
  away = (np.asarray(grid, float)[:, None] - nodes.ravel()[None]) / width
  bell = np.exp(-0.5 * away**2) / (width * np.sqrt(2 * np.pi))
  return bell @ weights.ravel()


def _width(nodes: np.ndarray, grid: np.ndarray) -> float:
  size = float(np.abs(nodes).max(initial=0.0)) or 1.0
  span, steps = float(np.ptp(nodes)), nodes.shape[-1] if nodes.ndim else 1
  width = span / steps if span > 1e-5 * size else 0.01 * size
  gaps = np.diff(np.sort(grid.ravel()))
  return max(width, float(gaps.max(initial=0.0)))
