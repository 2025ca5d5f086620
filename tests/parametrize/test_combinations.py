"""Mixtures, masks and the compander: laws in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def test_mixture_is_a_sum():
  templates = RNG.normal(size=(3, 2, 4)).astype(np.float32)
  weights = RNG.normal(size=3).astype(np.float32)
  got = p.Mixture(templates, weights).value()
  np.testing.assert_allclose(
    got, np.einsum("j,jab->ab", weights, templates), atol=1e-6
  )
  half = p.Mixture(jnp.asarray(templates, "bfloat16"), weights).value()
  assert half.dtype == jnp.bfloat16
  assert p.count(p.Mixture(templates, weights)) == 27


def test_masks_cut_values_and_gradients():
  mask = jnp.array([[True, False], [False, True]])
  w = jnp.array([[1.0, jnp.nan], [3.0, 4.0]])
  one = p.Masked(w, mask)
  assert one.value().tolist() == [[1.0, 0.0], [0.0, 4.0]]
  slope = jax.grad(lambda w: p.Masked(w, mask).value().sum())(w)
  assert slope.tolist() == [[1.0, 0.0], [0.0, 1.0]]
  made = p.attach({"w": jnp.ones((2, 2))}, "w", p.masked(mask))
  assert p.value(made)["w"].sum() == 2.0


def test_masks_that_do_not_fit():
  for mask in (jnp.ones((2, 2)), jnp.ones((2, 1), bool)):
    with pytest.raises(ValueError, match=r"'w'.*mask is"):
      p.value({"w": p.Masked(jnp.ones((2, 2)), mask)})


def test_the_compander_begins_at_the_weights_and_bounds_them():
  w = RNG.uniform(-0.3, 0.3, size=1000).astype(np.float32)
  one = p.companded(0.2, 0.1)(None, w)
  np.testing.assert_allclose(one.value(), w, atol=1e-6)
  wild = one.replace(w=1e6 * RNG.normal(size=1000).astype(np.float32))
  # Float32 rounds a pi / 2 up: the bound holds up to that.
  assert np.abs(wild.value()).max() <= 0.2 * np.pi / 2 + 1e-7
  odd = one.replace(w=-one.w).value()
  np.testing.assert_array_equal(odd, -one.value())


def test_slope_of_the_compander():
  w = jnp.linspace(-1, 1, 21)
  slope = jax.grad(lambda w: p.Companded(w, 0.4, 0.2).value().sum())(w)
  np.testing.assert_allclose(slope, 0.4 * 0.2 / (0.04 + w**2), rtol=1e-5)
  assert slope[10] == 2.0


def test_the_compander_flattens_the_tails():
  w = RNG.normal(size=20_000)
  y = np.asarray(p.Companded(w.astype(np.float32), 1.0, 1.0).value())
  kurtosis = np.mean((y - y.mean()) ** 4) / np.var(y) ** 2
  assert kurtosis < 2.0


def test_learned_numbers_have_gradients():
  for learned in (True, False):
    one = p.companded(0.5, 0.5, learned)(None, jnp.array([0.2, 0.1]))
    slope = jax.grad(lambda one: one.value().sum())(one)
    assert bool(slope.a != 0) == bool(slope.b != 0) == learned


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.0, -1.0)])
def test_numbers_of_the_compander(a, b):
  with pytest.raises(ValueError, match="expected both above 0"):
    p.companded(a, b)


def test_weights_beyond_the_bound():
  with pytest.raises(ValueError, match=r"'w'.*weight is 2.0, expected"):
    p.attach({"w": jnp.array([2.0])}, "w", p.companded(1.0, 1.0))
