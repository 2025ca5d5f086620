"""What a curve is judged by: its losses over t and over its length.

>>> path = paths.line({"w": jnp.array(0.0)}, {"w": jnp.array(1.0)})
>>> found = summary(path, lambda p, x: p["w"] - x, jnp.array(0.0), points=3)
>>> found.largest, found.mean, found.by_length, found.length
(1.0, 0.5, 0.5, 1.0)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import paths, trees
from weightspace.probe.landscape import trajectories
from weightspace.types import Data, Loss, Path


class Summary(NamedTuple):
  """Losses on a path, summed up as papers do."""

  ts: np.ndarray  # [T]
  losses: np.ndarray  # [T]
  smallest: float
  largest: float
  mean: float  # over t: what training minimises
  by_length: float  # over arc length: trapezoids
  length: float  # of the path through these points


def summary(path: Path, loss: Loss, data: Data, points: int = 61) -> Summary:
  """Return the losses on a path and their means over t and over length.

  Args:
    path: any path.
    loss: `loss(params, data)`, one number or one per example.
    data: the data set.
    points: T >= 2 places, evenly in t, both ends included.

  Raises:
    ValueError: for fewer than two points.

  >>> path = paths.bezier([{"w": jnp.array(x)} for x in (0.0, 2.0, 0.0)])
  >>> round(summary(path, lambda p, x: p["w"], 0.0, points=41).length, 3)
  2.0

  Garipov et al. 2018, https://arxiv.org/abs/1802.10026; 61 points and the
  integral over length are those of their code.
  """
  if points < 2:
    raise ValueError(f"summary: points is {points}, expected at least 2")
  ts = np.linspace(0.0, 1.0, points)
  losses = np.asarray(paths.along(path, ts, loss, data), float)
  steps = _steps(path, ts)
  total = float(steps.sum())
  middle = (losses[1:] + losses[:-1]) / 2
  by_length = float(middle @ steps / total) if total else float(middle.mean())
  ends = float(np.min(losses)), float(np.max(losses))
  return Summary(ts, losses, *ends, float(losses.mean()), by_length, total)


def _steps(path: Path, ts: np.ndarray) -> np.ndarray:
  """Return the distances [T - 1] between neighbouring points."""
  if isinstance(path, paths.Polyline | paths.Bezier):
    # Of mixes: through the Gram matrix of the few models they are made of.
    first = jax.tree.map(lambda x: x[0], path.points)
    inner = trajectories.gram(path.points, first)
    weights = np.asarray(jax.vmap(path.weights)(jnp.asarray(ts)), float)
    moves = np.diff(weights, axis=0)
    squares = np.einsum("ti,ij,tj->t", moves, inner, moves)
    return np.sqrt(np.maximum(squares, 0.0))
  found, before = [], trees.widened(path(ts[0]))
  for t in ts[1:]:
    after = trees.widened(path(t))
    squares = 0.0
    for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(before)):
      if trees.inexact(x):
        squares += float((np.abs(np.asarray(x - y, float)) ** 2).sum())
    found.append(np.sqrt(squares))
    before = after
  return np.array(found)
