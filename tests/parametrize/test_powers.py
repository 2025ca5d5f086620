"""The exponent that is best: known answers, and learned against searched."""

import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def error(w, power, bits=4):
  kept = p.quantise(w, bits, "leaf", "power", power)
  return float(np.linalg.norm(np.asarray(kept.value()) - w))


def test_known_exponents():
  bell = RNG.normal(size=100_000).astype(np.float32)
  assert abs(p.best_power(bell, 4, scale="leaf") - 0.646) < 0.04
  even = RNG.uniform(-1, 1, size=100_000).astype(np.float32)
  assert abs(p.best_power(even, 4, scale="leaf") - 1.0) < 0.04
  tails = RNG.laplace(size=100_000).astype(np.float32)
  assert p.best_power(tails, 4, scale="leaf") < 0.56


def test_no_point_of_a_grid_is_better():
  w = RNG.normal(size=300).astype(np.float32)
  found = p.best_power(w, 3, scale="leaf")
  grid = [error(w, power, 3) for power in np.linspace(0.1, 1.5, 71)]
  assert error(w, found, 3) <= min(grid) + 1e-5


def test_scale_does_not_matter():
  w = RNG.normal(size=3000).astype(np.float32)
  one, other = (p.best_power(c * w, 4, scale="leaf") for c in (1.0, 8.0))
  assert abs(one - other) < 0.02


def test_for_each_leaf_and_for_all():
  tree = {
    "bell": {"kernel": RNG.normal(size=(400, 20)).astype(np.float32)},
    "even": {"kernel": RNG.uniform(-1, 1, (400, 20)).astype(np.float32)},
    "bias": RNG.normal(size=5).astype(np.float32),
    "steps": jnp.int32(3),
  }
  each = p.best_power(tree, 4, "leaf", only="*kernel")
  assert each["bell"]["kernel"] < 0.8 < each["even"]["kernel"]
  assert each["bias"] == 1.0 and each["steps"] == 1.0
  every = p.best_power(tree, 4, only="*kernel")
  assert each["bell"]["kernel"] - 0.05 < every < each["even"]["kernel"] + 0.05
  kept = p.quantise(tree, 4, curve="power", power=each, only="*kernel")
  assert p.is_leaf(kept["bell"]["kernel"]) and not p.is_leaf(kept["bias"])


def test_on_a_loss():
  w = RNG.normal(size=(64, 8)).astype(np.float32)
  x = RNG.normal(size=(200, 64)).astype(np.float32)

  def loss(params):
    return jnp.mean((x @ params["w"] - x @ w) ** 2)

  found = p.best_power({"w": w}, 3, loss=loss)

  def rise(power):
    kept = p.quantise({"w": w}, 3, curve="power", power=power)
    return float(loss(p.value(kept)))

  assert rise(found) <= min(rise(a) for a in (0.5, 0.7, 0.9, 1.0)) + 1e-6
  learned, losses = p.learn_power(
    lambda params, x: (x @ params["w"] - x @ w) ** 2, {"w": w}, x, 3, steps=20
  )
  assert losses.min() <= losses[0] and losses.shape == (21,)
  assert losses.min() <= 1.1 * rise(found) and learned["w"] < 1.0


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"scope": "row"}, "scope is 'row'"),
    ({"scope": "leaf", "loss": lambda p: 0.0}, "scope='all' only"),
    ({"bits": 1}, "bits is 1"),
    ({"only": "x"}, "'x' fits no path"),
  ],
)
def test_what_best_power_refuses(settings, message):
  with pytest.raises(ValueError, match=message):
    p.best_power({"w": jnp.ones(3)}, **settings)


def test_what_learn_power_refuses():
  loss = lambda params, x: x  # noqa: E731
  with pytest.raises(ValueError, match="steps is 0"):
    p.learn_power(loss, {"w": jnp.ones(3)}, jnp.ones(1), steps=0)
  with pytest.raises(ValueError, match="power is"):
    p.learn_power(loss, {"w": jnp.ones(3)}, jnp.ones(1), start=-1.0)
