"""nnx modules as pure functions of a plain tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import weightspace as ws

X = jax.random.normal(jax.random.key(0), (5, 3))


class Net(nnx.Module):
  """Layers in a list, one layer used twice, BatchNorm averages beside."""

  def __init__(self, rngs: nnx.Rngs):
    self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(11)])
    self.twice = nnx.Linear(3, 3, rngs=rngs)
    self.alias = self.twice
    self.norm = nnx.BatchNorm(3, rngs=rngs)

  def __call__(self, x, scale=1.0):
    for layer in self.layers:
      x = nnx.relu(layer(x)) + x
    return self.norm(self.alias(self.twice(x))) * scale


@pytest.fixture(scope="module")
def net():
  module = Net(nnx.Rngs(0))
  module.eval()
  return module, *ws.models.from_nnx(module)


def test_same_function_and_plain_names(net):
  module, apply, params = net
  np.testing.assert_allclose(apply(params, X), module(X), rtol=1e-6)
  np.testing.assert_allclose(
    jax.jit(apply)(params, X, scale=2.0), 2.0 * module(X), rtol=1e-4, atol=1e-5
  )
  assert type(params) is type(params["layers"]) is dict
  assert set(params) == {"layers", "twice", "norm"} or "alias" in params
  assert ws.models.count(params) == 12 * 12 + 6
  for index, layer in enumerate(module.layers):  # 10 sorts before 2 as text
    kernel = params["layers"][str(index)]["kernel"]
    np.testing.assert_array_equal(kernel, layer.kernel[...])


def test_parameters_are_arguments(net):
  module, apply, params = net
  doubled = jax.tree.map(lambda w: 2.0 * w, params)
  before = module(X)
  assert jnp.abs(apply(doubled, X) - before).max() > 0.1
  np.testing.assert_array_equal(module(X), before)
  stack = ws.stack([params, doubled])
  both = jax.vmap(apply, (0, None))(stack, X)
  np.testing.assert_allclose(both[1], apply(doubled, X), rtol=1e-4, atol=1e-5)


def test_gradient_is_that_of_nnx(net):
  module, apply, params = net
  grad = jax.jit(jax.grad(lambda p: (apply(p, X) ** 2).sum()))(params)
  expected = nnx.grad(lambda m: (m(X) ** 2).sum())(module)
  np.testing.assert_allclose(
    grad["layers"]["10"]["kernel"],
    expected["layers"][10]["kernel"][...],
    rtol=1e-4,
    atol=1e-5,
  )


def test_training_mode_leaves_no_trace():
  module = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
  apply, params = ws.models.from_nnx(module)
  found = jax.jit(apply)(params, X)
  exact = (X - X.mean(0)[None]) / jnp.sqrt(X.var(0) + 1e-5)[None]
  np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(module.mean[...], jnp.zeros(3))


def test_refused(net):
  _, apply, params = net
  with pytest.raises(ValueError, match=r"from_nnx: int, expected an nnx\.M"):
    ws.models.from_nnx(3)
  less = {**params, "layers": {**params["layers"]}}
  del less["layers"]["3"]
  with pytest.raises(ValueError, match="'layers/3/bias' is missing, expected"):
    apply(less, X)
  with pytest.raises(ValueError, match=r"'more' is \(\), expected no such"):
    apply({**params, "more": jnp.ones(())}, X)
  wide = {**params, "norm": {**params["norm"], "bias": jnp.ones(4)}}
  with pytest.raises(ValueError, match=r"'norm/bias' is \(4,\), expected \(3"):
    apply(wide, X)
