"""Ridge regression on features, its penalty by members left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace.generate import fit_predictor


def problem(count=40, width=6, noise=0.3):
  random = np.random.default_rng(0)
  x = random.normal(size=(count, width)) * np.arange(1, width + 1) + 3.0
  y = x @ random.normal(size=width) + noise * random.normal(size=count) + 5.0
  return x, y


def by_hand(x, y, penalty):
  z = (x - x.mean(0)) / x.std(0)
  w = np.linalg.solve(
    z.T @ z + penalty * np.eye(x.shape[1]), z.T @ (y - y.mean())
  )
  return lambda new: (new - x.mean(0)) / x.std(0) @ w + y.mean()


@pytest.mark.parametrize("penalty", [0.0, 1.0, 100.0])
def test_it_is_ridge_regression(penalty):
  x, y = problem()
  found = fit_predictor(jnp.asarray(x), jnp.asarray(y), penalty)
  new = np.random.default_rng(1).normal(size=(7, 6))
  assert np.allclose(
    found(jnp.asarray(new)), by_hand(x, y, penalty)(new), atol=1e-2
  )


def test_members_left_out_are_predicted_without_them():
  x, y = problem(12)
  z = (x - x.mean(0)) / x.std(0)  # as all: what the closed form assumes
  found = fit_predictor(jnp.asarray(x), jnp.asarray(y), 2.0)
  for m in range(12):
    rest = np.delete(np.arange(12), m)
    a = np.c_[np.ones(11), z[rest]]
    ridge = np.diag([0.0, *[2.0] * 6])
    w = np.linalg.solve(a.T @ a + ridge, a.T @ y[rest])
    assert np.isclose(found.left_out[m], w[0] + z[m] @ w[1:], atol=1e-2)


def test_the_penalty_is_chosen_by_members_left_out():
  x, y = problem(noise=20.0)
  chosen = fit_predictor(jnp.asarray(x), jnp.asarray(y))
  errors = [
    float(
      (
        (fit_predictor(jnp.asarray(x), jnp.asarray(y), p).left_out - y) ** 2
      ).sum()
    )
    for p in (0.001, 1.0, 1000.0)
  ]
  best = float(((chosen.left_out - y) ** 2).sum())
  assert best <= min(errors) * (1 + 1e-3)


def test_more_features_than_models_and_constant_ones():
  x, y = problem(10, 6)
  wide = np.c_[x, np.ones(10), np.random.default_rng(2).normal(size=(10, 30))]
  found = fit_predictor(jnp.asarray(wide), jnp.asarray(y))
  assert np.isfinite(found(jnp.asarray(wide))).all()
  assert found.weights[6] == 0.0 or found.scale[6] == 0.0


def test_it_is_a_pytree_and_jits():
  x, y = problem()
  found = fit_predictor(jnp.asarray(x), jnp.asarray(y))
  jitted = jax.jit(lambda f, x: f(x))(found, jnp.asarray(x))
  assert np.allclose(jitted, found(jnp.asarray(x)), rtol=1e-4)


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match=r"features \(4, 2\) and targets \(3,\)"):
    fit_predictor(jnp.ones((4, 2)), jnp.ones(3))
  with pytest.raises(ValueError, match="penalty is -1"):
    fit_predictor(jnp.ones((4, 2)), jnp.ones(4), -1.0)
  with pytest.raises(ValueError, match="targets are not all finite"):
    fit_predictor(jnp.ones((4, 2)), jnp.array([1.0, jnp.nan, 1.0, 1.0]))
  predictor = fit_predictor(jnp.ones((4, 2)), jnp.ones(4))
  with pytest.raises(ValueError, match=r"expected \[..., 2\]"):
    predictor(jnp.ones((1, 3)))
