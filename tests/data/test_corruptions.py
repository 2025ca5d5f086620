"""Corruptions: closed forms, independent references, keys, severities."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import ndimage

from weightspace import data
from weightspace.data import corruptions, geometry

KEY = jax.random.key(0)
NAMES = list(data.CORRUPTIONS)
DETERMINISTIC = {"gaussian_blur", "brightness", "contrast", "pixelate"}
RANDOM = np.random.default_rng(0).random((3, 9, 9, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def bumps():
  """Smooth images, dim enough that brightening does not saturate."""
  at = np.linspace(-1, 1, 12)
  bump = np.exp(-4 * (at[:, None] ** 2 + 2 * at[None] ** 2))
  x = np.stack([0.45 * bump, 0.45 * bump.T])[..., None]
  return jnp.asarray(np.tile(x, (4, 1, 1, 1)), jnp.float32)


@pytest.fixture(scope="module")
def corrupted(bumps):
  """Every corruption at every severity, once."""
  return {
    name: [np.asarray(data.corrupt(KEY, bumps, name, s)) for s in range(1, 6)]
    for name in NAMES
  }


def reference(image, matrix, shift):
  """Bilinear reading at matrix (p - centre) + centre - shift, black outside."""
  height, width, _ = image.shape
  centre = np.array([(height - 1) / 2, (width - 1) / 2])
  result = np.zeros_like(image)
  for p in np.ndindex(height, width):
    at = matrix @ (p - centre) + centre - shift
    low = np.floor(at).astype(int)
    for step in np.ndindex(2, 2):
      corner = low + step
      weight = np.prod(1 - np.abs(at - corner))
      if 0 <= corner[0] < height and 0 <= corner[1] < width:
        result[p] += weight * image[tuple(corner)]
  return result


@pytest.mark.parametrize(
  ("move", "amount", "matrix"),
  [
    (geometry.shear, 0.7, [[1, 0], [-0.7, 1]]),
    (geometry.zoom, 1.6, [[1 / 1.6, 0], [0, 1 / 1.6]]),
    (geometry.rotate, 30.0, [[0.75**0.5, 0.5], [-0.5, 0.75**0.5]]),
    (geometry.translate, np.array([1.3, -2.6]), np.eye(2)),
  ],
)
def test_moves_match_a_bilinear_reference(move, amount, matrix):
  shift = amount if np.ndim(amount) else np.zeros(2)
  expected = [reference(x, np.array(matrix), shift) for x in RANDOM]
  # Coordinates up to 9 in float32 are off by 1e-6 pixel.
  np.testing.assert_allclose(move(RANDOM, amount), expected, atol=1e-5)
  amounts = jnp.stack([jnp.asarray(amount, jnp.float32)] * 3)
  np.testing.assert_allclose(move(RANDOM, amounts), expected, atol=1e-5)


@pytest.mark.parametrize("quarters", [-1, 0, 1, 2, 4])
def test_quarter_turns_are_rot90(quarters):
  result = data.rotate(RANDOM, 90.0 * quarters)
  expected = np.rot90(RANDOM, quarters, (1, 2))
  np.testing.assert_allclose(result, expected, atol=1e-5)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.integers(-10, 10), st.integers(-10, 10))
def test_whole_pixels_move_exactly(down, right):
  moved = np.asarray(data.translate(RANDOM, jnp.array([down, right])))
  padded = np.pad(RANDOM, ((0, 0), (10, 10), (10, 10), (0, 0)))
  expected = padded[:, 10 - down : 19 - down, 10 - right : 19 - right]
  np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("sigma", [0.5, 1.25])
def test_blur_is_scipys(sigma):
  reach = int(np.ceil(4 * sigma))
  expected = ndimage.gaussian_filter(
    RANDOM, (0, sigma, sigma, 0), mode="nearest", radius=(0, reach, reach, 0)
  )
  result = corruptions.gaussian_blur(RANDOM, sigma)
  np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian_blur", "motion_blur", "pixelate"])
@pytest.mark.parametrize("severity", [1, 5])
def test_blurs_keep_a_constant_image(name, severity):
  x = jnp.full((3, 9, 9, 2), 0.3)
  result = data.corrupt(KEY, x, name, severity)
  np.testing.assert_allclose(result, x, atol=1e-6)


def test_motion_blur_spreads_a_point_along_a_line():
  x = jnp.zeros((6, 15, 15, 1)).at[:, 7, 7].set(1.0)
  blurred = np.asarray(corruptions.motion_blur(KEY, x, 8.0))[..., 0]
  np.testing.assert_allclose(blurred.sum((1, 2)), 1.0, atol=1e-5)
  at = np.arange(15) - 7.0
  axes = np.stack(np.meshgrid(at, at, indexing="ij")).reshape(2, -1)
  for image in blurred:
    spread = (axes * image.ravel()) @ axes.T
    long, short = np.linalg.eigvalsh(spread)[::-1]
    # Five points over 8 pixels have variance 8; interpolation adds up to 1/4.
    assert 8 <= long + 1e-4 <= 8.5 + 1e-4 and short <= 0.5


def test_gaussian_noise_has_its_standard_deviation():
  x = jnp.full((4, 50, 50, 1), 0.5)
  noise = np.asarray(corruptions.gaussian_noise(KEY, x, 0.08)) - 0.5
  # The standard deviation of 10^4 draws is known to 1 / sqrt(2 10^4) = 0.7 %.
  np.testing.assert_allclose(noise.std(), 0.08, rtol=0.035)
  np.testing.assert_allclose(noise.mean(), 0, atol=5 * 0.08 / 100)


@pytest.mark.parametrize(
  ("photons", "level"), [(60, 0.5), (12, 0.25), (3, 0.1)]
)
def test_shot_noise_is_poisson(photons, level):
  x = jnp.full((4, 50, 50, 1), level)
  counts = photons * np.asarray(corruptions.shot_noise(KEY, x, photons))
  rate = photons * level
  np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
  np.testing.assert_allclose(counts.mean(), rate, atol=5 * (rate / 1e4) ** 0.5)
  np.testing.assert_allclose(counts.var(), rate, rtol=0.1)
  none = np.exp(-rate)
  np.testing.assert_allclose(
    (counts == 0).mean(), none, atol=5 * (none / 1e4) ** 0.5 + 1e-9
  )


def test_impulse_noise_salts_and_peppers_evenly():
  x = jnp.full((4, 50, 50, 1), 0.5)
  result = np.asarray(corruptions.impulse_noise(KEY, x, 0.27))
  for value, share in ((0.0, 0.135), (1.0, 0.135), (0.5, 0.73)):
    np.testing.assert_allclose((result == value).mean(), share, atol=0.02)


def test_brightness_and_contrast_in_closed_form():
  bright = data.corrupt(KEY, RANDOM, "brightness", 3)
  np.testing.assert_allclose(bright, np.minimum(RANDOM + 0.3, 1), atol=1e-6)
  mean = RANDOM.mean((1, 2), keepdims=True)
  faded = data.corrupt(KEY, RANDOM, "contrast", 2)
  np.testing.assert_allclose(faded, mean + 0.3 * (RANDOM - mean), atol=1e-6)


def test_pixelation_repeats_a_few_values():
  coarse = np.asarray(corruptions.pixelate(RANDOM, 1 / 3))
  np.testing.assert_allclose(
    coarse, np.kron(coarse[:, 1::3, 1::3], np.ones((1, 3, 3, 1))), atol=1e-7
  )
  assert len(np.unique(coarse)) == 3 * 9 * 2


def test_occlusion_blackens_one_square_inside():
  x = jnp.ones((40, 12, 12, 2))
  black = np.asarray(corruptions.occlude(KEY, x, 4))[..., 0] == 0
  for image in black:
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert image.sum() == 16 and np.ptp(rows) == np.ptp(columns) == 3
  assert len({image.tobytes() for image in black}) > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_corruption(name, bumps, corrupted):
  results = corrupted[name]
  for result in results:
    assert result.shape == bumps.shape and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 1
  change = [np.abs(result - bumps).mean() for result in results]
  assert change[0] > 1e-4 and change[-1] > 1.5 * change[0]
  # Blocks that divide the image leave less of a step than their neighbours.
  slack = 0.1 * change[0] if name == "pixelate" else 1e-6
  assert np.all(np.diff(change) >= -slack), change
  named = data.CORRUPTIONS[name]
  np.testing.assert_array_equal(named(KEY, bumps, 2), results[1])
  other = np.asarray(named(jax.random.key(7), bumps, 3))
  assert np.array_equal(other, results[2]) == (name in DETERMINISTIC)
  jitted = jax.jit(functools.partial(named, severity=3))(KEY, bumps)
  # A count at the very edge of a draw may round the other way when fused.
  np.testing.assert_allclose(jitted, results[2], atol=1e-5)
  narrow = bumps.astype(jnp.bfloat16)
  result = named(KEY, narrow, 2)
  expected = named(KEY, narrow.astype(jnp.float32), 2).astype(jnp.bfloat16)
  assert result.dtype == jnp.bfloat16
  np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
  ("x", "name", "severity", "expected"),
  [
    (RANDOM, "fog", 3, "unknown corruption 'fog', expected one of rotation, "),
    (RANDOM, "shear", 0, "shear: severity 0, expected an int from 1 to 5"),
    (RANDOM, "shear", 6, "severity 6"),
    (RANDOM, "shear", 2.0, "severity 2.0"),
    (RANDOM[0], "zoom", 3, r"shape \(9, 9, 2\), expected floats \[N, H, W, C"),
    ((255 * RANDOM).astype(np.uint8), "contrast", 3, "uint8 of shape"),
    (255 * RANDOM, "contrast", 3, "expected 0 to 1"),
    (np.full((1, 3, 3, 1), np.nan, np.float32), "zoom", 3, "nan to nan"),
  ],
)
def test_bad_input(x, name, severity, expected):
  with pytest.raises(ValueError, match=expected):
    data.corrupt(KEY, x, name, severity)
