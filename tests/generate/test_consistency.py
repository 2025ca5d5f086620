"""Consistency training: the law on point data, the metric, the levels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace.generate import (
  consistency_loss,
  karras_levels,
  level_count,
  lognormal_shares,
  pseudo_huber,
)

KEY = jax.random.key(0)
LOW = 0.002


def gap(a, b):
  return ((a - b) ** 2).sum(-1)


def model(theta, low=LOW):
  """The consistency function of a point: exact at the lowest level."""

  def f(x, sigma):
    share = low / sigma
    return share * x + (1 - share) * theta

  return f


def closed_form(levels, data, theta, teacher):
  r = LOW / np.asarray(levels, float)
  upper, lower = r[1:], r[:-1]
  gaps = (upper - lower) * data + (1 - upper) * theta - (1 - lower) * teacher
  return gaps**2


@pytest.mark.parametrize("data", [0.0, 2.0])
@pytest.mark.parametrize("theta,teacher", [(1.0, 1.0), (1.0, 0.9)])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3), (5, 2, 2, 1)])
def test_the_law_on_point_data(data, theta, teacher, shape):
  """The noise cancels, so each pair of levels has one exact value."""
  levels = np.array([LOW, 0.1, 1.0, 5.0, 80.0])
  expected = closed_form(levels, data, theta, teacher)
  x = jnp.full(shape, data)

  def mean_gap(a, b):
    return ((a - b) ** 2).reshape(len(a), -1).mean(1)

  for i, value in enumerate(expected):
    pair = jnp.asarray(levels[i : i + 2], jnp.float32)
    found = consistency_loss(
      model(theta), model(teacher), x, KEY, pair, mean_gap
    )
    assert np.isclose(found, value, atol=1e-6)


def flaw(count, data, theta, teacher):
  """Return the expected loss over all levels and its gradient."""
  levels = karras_levels(count)
  pairs = jnp.stack([levels[:-1], levels[1:]], 1)
  x = jnp.full((1, 1), data)

  def loss(theta):
    def one(pair):
      f, behind = model(theta), model(teacher)
      return consistency_loss(f, behind, x, KEY, pair, gap)

    return jax.vmap(one)(pairs).mean()

  return jax.value_and_grad(loss)(theta)


def test_a_lagging_teacher_forgets_the_data():
  """With an EMA as teacher both data push theta the same way, ever harder."""
  for data in (0.0, 2.0):
    lagging = [count * flaw(count, data, 1.0, 0.9)[1] for count in (100, 400)]
    assert 0 < 3 * lagging[0] < lagging[1]
  own = [flaw(40, data, 1.0, 1.0)[1] for data in (0.0, 2.0)]
  assert own[0] > 0 > own[1]
  assert np.isclose(own[0], -own[1], rtol=1e-3)


def test_the_limit_of_fine_levels_has_no_data_in_it():
  levels = np.asarray(karras_levels(1000), float)
  values = [closed_form(levels, d, 1.0, 0.9).mean() for d in (0.0, 2.0)]
  limit = (0.01 * (1 - LOW / levels) ** 2).mean()
  assert np.allclose(values, limit, rtol=0.02)


def test_the_teacher_is_an_ema_of_rate_nought():
  """`ema(0)` is the student, bit by bit; so is the teacher None."""
  fold = ws.average.ema(0.0)
  theta = {"w": jnp.array([0.3, -1.7])}
  state = fold.update(fold.init({"w": jnp.zeros(2)}), theta)
  assert np.array_equal(fold.value(state)["w"], theta["w"])
  f, x = model(0.3), jax.random.normal(KEY, (6, 2))
  levels = karras_levels(5)
  a, b = (consistency_loss(f, t, x, KEY, levels, gap) for t in (f, None))
  assert a == b


def test_no_gradient_goes_through_the_teacher():
  x, levels = jnp.ones((4, 1)), jnp.array([1.0, 2.0])

  def loss(teacher):
    return consistency_loss(model(1.0), model(teacher), x, KEY, levels, gap)

  assert jax.grad(loss)(0.5) == 0.0


def test_shares_choose_the_levels_and_weights_scale_them():
  levels = jnp.array([1.0, 2.0, 4.0, 8.0])
  f = lambda x, sigma: sigma * jnp.ones_like(x)  # noqa: E731
  loss = functools.partial(
    consistency_loss, f, None, jnp.ones((4000, 1)), KEY, levels
  )
  step = lambda a, b: (a - b)[:, 0]  # noqa: E731
  for i, width in enumerate((1.0, 2.0, 4.0)):
    assert loss(step, shares=jnp.eye(3)[i]) == width
  shares = jnp.array([0.2, 0.3, 0.5])
  expected = 0.2 * 1 + 0.3 * 2 + 0.5 * 4
  assert np.isclose(loss(step, shares=shares), expected, atol=0.08)
  assert np.isclose(loss(step, weights=1 / jnp.diff(levels)), 1.0)


def test_the_same_key_gives_the_same_loss_under_jit():
  x, levels = jax.random.normal(KEY, (8, 3)), karras_levels(6)

  def loss(theta, x, key, levels):
    return consistency_loss(
      model(theta), None, x, key, levels, functools.partial(pseudo_huber, c=0.1)
    )

  eager = loss(0.5, x, KEY, levels)
  assert np.isclose(jax.jit(loss)(0.5, x, KEY, levels), eager, rtol=1e-5)
  assert eager != loss(0.5, x, jax.random.key(1), levels)


def test_images_keep_their_shape():
  shapes = []

  def f(x, sigma):
    shapes.append((x.shape, sigma.shape))
    return x / sigma

  x = jnp.ones((2, 4, 4, 3))
  metric = functools.partial(pseudo_huber, c=0.1)
  consistency_loss(f, None, x, KEY, jnp.array([1.0, 2.0]), metric)
  assert shapes == [((2, 4, 4, 3), (2, 1, 1, 1))] * 2


def test_bad_levels_are_refused():
  x = jnp.ones((2, 1))

  def loss(sigmas, **rest):
    return consistency_loss(model(0.0), None, x, KEY, sigmas, gap, **rest)

  with pytest.raises(ValueError, match="sigma 1 is 3 and the next 2"):
    loss(jnp.array([1.0, 3.0, 2.0]))
  with pytest.raises(ValueError, match="expected above 0"):
    loss(jnp.array([0.0, 1.0]))
  with pytest.raises(ValueError, match="expected above 0"):
    loss(jnp.array([1.0, jnp.nan]))
  with pytest.raises(ValueError, match=r"expected \[N\] with N >= 2"):
    loss(jnp.array([1.0]))
  with pytest.raises(ValueError, match=r"shares are \(3,\), expected \(1,\)"):
    loss(jnp.array([1.0, 2.0]), shares=jnp.ones(3))
  with pytest.raises(ValueError, match="weights expected finite, >= 0"):
    loss(jnp.array([1.0, 2.0]), weights=-jnp.ones(1))
  with pytest.raises(ValueError, match="expected floats"):
    consistency_loss(
      model(0.0), None, jnp.ones((2, 1), int), KEY, jnp.array([1.0, 2.0]), gap
    )


@pytest.mark.parametrize("c", [1e-3, 0.3, 12.0])
def test_pseudo_huber_is_its_formula(c):
  random = np.random.default_rng(0)
  x, y = random.normal(size=(2, 6, 5))
  square = ((x - y) ** 2).sum(1)
  found = pseudo_huber(jnp.asarray(x), jnp.asarray(y), c)
  assert found.shape == (6,)
  assert np.allclose(found, np.sqrt(square + c**2) - c, rtol=1e-5)
  one = pseudo_huber(jnp.asarray(x[0]), jnp.asarray(y[0]), c)
  assert one.shape == () and np.isclose(one, found[0], rtol=1e-6)


def test_pseudo_huber_has_its_limits():
  far, near = jnp.array([3e3, 4e3]), jnp.array([3e-6, 4e-6])
  zero = jnp.zeros(2)
  assert np.isclose(pseudo_huber(far, zero, 0.5), 5e3 - 0.5)
  assert np.isclose(pseudo_huber(near, zero, 0.5), 25e-12 / 1.0, rtol=1e-4)
  slope = jax.grad(lambda x: pseudo_huber(x, zero, 0.5))(zero)
  assert np.array_equal(slope, zero)


def test_pseudo_huber_keeps_dtypes():
  x = jnp.array([3.0, 4.0])
  for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
    found = pseudo_huber(x.astype(dtype), jnp.zeros(2, dtype), 12.0)
    assert found.dtype == dtype and found == 1.0
  assert pseudo_huber(x.astype(int), jnp.zeros(2, int), 12.0) == 1.0
  many = jnp.ones(4096, jnp.bfloat16)
  assert pseudo_huber(many, 0 * many, 1e-3) == 64.0


def test_pseudo_huber_refuses():
  for c in (0.0, -1.0, float("nan")):
    with pytest.raises(ValueError, match="expected above 0"):
      pseudo_huber(jnp.ones(2), jnp.ones(2), c)
  with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
    pseudo_huber(jnp.ones(2), jnp.ones(3), 1.0)


def test_levels_and_shares():
  levels = np.asarray(karras_levels(18))
  assert np.isclose(levels[0], 0.002) and np.isclose(levels[-1], 80.0)
  roots = levels ** (1 / 7)
  assert np.allclose(np.diff(roots), np.diff(roots)[0], rtol=1e-3)
  shares = lognormal_shares(jnp.asarray(levels))
  assert np.isclose(shares.sum(), 1.0, atol=1e-6)
  erf = jax.scipy.special.erf((np.log(levels) + 1.1) / (2 * np.sqrt(2)))
  by_hand = np.diff(erf) / np.diff(erf).sum()
  assert np.allclose(shares, by_hand, rtol=1e-3, atol=1e-6)


def test_level_counts_double():
  counts = [level_count(k, 800) for k in range(800)]
  assert sorted(set(counts)) == [10 * 2**i + 1 for i in range(8)]
  assert all(counts.count(n) == 100 for n in set(counts))


@pytest.mark.parametrize(
  "call",
  [
    lambda: karras_levels(1),
    lambda: karras_levels(5, low=0.0),
    lambda: karras_levels(5, low=2.0, high=1.0),
    lambda: lognormal_shares(jnp.array([1.0, 2.0]), deviation=0.0),
    lambda: level_count(10, 10),
    lambda: level_count(0, 10, first=0),
  ],
)
def test_bad_schedules_are_refused(call):
  with pytest.raises(ValueError, match="expected"):
    call()
