"""The loss around a model along random directions: how wide its basin is.

>>> def loss(w, x): return (w**2).sum()
>>> found = radial_losses(loss, jnp.zeros(3), None, jax.random.key(0), [2.0], 4)
>>> found.round(3).ravel().tolist()
[4.0, 4.0, 4.0, 4.0]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.losses import objectives
from weightspace.probe.curvature.operators import Part
from weightspace.probe.sharpness import sharpness
from weightspace.types import Data, Key, Loss, Params


def radial_losses(
  loss: Loss,
  params: Params,
  data: Data,
  key: Key,
  radii: Any,
  directions: int = 10,
) -> jax.Array:
  """Return L(w + r d) - L(w) along random unit directions d.

  Args:
    loss: `loss(params, data)`.
    params: one model.
    data: a pytree.
    key: of the directions, uniform on the sphere of all parameters.
    radii: [R] distances.
    directions: D.

  Returns:
    [D, R]; quantiles over D say how wide the basin is.

  Raises:
    ValueError: for radii that are not [R], or no direction.

  >>> def loss(w, x): return (w**2).sum()
  >>> key = jax.random.key(0)
  >>> radial_losses(loss, jnp.zeros(5), None, key, [1.0, 2.0]).shape
  (10, 2)

  Ours, in place of a volume, whose estimate one direction dominates.
  """
  loss, part, params = sharpness.opened(loss, params, data, "radial_losses")
  radii = jnp.asarray(radii, float)
  sharpness.check_numbers("radial_losses", finite={"radii": radii})
  if radii.ndim != 1 or directions < 1:
    raise ValueError(
      f"radial_losses: radii {radii.shape} and {directions} directions,"
      " expected [R] and at least 1"
    )
  keys = jax.random.split(key, directions)
  return _radial(loss, part, params, data, keys, radii)


@functools.partial(jax.jit, static_argnames=("loss", "part"))
def _radial(
  loss: Loss,
  part: Part,
  params: Params,
  data: Data,
  keys: Key,
  radii: jax.Array,
) -> jax.Array:
  flat = part.ravel(part.take(params))
  first = objectives.mean(loss, params, data)

  def one(key: Key) -> jax.Array:
    d = jax.random.normal(key, flat.shape, flat.dtype)
    d = d / jnp.linalg.norm(d)

    def at(r: jax.Array) -> jax.Array:
      moved = part.put(params, part.unravel(flat + r * d))
      return objectives.mean(loss, moved, data) - first

    return jax.lax.map(at, radii)

  return jax.lax.map(one, keys)
