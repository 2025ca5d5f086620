"""Moves of images in the plane: one bilinear resampling serves them all.

An image is read at `matrix @ (pixel - centre) + centre - shift`; a rotation, a
shear, a change of scale or a translation is a choice of matrix and shift, one
for all images or one for each.  What comes from outside is black.

>>> x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 2, 0].set(1.0)
>>> translate(x, jnp.array([1.0, -1.0]))[0, :, :, 0].argmax().item()
7
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees


def pixels(x: jax.Array) -> jax.Array:
  """Return images in float32, or raise if they are not images.

  Raises:
    ValueError: for another rank or dtype than [N, H, W, C] floats or, on
      concrete values, one outside [0, 1].
  """
  if np.ndim(x) != 4 or not jnp.issubdtype(jnp.result_type(x), jnp.floating):
    raise ValueError(
      f"x: {jnp.result_type(x)} of shape {np.shape(x)}, expected floats"
      " [N, H, W, C]"
    )
  if trees.concrete(x) and np.size(x):
    low, high = float(jnp.min(x)), float(jnp.max(x))
    if not (low >= 0 and high <= 1):
      raise ValueError(f"x: values {low} to {high}, expected 0 to 1")
  return jnp.asarray(x, jnp.float32)


def like(result: jax.Array, x: jax.Array) -> jax.Array:
  """Return images clipped to [0, 1] in the dtype of `x`."""
  return jnp.clip(result, 0.0, 1.0).astype(jnp.result_type(x))


def resample(
  x: jax.Array, matrix: jax.Array, shift: jax.Array, edge: str = "constant"
) -> jax.Array:
  """Read images at affinely moved pixels, bilinearly.

  result[p] = x[matrix (p - centre) + centre - shift], p = (row, column).

  Args:
    x: [N, H, W, C] in [0, 1].
    matrix: [2, 2] or [N, 2, 2].
    shift: [2] or [N, 2], pixels down and right.
    edge: what lies outside: "constant" for black, "nearest" for the border.

  Returns:
    [N, H, W, C] in the dtype of x.
  """
  images = pixels(x)
  count, height, width, _ = images.shape
  centre = jnp.array([(height - 1) / 2, (width - 1) / 2])[:, None]
  grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width)))
  grid = grid.transpose(0, 2, 1).reshape(2, -1) - centre

  def one(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    at = matrix @ grid + (centre - shift[:, None])
    read = functools.partial(
      jax.scipy.ndimage.map_coordinates,
      coordinates=list(at),
      order=1,
      mode=edge,
    )
    return jax.vmap(read, -1, -1)(image).reshape(image.shape)

  matrix = jnp.broadcast_to(jnp.asarray(matrix, jnp.float32), (count, 2, 2))
  shift = jnp.broadcast_to(jnp.asarray(shift, jnp.float32), (count, 2))
  return like(jax.vmap(one)(images, matrix, shift), x)


def _matrix(
  a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array
) -> jax.Array:
  return jnp.stack([a, b, c, d], -1).reshape(*a.shape, 2, 2)


def rotate(x: jax.Array, degrees: jax.Array | float) -> jax.Array:
  """Turn images about their centre, counter-clockwise.

  Args:
    x: [N, H, W, C] in [0, 1].
    degrees: [] or [N].

  Returns:
    [N, H, W, C] in the dtype of x; 90 degrees on squares is `np.rot90`.

  >>> x = jnp.eye(2)[None, :, :, None]
  >>> rotate(x, 90.0)[0, :, :, 0].round(3).tolist()
  [[0.0, 1.0], [1.0, 0.0]]
  """
  angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return resample(x, _matrix(cos, sin, -sin, cos), jnp.zeros(2))


def translate(x: jax.Array, shift: jax.Array) -> jax.Array:
  """Move images by `shift` pixels, [2] or [N, 2], down and right.

  Whole pixels move exactly, parts of one are interpolated.

  >>> translate(jnp.ones((1, 1, 4, 1)), jnp.array([0, 3])).sum().item()
  1.0
  """
  return resample(x, jnp.eye(2), shift)


def shear(x: jax.Array, slope: jax.Array | float) -> jax.Array:
  """Move each row right by `slope` times its distance below the centre.

  >>> shear(jnp.ones((1, 3, 1, 1)), 1.0)[0, :, 0, 0].tolist()
  [0.0, 1.0, 0.0]
  """
  slope = jnp.asarray(slope, jnp.float32)
  one, zero = jnp.ones_like(slope), jnp.zeros_like(slope)
  return resample(x, _matrix(one, zero, -slope, one), jnp.zeros(2))


def zoom(x: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Enlarge images `factor` times, [] or [N], about their centre.

  >>> zoom(jnp.ones((1, 4, 4, 1)), 0.5).sum().item()
  4.0
  """
  scale = 1 / jnp.asarray(factor, jnp.float32)
  zero = jnp.zeros_like(scale)
  return resample(x, _matrix(scale, zero, zero, scale), jnp.zeros(2))
