"""Sharpness and the learning coefficient, on quadratics and by brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import problems
from weightspace import probe
from weightspace.probe.sharpness import ascent, sharpness

KEY = jax.random.key(0)
CURVES = np.array([1.0, 3.0, 9.0], np.float32)
SPOT = jnp.array([0.5, -2.0, 1.0])
DATA = problems.data()


def bowl(w, curves):
  """A minimum at SPOT with the given curvatures."""
  return 0.5 * (curves * (w - SPOT) ** 2).sum()


def loss(params, data):
  return -problems.likelihood(params, data)


@pytest.mark.parametrize("adaptive", [False, True])
def test_average_sharpness_is_the_trace(adaptive):
  scale = np.asarray(SPOT) ** 2 if adaptive else 1.0
  expected = 0.1**2 / 2 * (CURVES * scale).sum()
  for noise, variance in (("normal", 1.0), ("uniform", 1 / 3)):
    found, error = probe.average_sharpness(
      bowl, SPOT, CURVES, KEY, 0.1, 2000, adaptive=adaptive, noise=noise
    )
    assert abs(found - variance * expected) < 4 * error < 0.5 * expected
  assert np.isinf(probe.average_sharpness(bowl, SPOT, CURVES, KEY, draws=1)[1])


def test_one_step_of_sam_and_asam():
  w, rho = SPOT + jnp.array([0.1, 0.2, -0.3]), 0.4
  slope = CURVES * np.asarray(w - SPOT)
  for adaptive, t in ((False, np.ones(3)), (True, np.abs(w) + 0.01)):
    step = rho * t**2 * slope / np.linalg.norm(t * slope)
    expected = bowl(w + step, CURVES) - bowl(w, CURVES)
    found = probe.sam_sharpness(bowl, w, CURVES, rho, adaptive=adaptive)
    assert float(found) == pytest.approx(float(expected), 1e-4)
  assert probe.sam_sharpness(bowl, SPOT, CURVES) == 0.0
  # A vector is no matrix: T = 1, so ASAM is SAM.
  plain, part = (
    probe.sam_sharpness(bowl, w, CURVES, rho, **how)
    for how in ({}, {"adaptive": True, "scaled": "matrices"})
  )
  assert float(plain) == pytest.approx(float(part), 1e-5)


def test_worst_case_is_the_top_eigenvalue():
  w = SPOT + 1e-3
  found = probe.worst_sharpness(bowl, w, CURVES, 0.5, 40)
  assert float(found) == pytest.approx(0.5**2 / 2 * 9.0, 0.02)
  box = probe.worst_sharpness(bowl, w, CURVES, 0.5, 40, ball="linf")
  assert float(box) == pytest.approx(0.5**2 / 2 * CURVES.sum(), 0.02)
  scaled = CURVES * np.asarray(SPOT) ** 2
  found = probe.worst_sharpness(bowl, w, CURVES, 0.5, 40, adaptive=True)
  assert float(found) == pytest.approx(0.5**2 / 2 * scaled.max(), 0.03)
  started = probe.worst_sharpness(bowl, SPOT, CURVES, 0.5, 40, key=KEY)
  assert float(started) == pytest.approx(0.5**2 / 2 * 9.0, 0.02)


def auto_pgd(value, slope, n, rho, steps):
  """Return the rise that Auto-PGD finds in a box (Croce and Hein 2020)."""
  ends, d, size = ascent.checkpoints(steps), np.zeros(n), 2 * rho
  before = best = d
  uphill, height = slope(d), value(d)
  last, held, won, since, halved = -np.inf, height, 0, 0, False
  for i in range(steps):
    v, g = value(d), slope(d)
    won, since = won + (v > last), since + 1
    if v > height:
      best, uphill, height = d, g, v
    stalled = i in ends and (
      won < 0.75 * since or (not halved and height <= held)
    )
    if stalled:
      size, d, before, g = size / 2, best, best, uphill
    target = np.clip(d + size * np.sign(g), -rho, rho)
    mixed = np.clip(0.75 * target + 0.25 * d + 0.25 * (d - before), -rho, rho)
    before, d, last = d, mixed if i and not stalled else target, v
    if i in ends:
      won, since, held, halved = 0, 0, height, stalled
  return max(height, value(d)) - value(np.zeros(n))


@pytest.mark.parametrize("steps", [1, 7, 30])
@pytest.mark.parametrize("seed", range(3))
def test_the_ascent_is_auto_pgd(steps, seed):
  """Over hills, where it has to halve its steps and go back."""
  a, b = np.random.default_rng(seed).normal(size=(2, 6))

  def hills(w, data):
    return (jnp.sin(7.0 * w + a) + b * w).sum()

  def value(d):
    return (np.sin(7.0 * d + a) + b * d).sum()

  def slope(d):
    return 7.0 * np.cos(7.0 * d + a) + b

  found = probe.worst_sharpness(
    hills, jnp.zeros(6), None, 1.0, steps, ball="linf"
  )
  wanted = auto_pgd(value, slope, 6, 1.0, steps)
  assert float(found) == pytest.approx(wanted, 1e-4, 1e-4)


def test_projections_are_the_nearest_points():
  """On the ellipsoid |d / s| <= rho: no feasible point is nearer."""
  random = np.random.default_rng(0)
  d, scale = random.normal(size=6), np.abs(random.normal(size=6))
  scale[2] = 0.0
  found = np.asarray(
    ascent._project(
      jnp.asarray(d, jnp.float32), jnp.asarray(scale, jnp.float32), 0.7, True
    )
  )
  live = scale > 0
  assert found[2] == 0.0
  assert np.linalg.norm(found[live] / scale[live]) == pytest.approx(0.7, 1e-4)
  best = np.linalg.norm((d - found)[live])
  for _ in range(300):
    other = found[live] + 0.1 * random.normal(size=live.sum())
    size = np.linalg.norm(other / scale[live])
    other = other * min(1.0, 0.7 / size)
    assert np.linalg.norm(d[live] - other) >= best - 1e-5
  inside = jnp.asarray([0.01, 0.02])
  np.testing.assert_allclose(
    ascent._project(inside, jnp.ones(2), 0.7, True), inside
  )


def test_keskars_box():
  """At the corner that is farthest: sum c (eps (|w| + 1))^2 / 2."""
  found = probe.keskar_sharpness(bowl, SPOT, CURVES, 0.01, key=KEY)
  rise = (CURVES * (0.01 * (np.abs(SPOT) + 1)) ** 2).sum() / 2
  assert found == pytest.approx(100 * rise, 1e-3)
  small = probe.keskar_sharpness(bowl, SPOT, CURVES, 0.01, key=KEY, subspace=2)
  assert small > 0
  with pytest.raises(ValueError, match="needs a key"):
    probe.keskar_sharpness(bowl, SPOT, CURVES, subspace=2)


def test_radial_losses_grow_with_the_square():
  found = probe.radial_losses(bowl, SPOT, CURVES, KEY, [0.5, 1.0], 400)
  np.testing.assert_allclose(found[:, 1], 4 * found[:, 0], 1e-3)
  mean, error = found[:, 1].mean(), found[:, 1].std() / 20
  assert abs(mean - CURVES.mean() / 2) < 4 * error


def network(params, x):
  return jax.nn.relu(x @ params["a"]) @ params["b"]


def test_what_a_rescaling_moves_is_told():
  params = problems.tree(0, {"a": (3, 4), "b": (4, 2)})
  other = probe.rescale(params, {"a": 5.0, "b": 0.2})

  def risk(p, d):
    z = jax.nn.log_softmax(network(p, d["x"]))
    return -jnp.take_along_axis(z, d["y"][:, None], 1)[:, 0]

  settings = {"rho": 0.1, "draws": 400}
  found = probe.moved_by(
    {
      "plain": lambda p: probe.average_sharpness(
        risk, p, DATA, KEY, **settings
      ),
      "adaptive": lambda p: probe.average_sharpness(
        risk, p, DATA, KEY, adaptive=True, **settings
      ),
      "asam": lambda p: probe.sam_sharpness(
        risk, p, DATA, adaptive=True, eta=0.0
      ),
    },
    risk,
    DATA,
    params,
    other,
  )
  assert abs(found["adaptive"] - 1) < 1e-3 and abs(found["asam"] - 1) < 1e-3
  assert abs(found["plain"] - 1) > 0.2
  with pytest.raises(ValueError, match="losses differ by"):
    probe.moved_by({}, risk, DATA, params, probe.rescale(params, {"a": 5.0}))
  with pytest.raises(ValueError, match="'c' is no leaf"):
    probe.rescale(params, {"c": 1.0})


@pytest.mark.parametrize("batch_size", [None, 32])
def test_the_learning_coefficient_counts_directions(batch_size):
  """A quadratic in 3 of 5 directions: 3 / 2, whatever the curvatures."""
  curves = jnp.array([0.5, 1.0, 2.0, 0.0, 0.0])

  def flat(w, x):
    return 0.5 * (curves * w**2).sum() + 0.0 * x

  found = probe.learning_coefficient(
    flat,
    jnp.zeros(5),
    jnp.zeros(200),
    KEY,
    step_size=0.01,
    draws=1500,
    burn_in=300,
    localization=0.1,
    batch_size=batch_size,
    chains=6,
  )
  assert abs(found.value - 1.5) < max(4 * found.stderr, 0.2)
  assert found.healthy and found.losses.shape == (6, 1500)


def test_sick_chains_are_told():
  def slope(w, x):
    return w.sum() + 0.0 * x

  falling = probe.learning_coefficient(
    slope, jnp.zeros(2), jnp.zeros(50), KEY, step_size=0.01, localization=0.0
  )
  assert not falling.healthy and falling.value < 0 and falling.drift < -0.5

  def steep(w, x):
    return 1e3 * (w**4).sum() + 0.0 * x

  blown = probe.learning_coefficient(
    steep, jnp.ones(2), jnp.zeros(50), KEY, step_size=1.0
  )
  assert not blown.healthy and np.isnan(blown.rhat)

  def round_(w, x):
    return 0.5 * (w**2).sum() + 0.0 * x

  # Few draws of slow chains: each sits where it is, and no two agree.
  short = dict(step_size=1e-3, chains=20, draws=5, burn_in=300)
  apart = probe.learning_coefficient(
    round_, jnp.zeros(2), jnp.zeros(50), KEY, **short
  )
  assert not apart.healthy and apart.rhat > 1.1
  assert apart.value > 0 and abs(apart.drift) < 0.5


def test_bad_numbers_are_named():
  with pytest.raises(ValueError, match=r"rho is 0.0, expected above 0"):
    probe.sam_sharpness(bowl, SPOT, CURVES, 0.0)
  with pytest.raises(ValueError, match="keskar_sharpness: epsilon is -1"):
    probe.keskar_sharpness(bowl, SPOT, CURVES, -1.0)
  with pytest.raises(ValueError, match="noise 'cauchy'"):
    probe.average_sharpness(bowl, SPOT, CURVES, KEY, noise="cauchy")
  with pytest.raises(ValueError, match="ball 'l1'"):
    probe.worst_sharpness(bowl, SPOT, CURVES, ball="l1")
  with pytest.raises(ValueError, match="NaN in ''"):
    probe.sam_sharpness(bowl, SPOT * jnp.nan, CURVES)
  with pytest.raises(ValueError, match="chains is 0"):
    probe.learning_coefficient(bowl, SPOT, CURVES, KEY, chains=0)
  with pytest.raises(ValueError, match="batch_size is 9, expected 1 to 3"):
    probe.learning_coefficient(bowl, SPOT, CURVES, KEY, batch_size=9)
  with pytest.raises(ValueError, match="scaled: 'names'"):
    probe.sam_sharpness(bowl, SPOT, CURVES, scaled="names")
  assert sharpness.opened(bowl, SPOT, CURVES, "x")[1].size == 3
