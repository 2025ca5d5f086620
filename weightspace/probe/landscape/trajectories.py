"""Trajectories: the plane that training moved in, by PCA of its checkpoints.

The principal directions of T checkpoints are combinations of them, so the T x T
Gram matrix is all that is decomposed: nothing of size P x P is ever formed.

>>> steps = [{"w": jnp.array([t, 0.5 * t**2, 0.0])} for t in (0.0, 1.0, 2.0)]
>>> found = trajectory(steps)
>>> found.explained.sum().round(4).item(), found.residuals.max().round(4).item()
(1.0, 0.0)
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.probe.landscape.planes import Plane
from weightspace.types import Params, Stack


class Trajectory(NamedTuple):
  """The plane of a trajectory and where its checkpoints lie."""

  plane: Plane  # origin: the last checkpoint; u, v orthonormal
  coordinates: np.ndarray  # [T, 2]
  residuals: np.ndarray  # [T], distances to the plane
  explained: np.ndarray  # [2], shares of the variance


def gram(stack: Stack, origin: Params) -> np.ndarray:
  """Return the inner products [T, T] of theta_t - origin, in float64 at last.

  >>> gram({"w": jnp.array([[1.0, 2.0], [0.0, 0.0]])}, {"w": jnp.zeros(2)})
  array([[5., 0.],
         [0., 0.]])
  """
  total = np.zeros((trees.size(stack),) * 2)
  for x, o in zip(jax.tree.leaves(stack), jax.tree.leaves(origin)):
    if trees.inexact(x):
      wide = trees.accumulator(x.dtype)
      rows = (x.astype(wide) - jnp.asarray(o, wide)[None]).reshape(len(x), -1)
      total += np.asarray(_inner(rows), float)
  return total


@jax.jit
def _inner(rows: jax.Array) -> jax.Array:
  highest = jax.lax.Precision.HIGHEST
  return jnp.real(jnp.matmul(rows, rows.conj().T, precision=highest))


def trajectory(
  points: Sequence[Params] | Stack, centre: bool = True
) -> Trajectory:
  """Return the plane of the two largest principal directions.

  With D the rows theta_t - theta_T, centred on their mean or not, and D D' =
  sum_k s_k^2 e_k e_k', the directions are u_k = D' e_k / s_k.

  Args:
    points: a list of T >= 3 checkpoints, or a Stack, the last one the origin.
    centre: subtract the mean of the rows first, as PCA does; without it the
      plane holds the directions from the last checkpoint best.

  Returns:
    Trajectory.  Signs are such that the first checkpoint has coordinates >= 0.
    A contour's loss is that of the point in the plane, not of the checkpoint
    above it: `residuals` say how far apart they are.

  Raises:
    ValueError: for fewer than three checkpoints, or ones on a line.

  >>> rows = jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
  >>> found = trajectory({"w": rows}, centre=False)
  >>> [round(x, 4) for x in found.plane.coordinates({"w": rows[0]})[:2]]
  [1.9465, 0.4595]

  Li et al. 2018, section 7, https://arxiv.org/abs/1712.09913 (centred, as
  their code); the Gram matrix is ours.
  """
  stack = trees.stack(points) if isinstance(points, list | tuple) else points
  count = trees.size(stack)
  if count < 3:
    raise ValueError(f"trajectory: {count} checkpoints, expected at least 3")
  origin = jax.tree.map(lambda x: x[-1], stack)
  inner = gram(stack, origin)
  middle = np.eye(count) - centre / count
  values, vectors = np.linalg.eigh(middle @ inner @ middle)
  values, vectors = values[::-1], vectors[:, ::-1]
  if not values[1] > 1e-6 * values[0]:
    raise ValueError(
      "trajectory: the checkpoints lie on a line, expected ones that span a"
      " plane"
    )
  # Rows of coefficients of (theta_t - origin): they are centred by `middle`.
  rows = (middle @ vectors[:, :2] / np.sqrt(values[:2])).T
  places = inner @ rows.T
  signs = np.where(places[0] < 0, -1.0, 1.0)
  rows, places = rows * signs[:, None], places * signs
  rests = np.diag(inner) - (places**2).sum(1)
  rest = np.sqrt(np.maximum(rests, 0.0))
  plane = Plane(origin, *(_mix(stack, origin, row) for row in rows))
  return Trajectory(plane, places, rest, values[:2] / values.clip(0).sum())


def _mix(stack: Stack, origin: Params, row: np.ndarray) -> Params:
  """Return sum_t row_t (theta_t - origin), float32 or wider."""

  def leaf(x: jax.Array, o: jax.Array) -> jax.Array:
    if not trees.inexact(x):
      return jnp.zeros(jnp.shape(o), jnp.float32)
    wide = trees.accumulator(x.dtype)
    weights = jnp.asarray(row, jnp.finfo(wide).dtype)
    return means.contract(x.astype(wide) - jnp.asarray(o, wide)[None], weights)

  return jax.tree.map(leaf, stack, origin)
