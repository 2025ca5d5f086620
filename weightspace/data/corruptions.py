"""Corruptions of images in five severities, each a pure keyed function.

`CORRUPTIONS[name](key, x, severity)` changes images [N, H, W, C] in [0, 1]; the
key draws what differs from image to image (noise, a direction, a place).  Each
is a function of one strength, graded by a table.  Noise, brightness, contrast
and pixelation have ImageNet-C's strengths.  The others are ours: movements are
shares of the image's height, so that 8x8 digits and 32x32 photographs suffer
alike, and the Gaussian blur is in pixels, for images of up to some 32.

>>> x = jnp.full((1, 8, 8, 1), 0.5)
>>> noisy = corrupt(jax.random.key(0), x, "gaussian_noise", severity=3)
>>> round(float(noisy.std()), 1)
0.2

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common
corruptions and perturbations", https://arxiv.org/abs/1903.12261; for digits see
Mu and Gilmer 2019, "MNIST-C", https://arxiv.org/abs/1906.02337.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.data import geometry
from weightspace.types import Key

Corruption = Callable[[Key, jax.Array, int], jax.Array]
SEVERITIES = 5
TAPS = 5  # copies that a motion blur averages


def gaussian_noise(key: Key, x: jax.Array, std: float) -> jax.Array:
  """Add independent normal noise of standard deviation `std` to every value."""
  images = geometry.pixels(x)
  return geometry.like(images + std * jax.random.normal(key, images.shape), x)


def shot_noise(key: Key, x: jax.Array, photons: float) -> jax.Array:
  """Count photons: Poisson(photons x) / photons, value by value.

  The count is how many steps of the distribution function lie below a uniform
  draw, six deviations up: on the CPU some ten times faster than rejection.
  """
  rate = photons * geometry.pixels(x)
  u = jax.random.uniform(key, np.shape(x))
  most = int(photons + 6 * photons**0.5 + 6)

  def step(k: int, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    mass, below, count = carry
    below += mass
    return mass * rate / (k + 1.0), below, count + (u > below)

  start = (jnp.exp(-rate), jnp.zeros_like(rate), jnp.zeros_like(rate))
  count = jax.lax.fori_loop(0, most, step, start, unroll=8)[2]
  return geometry.like(count / photons, x)


def impulse_noise(key: Key, x: jax.Array, share: float) -> jax.Array:
  """Set each value, with probability `share`, to 0 or to 1 evenly."""
  images = geometry.pixels(x)
  u = jax.random.uniform(key, images.shape)
  salted = jnp.where(u < share / 2, 0.0, images)
  return geometry.like(jnp.where(u > 1 - share / 2, 1.0, salted), x)


def _filter(x: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
  pads = [(0, 0)] * 4
  pads[axis] = (len(taps) // 2, len(taps) // 2)
  padded = jnp.pad(x, pads, mode="edge")
  size = x.shape[axis]
  return sum(
    (
      float(tap) * jax.lax.slice_in_dim(padded, k, k + size, axis=axis)
      for k, tap in enumerate(taps)
    ),
    jnp.zeros_like(x),
  )


def gaussian_blur(x: jax.Array, sigma: float) -> jax.Array:
  """Convolve with a normal density of width `sigma` pixels, up to 4 sigma.

  The taps sum to one and the border is continued: a constant image stays.
  """
  reach = max(1, int(np.ceil(4 * sigma)))
  taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
  taps /= taps.sum()
  return geometry.like(
    _filter(_filter(geometry.pixels(x), taps, 1), taps, 2), x
  )


def motion_blur(key: Key, x: jax.Array, length: float) -> jax.Array:
  """Average five copies spread over `length` pixels in a drawn direction."""
  images = geometry.pixels(x)
  angle = jax.random.uniform(key, images.shape[:1], maxval=jnp.pi)
  along = jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)
  copies = [
    geometry.resample(images, jnp.eye(2), step * along, edge="nearest")
    for step in np.linspace(-length / 2, length / 2, TAPS)
  ]
  return geometry.like(sum(copies, jnp.zeros_like(images)) / TAPS, x)


def brighten(x: jax.Array, amount: float) -> jax.Array:
  """Add `amount` to every value (ImageNet-C adds it to HSV's V)."""
  return geometry.like(geometry.pixels(x) + amount, x)


def fade(x: jax.Array, factor: float) -> jax.Array:
  """Scale the distance of each value from its image's channel mean."""
  images = geometry.pixels(x)
  mean = images.mean((1, 2), keepdims=True)
  return geometry.like(mean + factor * (images - mean), x)


def pixelate(x: jax.Array, share: float) -> jax.Array:
  """Shrink to `share` of the side and enlarge again by repeating pixels."""
  images = geometry.pixels(x)
  count, *sides, channels = images.shape
  small = [max(1, round(share * side)) for side in sides]
  coarse = jax.image.resize(images, (count, *small, channels), "linear")
  return geometry.like(jax.image.resize(coarse, images.shape, "nearest"), x)


def occlude(key: Key, x: jax.Array, side: int) -> jax.Array:
  """Blacken a square of `side` pixels at a drawn place inside each image.

  DeVries and Taylor 2017, "Cutout", https://arxiv.org/abs/1708.04552 (whose
  square may reach over the border; ours does not).
  """
  images = geometry.pixels(x)
  inside = []
  for size, one in zip(images.shape[1:3], jax.random.split(key)):
    start = jax.random.randint(one, (len(images), 1), 0, size - side + 1)
    at = jnp.arange(size)[None] - start
    inside.append((at >= 0) & (at < side))
  square = inside[0][:, :, None, None] & inside[1][:, None, :, None]
  return geometry.like(jnp.where(square, 0.0, images), x)


def _signs(key: Key, shape: tuple[int, ...]) -> jax.Array:
  return jax.random.rademacher(key, shape).astype(jnp.float32)


def _height(x: jax.Array) -> int:
  return np.shape(x)[1]


# name: (apply(key, x, strength), strength at severities 1 to 5)
_GRADES: dict[str, tuple[Callable[..., jax.Array], tuple[float, ...]]] = {
  "rotation": (
    lambda key, x, degrees: geometry.rotate(
      x, degrees * _signs(key, (len(x),))
    ),
    (10, 20, 30, 45, 60),
  ),
  "translation": (
    lambda key, x, share: geometry.translate(
      x, max(1, round(share * _height(x))) * _signs(key, (len(x), 2))
    ),
    (0.05, 0.1, 0.15, 0.2, 0.25),
  ),
  "shear": (
    lambda key, x, slope: geometry.shear(x, slope * _signs(key, (len(x),))),
    (0.2, 0.4, 0.6, 0.8, 1.0),
  ),
  "zoom": (
    lambda key, x, log: geometry.zoom(x, 2 ** (log * _signs(key, (len(x),)))),
    (0.2, 0.4, 0.6, 0.8, 1.0),
  ),
  "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
  "shot_noise": (shot_noise, (60, 25, 12, 5, 3)),
  "impulse_noise": (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
  "gaussian_blur": (
    lambda key, x, sigma: gaussian_blur(x, sigma),
    (0.4, 0.6, 0.8, 1.1, 1.5),
  ),
  "motion_blur": (
    lambda key, x, share: motion_blur(key, x, share * _height(x)),
    (0.06, 0.09, 0.12, 0.16, 0.2),
  ),
  "brightness": (
    lambda key, x, amount: brighten(x, amount),
    (0.1, 0.2, 0.3, 0.4, 0.5),
  ),
  "contrast": (
    lambda key, x, factor: fade(x, factor),
    (0.4, 0.3, 0.2, 0.1, 0.05),
  ),
  "pixelate": (
    lambda key, x, share: pixelate(x, share),
    (0.6, 0.5, 0.4, 0.3, 0.25),
  ),
  "occlusion": (
    lambda key, x, share: occlude(key, x, max(1, round(share * _height(x)))),
    (0.2, 0.3, 0.4, 0.5, 0.6),
  ),
}


def corrupt(key: Key, x: jax.Array, name: str, severity: int = 3) -> jax.Array:
  """Corrupt images by name.

  Args:
    key: draws what differs from image to image; the same key, the same images.
    x: [N, H, W, C] floats in [0, 1].
    name: a key of `CORRUPTIONS`.
    severity: 1 to 5, a Python int (static under jit).

  Returns:
    [N, H, W, C] in [0, 1], in the dtype of x.

  Raises:
    ValueError: for an unknown name, a severity out of range, or x of another
      rank, dtype or (on concrete values) range.

  >>> x = jnp.full((1, 2, 2, 1), 0.25)
  >>> corrupt(jax.random.key(0), x, "brightness", 5).max().item()
  0.75
  """
  if name not in _GRADES:
    raise ValueError(
      f"unknown corruption {name!r}, expected one of {', '.join(_GRADES)}"
    )
  if not isinstance(severity, int) or not 1 <= severity <= SEVERITIES:
    raise ValueError(
      f"{name}: severity {severity!r}, expected an int from 1 to {SEVERITIES}"
    )
  apply, strengths = _GRADES[name]
  return apply(key, x, strengths[severity - 1])


def _named(name: str) -> Corruption:
  return lambda key, x, severity: corrupt(key, x, name, severity)


CORRUPTIONS: dict[str, Corruption] = {name: _named(name) for name in _GRADES}
