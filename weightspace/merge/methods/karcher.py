"""Means of directions: multi-slerp and the Karcher mean, leaf by leaf.

Everything happens in the span of the models, so one Gram matrix [M, M] of a
leaf gives every coefficient, and the result is one weighted sum.  In
task-vector space the same recipes are `on_deltas(recipe)`.

>>> gram(jnp.eye(2)).tolist()
[[1.0, 0.0], [0.0, 1.0]]
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Step

TANGENTS = ("projection", "log")
NOTHING = 1e-6  # a mean of unit vectors this short has no direction in float32


def multislerp(
  weights: Sequence[float] | jax.Array | None = None,
  normalize: bool = True,
  tangent: str = "projection",
) -> Recipe:
  """Return the weighted mean direction of models at their weighted mean norm.

  With u_m = theta_m / |theta_m| and the direction n of sum_m w_m u_m: one step
  in the tangent space at n, back onto the sphere, times sum_m w_m |theta_m|.
  Tangents that are plain projections, as tools take them, add up to zero, so
  the step does nothing; `tangent="log"` takes the logarithms of the sphere, and
  is one step of `karcher`.  Where the directions cancel, sum_m w_m theta_m.

  Args:
    weights: [M]; None for all equal.
    normalize: divide the weights by their sum first.
    tangent: "projection" or "log".

  Raises:
    ValueError: for an unknown tangent, weights that sum to zero while they are
      to be normalised, or (when called) that are not [M].

  >>> models = {"w": jnp.array([[1.0, 0.0], [0.0, 3.0]])}
  >>> jnp.linalg.norm(multislerp()(models)["w"]).round(4).item()
  2.0

  mergekit's documentation, https://github.com/arcee-ai/mergekit; the rule for
  directions that cancel is ours.
  """
  checks.option("multislerp: tangent", tangent, TANGENTS)
  if weights is not None:
    weights = jnp.asarray(weights, jnp.float32)
    trees.check_finite(weights, "multislerp: weights")
    total = weights.sum()
    if normalize and trees.concrete(total) and not total:
      raise ValueError(
        "multislerp: weights sum to zero, expected a non-zero sum, or"
        " normalize=False"
      )
    weights = weights / total if normalize else weights

  def edit(x: jax.Array, at: At) -> jax.Array:
    w = weights
    if w is None:
      w = jnp.full(len(x), 1.0 / len(x) if normalize else 1.0)
    if w.shape != (len(x),):
      raise ValueError(
        f"multislerp: weights have shape {w.shape}, expected ({len(x)},)"
      )
    lengths, cosines = _directions(gram(x))
    start, size = _unit(jnp.where(lengths > 0, w, 0.0), cosines)
    if tangent == "log":
      start = _step_on_sphere(start, w, cosines)[0]
    on_sphere = jnp.sum(w * lengths) * start / _not_zero(lengths)
    return means.contract(x, jnp.where(size < NOTHING, w, on_sphere))

  return chain(Step("multislerp", edit, reduces=True))


def karcher(iterations: int = 10, tolerance: float = 1e-5) -> Recipe:
  """Return the Karcher mean of the models' directions at their mean norm.

  The point u of the sphere at which the logarithms of all u_m = theta_m /
  |theta_m| add up to zero, found by u <- exp_u(mean_m log_u(u_m)) from their
  normalised mean (from u_1 where they cancel); then |theta| = mean_m |theta_m|.
  Leaf by leaf, on the weights themselves; models of zero norm are left out.

  Args:
    iterations: at most so many steps.
    tolerance: stop when a step is shorter (radians).

  Raises:
    ValueError: for less than one iteration.

  >>> models = {"w": jnp.array([[1.0, 0.0], [0.0, 3.0]])}
  >>> karcher()(models)["w"].round(3).tolist()
  [1.4140000343322754, 1.4140000343322754]

  Karcher 1977, https://doi.org/10.1002/cpa.3160300502; start, steps and
  tolerance as in merging tools.
  """
  if iterations < 1:
    raise ValueError(f"karcher: {iterations} iterations, expected at least 1")

  def edit(x: jax.Array, at: At) -> jax.Array:
    return means.contract(x, _karcher(gram(x), iterations, tolerance))

  return chain(Step("karcher", edit, reduces=True))


@jax.jit
def _karcher(
  products: jax.Array, iterations: int, tolerance: float
) -> jax.Array:
  """Return the coefficients [M] of the models in their Karcher mean."""
  lengths, cosines = _directions(products)
  kept = (lengths > 0).astype(lengths.dtype)
  weights = kept / _not_zero(kept.sum())
  start, size = _unit(weights, cosines)
  first = jnp.eye(len(kept), dtype=kept.dtype)[jnp.argmax(kept)]
  start = jnp.where(size < NOTHING, first, start)

  def going_on(state: tuple) -> jax.Array:
    return (state[1] >= tolerance) & (state[2] < iterations)

  def step(state: tuple) -> tuple:
    return *_step_on_sphere(state[0], weights, cosines), state[2] + 1

  far = jnp.full((), jnp.inf, kept.dtype)
  mean = jax.lax.while_loop(going_on, step, (start, far, 0))[0]
  return jnp.sum(weights * lengths) * mean / _not_zero(lengths)


def gram(x: jax.Array, by_row: bool = False) -> jax.Array:
  """Return the inner products of models, [M, ...] -> [M, M].

  With `by_row`, those of each row (the last axis): [M, ..., d] -> [..., M, M].
  """
  highest = jax.lax.Precision.HIGHEST
  if by_row:
    spec = "m...d,n...d->...mn"
    return jnp.real(jnp.einsum(spec, jnp.conj(x), x, precision=highest))
  axes = tuple(range(1, x.ndim))
  return jnp.real(
    jnp.tensordot(jnp.conj(x), x, (axes, axes), precision=highest)
  )


def _directions(products: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Return lengths [M] and cosines [M, M] from inner products [M, M]."""
  lengths = jnp.sqrt(jnp.diagonal(products))
  safe = _not_zero(lengths)
  return lengths, products / (safe[:, None] * safe[None, :])


def _unit(point: jax.Array, cosines: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Scale sum_m point[m] u_m to length one; return it and its length."""
  size = jnp.sqrt(jnp.maximum(point @ cosines @ point, 0.0))
  return point / jnp.where(size < NOTHING, 1.0, size), size


def _step_on_sphere(
  point: jax.Array, weights: jax.Array, cosines: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Move `point` (coefficients of the u_m) along its mean logarithm."""
  cosine = jnp.clip(cosines @ point, -1.0, 1.0)
  angle = jnp.arccos(cosine)
  sine = jnp.sin(angle)
  pull = weights * jnp.where(sine < NOTHING, 1.0, angle / _not_zero(sine))
  tangent = pull - jnp.sum(pull * cosine) * point
  length = jnp.sqrt(jnp.maximum(tangent @ cosines @ tangent, 0.0))
  moved = jnp.cos(length) * point + jnp.sinc(length / np.pi) * tangent
  return _unit(moved, cosines)[0], length


def _not_zero(x: jax.Array) -> jax.Array:
  return jnp.where(x == 0, 1.0, x)
