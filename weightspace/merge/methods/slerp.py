"""Two models on the sphere: interpolation along a great circle.

A leaf (or each of its rows) is a vector with a length and a direction, and the
direction turns at an even rate.  In task-vector space the same recipes are
`on_deltas(recipe)`; more than two models are in `directions`.

>>> models = {"w": jnp.array([[1.0, 0.0], [0.0, 1.0]])}
>>> slerp(0.5)(models)["w"].round(3).tolist()
[0.7070000171661377, 0.7070000171661377]
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks, matrix_view
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Step

SCOPES = ("tensor", "row", "column")
NEARLY_PARALLEL = 0.9995  # |cosine| above which slerp(t) is a straight line
FLAT = 1e-6  # sine below which a great circle is a straight line in float32


def slerp(t: float | jax.Array) -> Recipe:
  """Return the spherical interpolation of two models, leaf by leaf.

  sin((1 - t) O) / sin O a + sin(t O) / sin O b with O the angle between a and
  b, taken as they are (not normalised), so the norm is interpolated only where
  |a| = |b|.  Where |cos O| > 0.9995, (1 - t) a + t b.

  Args:
    t: 0 gives the first model, 1 the second; outside [0, 1] it goes on along
      the same great circle.

  Raises:
    ValueError: for t that is not a number, or (when called) unless M = 2.

  >>> models = {"w": jnp.array([[2.0, 0.0], [0.0, 2.0]])}
  >>> jnp.linalg.norm(slerp(0.3)(models)["w"]).round(4).item()
  2.0

  Shoemake 1985, "Animating rotation with quaternion curves",
  https://doi.org/10.1145/325165.325242; the threshold is that of merging tools.
  """
  checks.number("slerp: t", t)

  def edit(x: jax.Array, at: At) -> jax.Array:
    checks.count("slerp", x, exactly=2)
    return _slerp(x[0], x[1], t, None, 1.0 - NEARLY_PARALLEL)

  return chain(Step("slerp", edit, reduces=True))


def nuslerp(
  weights: Sequence[float] | jax.Array = (1.0, 1.0),
  scope: str = "tensor",
  rows: str = "last",
  view: matrix_view.View = matrix_view.kernels,
) -> Recipe:
  """Return the spherical interpolation of two models by their weights.

  As `slerp` with t = w_2 / (w_1 + w_2), on the great circle however close the
  two are.  `on_deltas(nuslerp(...))` interpolates task vectors.

  Args:
    weights: [2]; a sum within 1e-6 of zero gives t = 0.5.
    scope: what a vector is: the whole "tensor", each "row" (the last axis) or
      each "column" (the first axis).
    rows: with scope="row", the "last" axis as given or one "output" unit.
    view: what an output unit is, for rows="output".

  Raises:
    ValueError: for weights that are not [2], an unknown scope, or (when called)
      unless M = 2.

  >>> models = {"w": jnp.array([[1.0, 0.0], [0.0, 1.0]])}
  >>> nuslerp([3.0, 0.0])(models)["w"].tolist()
  [1.0, 0.0]

  Shoemake 1985, https://doi.org/10.1145/325165.325242; weights and scopes as in
  mergekit's documentation, https://github.com/arcee-ai/mergekit.
  """
  checks.option("nuslerp: scope", scope, SCOPES)
  matrix_view.check_rows("nuslerp", rows, scope)
  weights = jnp.asarray(weights, jnp.float32)
  if weights.shape != (2,):
    raise ValueError(f"nuslerp: weights have shape {weights.shape}, expected 2")
  trees.check_finite(weights, "nuslerp: weights")
  total = weights[0] + weights[1]
  small = jnp.abs(total) < 1e-6
  t = jnp.where(small, 0.5, weights[1] / jnp.where(small, 1.0, total))
  axis = {"tensor": None, "row": -1, "column": 0}[scope]

  def edit(x: jax.Array, at: At) -> jax.Array:
    checks.count("nuslerp", x, exactly=2)
    return _slerp(x[0], x[1], t, axis if x.ndim > 1 else None, 0.0)

  step = Step("nuslerp", edit, reduces=True)
  return chain(matrix_view.by_rows(rows, step, view))


def _slerp(
  a: jax.Array,
  b: jax.Array,
  t: float | jax.Array,
  axis: int | None,
  flat: float,
) -> jax.Array:
  """Slerp vectors along `axis`; straight where |cos| > 1 - flat."""
  u, v = (x / _not_zero(_norm(x, axis)) for x in (a, b))
  # Of unit vectors, this is exact where arccos of a float32 cosine is not.
  angle = 2 * jnp.arctan2(_norm(u - v, axis), _norm(u + v, axis))
  sine = jnp.sin(angle)
  straight = (jnp.abs(jnp.cos(angle)) > 1.0 - flat) | (sine < FLAT)
  sine = jnp.where(straight, 1.0, sine)
  first = jnp.where(straight, 1.0 - t, jnp.sin((1.0 - t) * angle) / sine)
  second = jnp.where(straight, t, jnp.sin(t * angle) / sine)
  return first * a + second * b


def _norm(x: jax.Array, axis: int | None) -> jax.Array:
  """Return lengths of the vectors along `axis`, which stays as 1."""
  square = jnp.sum(jnp.abs(x) ** 2, axis=axis, keepdims=True)
  return jnp.sqrt(square)


def _not_zero(x: jax.Array) -> jax.Array:
  return jnp.where(x == 0, 1.0, x)
