"""Images that have a teacher's labels and BatchNorm statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import losses, models
from weightspace.generate import statistics_gap, synthesise

KEY = jax.random.key(0)


@functools.cache
def teacher():
  model = models.build("vgg", widths=(3, 4), depths=(1, 1), norm="batch")
  x = jax.random.normal(KEY, (32, 4, 4, 1))
  params = model.init(KEY, x)
  return model, params, models.population(model, params, [x]), x


def test_the_population_has_no_gap_to_itself():
  model, params, stats, x = teacher()
  assert statistics_gap(model.moments, params, stats, x) < 1e-4
  assert statistics_gap(model.moments, params, stats, x[:3]) > 0.01


def test_it_is_its_formula():
  model, params, stats, _ = teacher()
  x = jax.random.normal(jax.random.key(1), (5, 4, 4, 1))
  measured = model.moments(params, stats, x)
  total = 0.0
  for name, factor in (("norm_0", 10.0), ("norm_1", 1.0)):
    mean, var = (
      np.linalg.norm(measured[name][k] - stats[name][k])
      for k in ("mean", "var")
    )
    total += factor * (mean + 11.0 * var)
  found = statistics_gap(
    model.moments, params, stats, x, variance=11.0, factors={"norm_0": 10.0}
  )
  assert np.isclose(found, total, rtol=1e-4)


def test_synthesis_lowers_what_it_descends_on():
  model, params, stats, x = teacher()
  data = {"x": x[:6], "y": jnp.arange(6)}

  def terms(images):
    right = losses.cross_entropy(
      model.apply(params, images, stats), data["y"]
    ).mean()
    return right, statistics_gap(model.moments, params, stats, images)

  made = synthesise(
    model, params, stats, data, steps=40, weight=0.5, variance=1.0
  )
  before, after = terms(data["x"]), terms(made)
  assert after[0] < before[0] and np.isfinite(made).all()
  assert after[0] + 0.5 * after[1] < 0.8 * (before[0] + 0.5 * before[1])
  free = synthesise(model, params, stats, data, steps=40, weight=0.0)
  assert terms(free)[1] > after[1]


@pytest.mark.slow
def test_one_step_is_adams():
  model, params, stats, x = teacher()
  data = {"x": x[:2], "y": jnp.array([1, 2])}
  made = synthesise(model, params, stats, data, steps=1, weight=0.0)
  slope = jax.grad(
    lambda x: losses.cross_entropy(
      model.apply(params, x, stats), data["y"]
    ).mean()
  )(data["x"])
  clear = np.abs(slope) > 1e-5
  assert np.allclose(
    (made - data["x"])[clear], -0.25 * np.sign(slope)[clear], atol=1e-3
  )


@pytest.mark.slow
def test_jitter_needs_a_key_and_changes_the_way():
  model, params, stats, x = teacher()
  data = {"x": x[:2], "y": jnp.array([1, 2])}
  plain = synthesise(model, params, stats, data, steps=3)
  rolled = synthesise(model, params, stats, data, steps=3, jitter=2, key=KEY)
  assert not np.allclose(plain, rolled)
  with pytest.raises(ValueError, match="a key for a jitter"):
    synthesise(model, params, stats, data, jitter=1)


def test_bad_input_is_refused():
  model, params, stats, x = teacher()
  data = {"x": x[:2], "y": jnp.array([1, 2])}
  with pytest.raises(ValueError, match="0 steps"):
    synthesise(model, params, stats, data, steps=0)
  with pytest.raises(ValueError, match="no BatchNorm statistics"):
    synthesise(model, params, {}, data, steps=1)
  with pytest.raises(ValueError, match="no BatchNorm at 'norm_9'"):
    synthesise(model, params, stats, data, steps=1, factors={"norm_9": 2.0})
  bad = data | {"x": jnp.full((2, 4, 4, 1), jnp.nan)}
  with pytest.raises(ValueError, match="data: NaN in 'x'"):
    synthesise(model, params, stats, bad, steps=1)
