"""Planes in weight space: through three models, with coordinates for others.

A plane is an origin and two directions.  A model that does not lie in it is
projected, and its distance to the plane is told: what a contour shows at its
place is the loss of the projection.

>>> corners = [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]
>>> plane = Plane(*({"w": jnp.array(x)} for x in corners))
>>> plane(1.0, 2.0)["w"].tolist()
[3.0, 2.0]
>>> plane.coordinates({"w": jnp.array([3.0, 2.0])})
Coordinates(u=1.0, v=2.0, residual=0.0)
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.types import Params, Stack


class Coordinates(NamedTuple):
  """Where a model lies relative to a plane."""

  u: float
  v: float
  residual: float  # its distance to the plane


@flax.struct.dataclass
class Plane:
  """The points origin + a u + b v; u and v need not be orthonormal."""

  origin: Params
  u: Params
  v: Params

  def __repr__(self) -> str:
    size = sum(int(np.size(x)) for x in jax.tree.leaves(self.origin))
    return f"Plane(of models of {size} parameters)"

  def __call__(self, a: jax.Array | float, b: jax.Array | float) -> Params:
    rows = jnp.stack([jnp.asarray(x, float) for x in (1.0, a, b)])
    return means.weighted_sum(span(self.origin, self.u, self.v), rows)

  def coordinates(self, params: Params) -> Coordinates:
    """Return (u, v, off-plane residual) of a model: least squares.

    Raises:
      ValueError: at the first leaf that differs from the plane's.
    """
    trees.check_same(
      trees.widened(self.origin), trees.widened(params), "coordinates"
    )
    delta, u, v = (
      floats(jax.tree.map(_difference, params, self.origin)),
      floats(self.u),
      floats(self.v),
    )
    gram = np.array([[_dot(u, u), _dot(u, v)], [_dot(u, v), _dot(v, v)]])
    a, b = np.linalg.solve(gram, [_dot(delta, u), _dot(delta, v)])
    rest = [d - a * x - b * y for d, x, y in zip(delta, u, v)]
    return Coordinates(float(a), float(b), float(np.sqrt(_dot(rest, rest))))


def _difference(a: Any, b: Any) -> np.ndarray:
  if not trees.inexact(a):
    return np.zeros(np.shape(a))
  wide = trees.accumulator(jnp.result_type(a))
  return np.asarray(a).astype(wide) - np.asarray(b).astype(wide)


def floats(tree: Params) -> list[np.ndarray]:
  """Return the leaves as flat float32 (or wider) arrays on the host."""
  leaves = map(np.asarray, jax.tree.leaves(tree))
  return [np.ravel(_difference(x, np.zeros((), x.dtype))) for x in leaves]


def _dot(a: list[np.ndarray], b: list[np.ndarray]) -> float:
  # float64 on the host: coordinates of near points are small differences.
  return sum(float(np.vdot(x, y.astype(float)).real) for x, y in zip(a, b))


def span(origin: Params, u: Params, v: Params) -> Stack:
  """Return (origin, u, v) as a Stack in float32, or the widest of theirs."""

  def join(x: Any, y: Any, z: Any) -> jax.Array:
    if not trees.inexact(x):
      return jnp.stack([jnp.asarray(x)] * 3)
    return jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, (x, y, z))))

  return jax.tree.map(join, *trees.widened((origin, u, v)))


def triangle(a: Params, b: Params, c: Params) -> Plane:
  """Return the plane through three models: origin a, u and v orthonormal.

  u = (b - a) / |b - a|; v is c - a less its part along u, of length 1.  So a
  lies at (0, 0), b at (|b - a|, 0), and coordinates are distances.

  Raises:
    ValueError: at the first leaf where models differ in shape, or when they lie
      on one line.

  >>> models = [{"w": jnp.array(x)} for x in ([0.0, 0], [3.0, 0], [1.0, 2])]
  >>> triangle(*models).coordinates(models[2])
  Coordinates(u=1.0, v=2.0, residual=0.0)

  Garipov et al. 2018, https://arxiv.org/abs/1802.10026.
  """
  trees.check_same(a, b, "triangle: model 1")
  trees.check_same(a, c, "triangle: model 2")
  trees.check_finite([a, b, c], "triangle")
  first = floats(jax.tree.map(_difference, b, a))
  second = floats(jax.tree.map(_difference, c, a))
  u = _unit(first, first, "triangle: the first two models are equal")
  along = _dot(second, u)
  rest = [s - along * x for s, x in zip(second, u)]
  v = _unit(rest, second, "triangle: the three models lie on one line")
  # Once more: what rounding left of u in v.
  along = _dot(v, u)
  v = _unit([x - along * y for x, y in zip(v, u)], v, "triangle")
  return Plane(a, _like(u, a), _like(v, a))


def _unit(
  x: list[np.ndarray], whole: list[np.ndarray], what: str
) -> list[np.ndarray]:
  norm, scale = np.sqrt(_dot(x, x)), np.sqrt(_dot(whole, whole))
  if not norm > 1e-6 * scale:
    raise ValueError(f"{what}, expected three that span a plane")
  return [leaf / norm for leaf in x]


def _like(leaves: list[np.ndarray], tree: Params) -> Params:
  """Return flat leaves as a tree of directions, float32 or wider."""

  def shape(x: np.ndarray, leaf: Any) -> jax.Array:
    dtype = jnp.result_type(leaf)
    wide = trees.accumulator(dtype) if trees.inexact(leaf) else jnp.float32
    return jnp.asarray(x.reshape(np.shape(leaf)), wide)

  flat, structure = jax.tree.flatten(tree)
  return jax.tree.unflatten(structure, map(shape, leaves, flat))
