"""The loss on grids of a plane.

A point of a plane is a mix of three trees, the origin and two directions, so a
grid is one call of `evaluate_mixes`: where the first layer is linear in its
parameters, its outputs are computed three times and not once per point.

>>> origin = {"w": jnp.zeros(2)}
>>> u, v = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 2.0])}
>>> def loss(p, x): return ((p["w"] - x) ** 2).sum()
>>> surface(loss, jnp.ones(2), origin, u, v, [0.0, 1.0], [0.0, 0.5, 1.0])
Array([[2., 1., 2.],
       [1., 0., 1.]], dtype=float32)
"""

import logging
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import checkpoints, mixes, trees
from weightspace.jaxpr import closures
from weightspace.losses import objectives
from weightspace.probe.landscape import planes
from weightspace.types import Data, Loss, Params, Stack

LOG = logging.getLogger(__name__)


def surface(
  loss: Loss,
  data: Data,
  origin: Params,
  u: Params,
  v: Params,
  us: Any,
  vs: Any,
  *,
  weights: Any = None,
  mesh: Any = None,
  folder: str | os.PathLike[str] | None = None,
  chunk: int = 1024,
) -> jax.Array:
  """Return the loss at origin + a u + b v for each a in us, b in vs.

  Args:
    loss: `loss(params, data)`, one number or one per example (averaged).
    data: what the loss is given.
    origin: the model at (0, 0); read, never changed.
    u: a direction, a tree like `origin`.
    v: another one.
    us: [U] coordinates along u; neither evenly spaced nor as many as vs.
    vs: [V].
    weights: [N] of the examples, 0 for padding.
    mesh: a mesh whose devices share the points.
    folder: where chunks are kept; the same call takes them up again, and
      processes that share it share the work.  One of another plane, grid, data
      or loss name is refused.
    chunk: points in one program, and in one file.

  Returns:
    [U, V] float32.  A loss that is NaN or infinite stays so, and a warning in
    the log says how many are.

  Raises:
    ValueError: for trees that differ, a direction of zeros, NaN in the trees,
      coordinates that are not [U] and [V], or a loss that is neither a number
      nor [N].

  >>> origin, u, v = ({"w": jnp.array(x)} for x in (0.0, 1.0, 2.0))
  >>> surface(lambda p, x: p["w"], 0.0, origin, u, v, [0, 1], [0, 1, 2]).shape
  (2, 3)

  Li et al. 2018, https://arxiv.org/abs/1712.09913; computing the first layer
  once per direction is ours.
  """
  loss = closures.fixed(loss)
  stack, rows, shape = _check(loss, data, origin, u, v, us, vs)
  if weights is not None:
    count = objectives.examples(loss, origin, data, "surface")
    weights = objectives.check_weights(weights, count, "surface")
  if chunk < 1:
    raise ValueError(f"surface: chunk is {chunk}, expected at least 1")

  def evaluate(part: np.ndarray) -> jax.Array:
    each = weights is not None
    values = mixes.evaluate_mixes(
      stack, part, loss, data, per_example=each, mesh=mesh
    )
    if weights is None:
      return values
    return jnp.where(weights > 0, values, 0.0) @ weights / weights.sum()

  parts = [rows[i : i + chunk] for i in range(0, len(rows), chunk)]
  if folder is None:
    found = [evaluate(part) for part in parts]
  else:
    name = getattr(loss, "__qualname__", type(loss).__name__)
    text = np.frombuffer(name.encode(), np.uint8)
    mark = trees.fingerprint([stack, data, rows, weights, text])
    found = _resumed(folder, mark, parts, evaluate)
  grid = jnp.concatenate(found).reshape(shape)
  bad = int((~jnp.isfinite(grid)).sum()) if trees.concrete(grid) else 0
  if bad:
    LOG.warning("surface: the loss is not finite at %d of %d", bad, grid.size)
  return grid


def _check(
  loss: Loss, data: Data, origin: Params, u: Any, v: Any, us: Any, vs: Any
) -> tuple[Stack, Any, tuple[int, int]]:
  """Return the Stack, coefficient rows [U V, 3], and (U, V)."""
  known = trees.concrete((us, vs))
  xp: Any = np if known else jnp
  places = [xp.asarray(x, float) for x in (us, vs)]
  for name, values in zip(("us", "vs"), places):
    finite = not known or np.isfinite(values).all()
    if values.ndim != 1 or not len(values) or not finite:
      raise ValueError(
        f"surface: {name} has shape {values.shape}, expected finite numbers [G]"
      )
  for name, direction in (("u", u), ("v", v)):
    shapes = [jax.tree.map(np.shape, x) for x in (origin, direction)]
    if shapes[0] != shapes[1]:
      plain, given = (
        jax.tree.map(lambda x: np.zeros(np.shape(x)), tree)
        for tree in (origin, direction)
      )
      trees.check_same(plain, given, f"surface: direction {name}")
    trees.check_finite(direction, f"surface: direction {name}")
    flat = planes.floats(direction) if trees.concrete(direction) else []
    if flat and not any(x.any() for x in flat):
      raise ValueError(
        f"surface: direction {name} is zero, expected a direction"
      )
  objectives.examples(loss, origin, data, "surface")
  grid = xp.stack(xp.meshgrid(*places, indexing="ij"), -1).reshape(-1, 2)
  rows = xp.concatenate([xp.ones((len(grid), 1)), grid], 1)
  return planes.span(origin, u, v), rows, (len(places[0]), len(places[1]))


def _resumed(
  folder: str | os.PathLike[str],
  mark: str,
  parts: Sequence[np.ndarray],
  evaluate: Any,
) -> list[jax.Array]:
  """Return the losses of each part, from files or computed and kept."""
  os.makedirs(folder, exist_ok=True)
  names = [f"{mark}-{i:05d}.safetensors" for i in range(len(parts))]
  other = [n for n in os.listdir(folder) if n.endswith(".safetensors")]
  foreign = sorted(n for n in other if not n.startswith(mark))
  if foreign:
    raise ValueError(
      f"surface: {os.fspath(folder)!r} holds {foreign[0]!r}, of another grid,"
      f" expected {mark}-* or an empty folder"
    )
  # Each process begins elsewhere, and takes what nobody has done yet.
  first = jax.process_index() * len(parts) // jax.process_count()
  for i in [*range(first, len(parts)), *range(first)]:
    path = os.path.join(folder, names[i])
    if not os.path.exists(path):
      losses = np.asarray(evaluate(parts[i]))
      checkpoints.save(path, {"losses": losses}, overwrite=True)
  paths = [os.path.join(folder, name) for name in names]
  return [jnp.asarray(checkpoints.restore(p)["losses"]) for p in paths]
