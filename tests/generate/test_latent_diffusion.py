"""Diffusion of vectors, and the Gaussian that it is compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace.generate import conditional_gaussian, ddpm
from weightspace.generate.latent_diffusion import kept_shares

KEY = jax.random.key(0)
NONE = jnp.zeros((3, 0))


def test_shares_are_their_product():
  shares = kept_shares(1000)
  beta = np.linspace(np.sqrt(0.0015), np.sqrt(0.0155), 1000) ** 2
  assert np.allclose(shares, np.cumprod(1 - beta), rtol=1e-4)
  for steps in (50, 100, 1000):
    assert kept_shares(steps)[-1] < 1e-2  # nothing but noise is left


def test_perfect_denoisers_give_the_data_back():
  """With e(z, t) = z sqrt(1 - a), the best of N(0, 1), samples are N(0, 1)."""
  model = ddpm(jnp.eye(3), None, KEY, steps=50, width=4, epochs=1, batch_size=3)

  class Best(type(model)):
    def _noise_in(self, z, t, c):
      return z * jnp.sqrt(1 - self.kept[t])[:, None]

  best = Best(**{f: getattr(model, f) for f in model.__dataclass_fields__})
  best = best.replace(center=jnp.full(3, 5.0), scale=jnp.array([1.0, 2.0, 3.0]))
  samples = np.asarray(best.sample(KEY, jnp.zeros((4000, 0))))
  assert np.allclose(samples.mean(0), 5.0, atol=0.2)
  assert np.allclose(samples.std(0), [1.0, 2.0, 3.0], rtol=0.08)


def test_it_learns_what_a_condition_means():
  c = jnp.repeat(jnp.eye(2), 64, 0)
  z = 4.0 * c[:, :1] + 0.1 * jax.random.normal(KEY, (128, 1)) + 10.0
  settings = {"epochs": 500, "batch_size": 64, "learning_rate": 3e-3}
  model = ddpm(z, c, KEY, steps=20, width=32, **settings)
  assert model.losses[-1] < 0.5 * model.losses[0]
  samples = model.sample(jax.random.key(1), jnp.repeat(jnp.eye(2), 32, 0))
  ends = samples[:32].mean(), samples[32:].mean()
  assert np.allclose(ends, [14.0, 10.0], atol=0.7)


def test_a_condition_may_be_a_set():
  """What counts are the elements, in any order and number."""
  label = jnp.repeat(jnp.array([0.0, 1.0]), 64)[:, None]
  noise = 0.1 * jax.random.normal(KEY, (128, 6, 1))
  sets, z = label[:, None] + noise, 4.0 * label + 10.0
  settings = {"epochs": 300, "batch_size": 64, "learning_rate": 3e-3}
  model = ddpm(z, sets, KEY, steps=20, width=16, layers=1, **settings)
  few = jnp.stack([jnp.full((3, 1), v) for v in (0.0, 1.0)])
  ends = model.sample(KEY, jnp.repeat(few, 16, 0)).reshape(2, 16).mean(1)
  assert np.allclose(ends, [10.0, 14.0], atol=1.0)
  turned = model.sample(KEY, sets[:4, ::-1])
  assert np.allclose(model.sample(KEY, sets[:4]), turned, atol=1e-4)
  with pytest.raises(ValueError, match=r"\(4, 1\), expected \[K, S, 1\]"):
    model.sample(KEY, label[:4])


def test_samples_depend_on_the_key_and_their_place_alone():
  z = jax.random.normal(KEY, (8, 2))
  model = ddpm(z, None, KEY, steps=5, width=4, epochs=1, batch_size=8)
  one, two = (model.sample(KEY, jnp.zeros((n, 0))) for n in (3, 5))
  assert np.allclose(one, two[:3], atol=1e-5)
  assert not np.allclose(one[0], one[1])
  assert not np.allclose(
    one, model.sample(jax.random.key(1), jnp.zeros((3, 0)))
  )
  jitted = jax.jit(lambda m, k, c: m.sample(k, c))(
    model, KEY, jnp.zeros((3, 0))
  )
  assert np.allclose(jitted, one, atol=1e-4)


@pytest.mark.parametrize(
  "change,words",
  [
    ({"steps": 1}, "steps is 1"),
    ({"batch_size": 9}, "batch_size is 9, expected 1 to 8"),
    ({"betas": (0.5, 0.1)}, "expected 0 < first <= last < 1"),
    ({"conditions": jnp.ones((7, 2))}, r"conditions \(7, 2\)"),
    ({"z": jnp.full((8, 2), jnp.nan)}, "NaN in 'z'"),
  ],
)
def test_bad_input_is_refused(change, words):
  given = {"z": jnp.ones((8, 2)), "conditions": None, "batch_size": 8} | change
  with pytest.raises(ValueError, match=words):
    ddpm(given.pop("z"), given.pop("conditions"), KEY, epochs=1, **given)


def test_conditions_of_another_size_are_refused():
  model = ddpm(
    jnp.ones((4, 2)), jnp.ones((4, 3)), KEY, width=4, epochs=1, batch_size=4
  )
  with pytest.raises(ValueError, match=r"\(2, 1\), expected \[K, 3\]"):
    model.sample(KEY, jnp.ones((2, 1)))


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_the_gaussian_is_ridge_regression(penalty):
  random = np.random.default_rng(0)
  c = random.normal(size=(50, 3))
  z = c @ random.normal(size=(3, 2)) + random.normal(size=(50, 2)) + 4.0
  found = conditional_gaussian(jnp.asarray(z), jnp.asarray(c), penalty)
  x, y = c - c.mean(0), z - z.mean(0)
  weights = np.linalg.solve(x.T @ x + penalty * np.eye(3), x.T @ y)
  assert np.allclose(found.weights, weights, atol=1e-4)
  rest = y - x @ weights
  covariance = found.spread @ found.spread.T
  assert np.allclose(covariance, rest.T @ rest / 50, atol=1e-4)


def test_the_gaussian_samples_its_mean_and_covariance():
  z = jax.random.normal(KEY, (200, 2)) @ jnp.array([[2.0, 1.0], [0.0, 0.5]])
  found = conditional_gaussian(z, jnp.zeros((200, 0)))
  samples = found.sample(jax.random.key(1), jnp.zeros((20000, 0)))
  assert np.allclose(samples.mean(0), z.mean(0), atol=0.06)
  assert np.allclose(np.cov(samples.T), np.cov(z.T, ddof=0), atol=0.15)


def test_the_gaussian_refuses():
  with pytest.raises(ValueError, match="penalty is -1"):
    conditional_gaussian(jnp.ones((3, 1)), jnp.ones((3, 1)), -1.0)
  with pytest.raises(ValueError, match=r"\[M, d\] and \[M, c\]"):
    conditional_gaussian(jnp.ones((3, 1)), jnp.ones((4, 1)))
  found = conditional_gaussian(jnp.ones((3, 1)), jnp.ones((3, 2)))
  with pytest.raises(ValueError, match=r"expected \[K, 2\]"):
    found.sample(KEY, jnp.ones((1, 1)))
