"""Paths between models, the loss along them, and barriers.

A path is a pytree struct with `path(t) -> Params`.  A line, a polyline or a
Bezier curve is a path whose points are mixes of a few models, so its losses
come from one `evaluate_mixes` call that shares the first layer.

>>> path = line({"w": jnp.array(0.0)}, {"w": jnp.array(2.0)})
>>> path(0.25)["w"].item()
0.5
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import mixes, trees
from weightspace.jaxpr import closures
from weightspace.losses import objectives
from weightspace.paths import barriers
from weightspace.paths.barriers import Barrier, summarise
from weightspace.paths.bezier import Bezier, Polyline
from weightspace.types import Data, Key, Loss, Params, Path, Stack

__all__ = [
  "Barrier",
  "Bezier",
  "Polyline",
  "along",
  "barrier",
  "barrier_on",
  "bezier",
  "line",
  "polyline",
  "summarise",
]


def line(a: Params, b: Params) -> Polyline:
  """Return the path (1-t) a + t b.

  Raises:
    ValueError: naming the first leaf where the models differ in shape or dtype.

  >>> line({"w": 1.0}, {"w": 3.0})(0.5)["w"].item()
  2.0
  """
  return Polyline(trees.stack([a, b]))


def _points(points: Sequence[Params] | Stack, what: str) -> Stack:
  """Return M >= 2 models as a Stack, from a list or from a Stack."""
  if isinstance(points, list | tuple):
    points = trees.stack(points)
  count = trees.size(points)
  if count < 2:
    raise ValueError(f"{what}: {count} point, expected at least 2")
  trees.check_finite(points, what, stacked=True)
  return jax.tree.map(jnp.asarray, points)


def polyline(points: Sequence[Params] | Stack) -> Polyline:
  """Return straight segments through models, model k at t = k / (M - 1).

  Args:
    points: a list of M >= 2 models, or a Stack of them.

  Raises:
    ValueError: for one point, or at the first leaf where models differ.

  >>> path = polyline([{"w": 0.0}, {"w": 4.0}, {"w": 2.0}])
  >>> path(0.5)["w"].item(), path(0.75)["w"].item()
  (4.0, 3.0)
  """
  return Polyline(_points(points, "polyline"))


def bezier(points: Sequence[Params] | Stack) -> Bezier:
  """Return the Bezier curve sum_k C(n, k) t^k (1-t)^(n-k) theta_k.

  Args:
    points: a list of n + 1 >= 2 models, or a Stack of them.

  Raises:
    ValueError: for one point, or at the first leaf where models differ.

  >>> bezier([{"w": 0.0}, {"w": 4.0}, {"w": 0.0}])(0.5)["w"].item()
  2.0

  As a path between networks: Garipov et al. 2018,
  https://arxiv.org/abs/1802.10026.
  """
  return Bezier(_points(points, "bezier"))


def along(
  path: Path,
  ts: Any,
  loss: Loss,
  data: Data,
  *,
  weights: Any = None,
  per_example: bool = False,
  mesh: Any = None,
) -> jax.Array:
  """Return the loss at each point of a path.

  Args:
    path: any `path(t) -> Params`; mixes of models share their first layer.
    ts: [T] places; a line goes on straight outside [0, 1].
    loss: `loss(params, data)`, one number or one per example (averaged).  It is
      given the points of a mix of models in float32 or wider, whatever the
      dtype that the models are kept in.
    data: what the loss is given, in one call.
    weights: [N] of the examples, 0 for padding; the mean is sum w l / sum w.
    per_example: return [T, N].
    mesh: a mesh whose devices share the places of a line, polyline or Bezier.

  Returns:
    [T] float32; NaN where the loss is.

  Raises:
    ValueError: for ts that are not [T], a loss that is neither a number nor
      [N], or weights that do not fit.

  >>> def loss(p, x): return (p["w"] - x) ** 2
  >>> path = line({"w": jnp.array(0.0)}, {"w": jnp.array(2.0)})
  >>> along(path, jnp.array([0.0, 0.5, 1.0]), loss, jnp.array(1.0)).tolist()
  [1.0, 0.0, 1.0]
  """
  ts, loss = jnp.asarray(ts, float), closures.fixed(loss)
  if ts.ndim != 1:
    raise ValueError(f"along: ts has shape {ts.shape}, expected [T]")
  of_mixes = isinstance(path, Polyline | Bezier)
  if of_mixes:
    path = trees.widened(path)
  if not of_mixes and jax.tree.leaves(path) == [path]:
    # A plain function is no argument of jit.
    path = jax.tree_util.Partial(closures.fixed(path))
  point = jax.eval_shape(path, ts[0])
  count = objectives.examples(loss, point, data, "along")
  if weights is not None:
    weights = objectives.check_weights(weights, count, "along")
  if per_example and count is None:
    raise ValueError("along: per_example needs a loss that returns [N]")
  each = per_example or weights is not None
  if of_mixes:
    rows = jax.vmap(path.weights)(ts)  # type: ignore[attr-defined]
    values = mixes.evaluate_mixes(
      path.points,  # type: ignore[attr-defined]
      rows,
      loss,
      data,
      per_example=each,
      mesh=mesh,
    )
  else:
    values = _along(path, ts, data, loss, each)
  if per_example or weights is None:
    return values
  return jnp.where(weights > 0, values, 0.0) @ weights / weights.sum()


@functools.partial(jax.jit, static_argnames=("loss", "each"))
def _along(
  path: Path, ts: jax.Array, data: Data, loss: Loss, each: bool
) -> jax.Array:
  def at(t: jax.Array) -> jax.Array:
    values = jnp.asarray(loss(path(t), data))
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return wide if each else wide.mean()

  return jax.lax.map(at, ts)


def barrier(
  loss: Loss,
  data: Data,
  a: Params,
  b: Params,
  points: int = 25,
  **settings: Any,
) -> Barrier:
  """Return the loss barrier on the line from `a` to `b`.

  The maximum over a grid underestimates the supremum (`refine` goes on from
  it); pass error instead of loss for the instability of Frankle et al., which
  is piecewise constant and gains nothing from refinement.

  Args:
    loss: `loss(params, data)`, one number or one per example.
    data: the data set.
    a: the model at t = 0.
    b: the model at t = 1.
    points: T >= 2 places, both ends included.
    **settings: of `barrier_on`: key, draws, level, refine, weights.

  Returns:
    A Barrier: `.chord`, `.mean`, `.half`, `.connectivity`, `.at`, `.losses`,
    `.violation`, and `.intervals` where a key is given.

  Raises:
    ValueError: for fewer than two points, or models that differ in structure.

  >>> def loss(p, x): return (p["w"] ** 2 - x) ** 2
  >>> a, b = {"w": jnp.array(-1.0)}, {"w": jnp.array(1.0)}
  >>> barrier(loss, jnp.array(1.0), a, b).chord
  1.0

  Entezari et al. 2022, https://arxiv.org/abs/2110.06296 (chord); Frankle et al.
  2020, https://arxiv.org/abs/1912.05671, and Ainsworth et al. 2023, Def. 2.2,
  https://arxiv.org/abs/2209.04836 (mean); Yang et al. 2021,
  https://arxiv.org/abs/2107.11228 (connectivity); Lucas et al. 2021,
  https://arxiv.org/abs/2104.11044 (violation).  25 points: the Git Re-Basin
  scripts.
  """
  objectives.check_loss(loss, "barrier(loss, data, a, b)")
  if not isinstance(points, int) or points < 2:
    raise ValueError(f"barrier: points is {points}, expected at least 2")
  for name, model in (("data", data), ("a", a), ("b", b)):
    if callable(model) and not jax.tree_util.treedef_children(
      jax.tree.structure(model)
    ):
      raise ValueError(
        f"barrier: {name} is a function, expected barrier(loss, data, a, b)"
      )
  return barrier_on(line(a, b), loss, data, points, **settings)


def barrier_on(
  path: Path,
  loss: Loss,
  data: Data,
  points: int = 25,
  *,
  refine: int = 0,
  weights: Any = None,
  key: Key | None = None,
  draws: int = 1000,
  level: float = 0.95,
) -> Barrier:
  """Return the barrier on any path, between its ends t = 0 and t = 1.

  Args:
    path: `path(t) -> Params`, such as a trained curve or a polyline.
    loss: as in `barrier`.
    data: the data set.
    points: T >= 2 places, both ends included.
    refine: golden-section steps around the place with the largest chord; the
      places join `ts`, each narrows the bracket by 0.62.
    weights: [N] of the examples, 0 for padding.
    key: of bootstrap intervals over examples; the loss must return [N].
    draws: resamples.
    level: coverage of the intervals.

  Raises:
    ValueError: for fewer than two points, or an interval of a loss that is one
      number.

  >>> path = line({"w": jnp.array(-1.0)}, {"w": jnp.array(2.0)})
  >>> def loss(p, x): return x - p["w"] ** 2
  >>> barrier_on(path, loss, jnp.zeros(()), 4, refine=20).at  # at w = 0.5
  0.5...
  """
  if points < 2:
    raise ValueError(f"barrier: points is {points}, expected at least 2")
  each = key is not None or weights is not None
  scale = np.ones(())
  if weights is not None:
    count = objectives.examples(loss, path(0.0), data, "barrier")
    share = np.asarray(objectives.check_weights(weights, count, "barrier"))
    scale = np.asarray(share * len(share) / share.sum(), float)

  def measure(ts: np.ndarray) -> np.ndarray:
    found = along(path, ts, loss, data, per_example=each)
    return np.where(scale > 0, np.asarray(found, float), 0.0) * scale

  places = np.linspace(0.0, 1.0, points)
  ts, values = barriers.refine(measure, places, measure(places), refine)
  found = summarise(ts, values.mean(1) if each else values)
  if key is None:
    return found
  kept = scale > 0 if scale.ndim else slice(None)
  rest = values[:, kept] * np.mean(scale > 0)
  own = barriers.intervals(ts, rest, key, draws, level)
  return found._replace(intervals=own)
