"""Convolutions in any order are the same in the order that is fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace.jaxpr import graph
from weightspace.jaxpr.convolutions import canonical

LAST = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
ORDERS = [
  ("NHWC", "HWIO", "NHWC"),
  ("NCHW", "OIHW", "NCHW"),
  ("CHWN", "IHWO", "HWNC"),
  ("HNWC", "OHIW", "WCHN"),
]
SETTINGS = [
  {"window_strides": (1, 1), "padding": "SAME"},
  {"window_strides": (2, 1), "padding": ((1, 0), (2, 3))},
  {"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 1)},
  {
    "window_strides": (1, 1),
    "padding": ((0, 1), (1, 1)),
    "lhs_dilation": (1, 2),
  },
]
SIZES = {"N": 3, "H": 7, "W": 6, "C": 4, "I": 4, "O": 8}


def numbers(letters, seed, sizes=SIZES):
  shape = [sizes[letter] for letter in letters]
  drawn = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(drawn, jnp.float32)


def orders(function, *args):
  return [
    eqn.params["dimension_numbers"]
    for eqn in graph.trace(function, *args).equations
    if eqn.primitive.name == "conv_general_dilated"
  ]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("setting", SETTINGS)
def test_values_and_gradients_are_the_same(order, setting):
  x = numbers(order[0], 0)
  kernel = numbers(order[1], 1, SIZES | {"H": 3, "W": 2})

  def loss(x, kernel):
    found = jax.lax.conv_general_dilated(
      x, kernel, dimension_numbers=order, **setting
    )
    return (found**2).sum(), found

  both = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
  (gx, gk), y = both(x, kernel)
  (hx, hk), z = jax.jit(canonical(both))(x, kernel)
  assert set(orders(canonical(both), x, kernel)) == {LAST}
  np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(gx, hx, rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(gk, hk, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("groups", ["feature_group_count", "batch_group_count"])
def test_groups(groups):
  sizes = SIZES | {"N": 4}
  x = numbers("NCHW", 0, sizes)
  into = {"I": 2} if groups[0] == "f" else {"I": 4}
  kernel = numbers("OIHW", 1, sizes | into | {"H": 3, "W": 3})

  def apply(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", **{groups: 2}
    )

  assert orders(canonical(apply), x, kernel) == [LAST]
  expected, found = apply(x, kernel), canonical(apply)(x, kernel)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_other_functions_keep_their_own_rules():
  """Nothing to do: the function itself is called, with its derivatives."""

  @jax.custom_jvp
  def double(x):
    return 2.0 * x

  double.defjvp(lambda p, t: (double(*p), 7.0 * t[0]))
  assert jax.grad(canonical(double))(1.0) == 7.0


def test_trees_and_what_is_closed_over():
  x, kernel = numbers("NCHW", 0), numbers("OIHW", 1, SIZES | {"H": 3, "W": 3})

  def apply(tree):
    y = jax.lax.conv(tree["x"], kernel * scale, (1, 1), "SAME")
    return {"y": y, "same": tree["x"], "one": 1.0}

  def inside(s):
    nonlocal scale
    scale = s
    return canonical(apply)({"x": x})

  scale = 2.0
  expected = apply({"x": x})
  found = jax.jit(inside)(2.0)
  assert found["one"] == 1.0
  np.testing.assert_array_equal(found["same"], x)
  np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)
