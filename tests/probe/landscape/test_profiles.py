"""Profiles in one pass over padded batches, statistics, and calibration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import weightspace as ws
from tests import problems
from weightspace import losses, models, probe
from weightspace.probe.landscape import profiles

DATA = problems.data(23)
A, B = problems.tree(0), problems.tree(1)


def loss(params, data):
  return -problems.likelihood(params, data)


def test_batches_give_the_numbers_of_all_data():
  line = ws.line(A, B)
  arrays = {k: np.asarray(v) for k, v in DATA.items()}
  parts = list(ws.data.batches(arrays, 5))
  for batches in ([DATA], parts, lambda: iter(parts)):
    found = probe.profile(problems.apply, line, batches, classes=2, points=6)
    expected = ws.along(line, found.ts, loss, DATA)
    np.testing.assert_allclose(found.losses, expected, 1e-5)
    wrong = ws.along(
      line, found.ts, lambda p, d: 1.0 - problems.accuracy(p, d), DATA
    )
    np.testing.assert_allclose(found.errors, wrong, 1e-5)
    shares = found.counts / 23
    np.testing.assert_allclose(found.class_losses @ shares, expected, 1e-5)
    np.testing.assert_allclose(found.class_errors @ shares, wrong, 1e-5, 1e-6)
  own = ws.barrier(loss, DATA, A, B, points=6)
  assert found.loss.chord == pytest.approx(own.chord, abs=1e-5)
  assert (
    found.barriers()["error, instability (Frankle 2020)"] == found.error.mean
  )
  assert len(found.barriers()) == 7 and found.loss.statistics == "none"


class Normed(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(models.BatchNorm()(nn.Dense(4)(x)))
    return nn.Dense(2)(x)


def test_each_policy_of_statistics():
  model = models.from_linen(Normed())
  a, b = (model.init(jax.random.key(k), DATA["x"][:1]) for k in (0, 1))
  inputs = [DATA["x"]]
  stats = [models.population(model, p, inputs) for p in (a, b)]
  policies = {
    "recalibrated": probe.recalibrated(model, inputs),
    "interpolated": probe.interpolated(*stats),
    "frozen": probe.frozen(stats[0]),
  }
  path, found = ws.line(a, b), {}
  for name, policy in policies.items():
    found[name] = probe.profile(
      model.apply, path, [DATA], classes=2, points=3, statistics=policy
    )
    assert found[name].loss.statistics == found[name].error.statistics == name
  middle = {
    "recalibrated": models.population(model, path(0.5), inputs),
    "interpolated": jax.tree.map(lambda x, y: (x + y) / 2, *stats),
    "frozen": stats[0],
  }
  for name, own in middle.items():
    logits = model.apply(path(0.5), DATA["x"], own)
    expected = losses.cross_entropy(logits, DATA["y"]).mean()
    assert found[name].losses[1] == pytest.approx(float(expected), 1e-4)
  ends = [found[n].losses[[0, 2]] for n in ("recalibrated", "interpolated")]
  np.testing.assert_allclose(*ends, 1e-5)
  assert profiles.none().stats(a, 0.0) is None


def test_the_best_temperature_is_that_of_a_search():
  logits = 3.0 * problems.apply(A, DATA["x"])
  noise = 2.0 * np.random.default_rng(0).normal(size=logits.shape)
  labels = jnp.asarray((logits + noise).argmax(-1))
  found = float(probe.temperature(logits, labels))
  grid = np.exp(np.linspace(-3, 3, 601))
  values = [
    float(losses.cross_entropy(logits / t, labels).mean()) for t in grid
  ]
  assert found == pytest.approx(grid[np.argmin(values)], rel=0.02)


def test_a_barrier_of_confidence_alone_is_gone_when_calibrated():
  """Same answers, logits that shrink in the middle of the line."""
  a = {"u": jnp.array(3.0), "v": jnp.array(0.3)}
  b = {"u": jnp.array(0.3), "v": jnp.array(3.0)}
  x = jnp.asarray(np.random.default_rng(0).normal(size=(200, 2)))
  y = (x[:, 0] + 0.5 * jnp.sign(x[:, 1]) > 0).astype(int)

  def apply(p, x):
    # The scale is at its least half-way.
    size = (p["u"] - p["v"]) ** 2 + 0.1
    return size * jnp.stack([-x[:, 0], x[:, 0]], 1)

  data = {"x": x, "y": y}
  plain = ws.barrier(losses.of(apply, losses.cross_entropy), data, a, b, 9)
  control = ws.barrier(probe.calibrated(apply), data, a, b, 9)
  assert np.ptp(plain.losses) > 0.1 and control.chord < 1e-3


def test_bad_input_is_named():
  line = ws.line(A, B)
  with pytest.raises(ValueError, match="points is 1, expected at least 2"):
    probe.profile(problems.apply, line, [DATA], classes=2, points=1)
  with pytest.raises(ValueError, match="no examples"):
    probe.profile(problems.apply, line, [], classes=2)
