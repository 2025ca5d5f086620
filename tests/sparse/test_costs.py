"""Costs by density: convolutions, shared weights, scanned layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import sparse
from weightspace.jaxpr import flops

KEY = jax.random.key(0)


def layers(params, x):
  """A convolution, scanned dense layers, and a head that is used twice."""
  x = jax.lax.conv_general_dilated(
    x,
    params["conv"].astype(jnp.float32),
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  x = x.mean((1, 2))
  x, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["blocks"])
  return (x @ params["head"]) @ params["head"].T


PARAMS = {
  "blocks": np.ones((5, 4, 4), np.float32),
  "conv": np.ones((3, 3, 2, 4), np.float32),
  "head": np.ones((4, 6), np.float32),
}
X = np.ones((2, 6, 6, 2), np.float32)
# Twice the multiplications: of the convolution, of a layer, of the head.
COSTS = {
  "conv": 2 * 2 * 6 * 6 * 9 * 2 * 4,
  "blocks": 5 * 2 * 2 * 4 * 4,
  "head": 2 * 2 * 2 * 4 * 6,
}


@pytest.mark.parametrize("density", [0.25, 1.0])
def test_costs_are_those_of_the_kept(density):
  mask = sparse.random(KEY, PARAMS, density)
  shares = {p: k / PARAMS[p].size for p, k in sparse.counts(mask).items()}
  found = sparse.flops(layers, PARAMS, mask, X)
  wanted = sum(COSTS[path] * share for path, share in shares.items())
  np.testing.assert_allclose(found, wanted, rtol=1e-9)
  if density == 1.0:
    assert found == flops.operations(jax.make_jaxpr(layers)(PARAMS, X))
  shapes = jax.eval_shape(lambda: (PARAMS, X))
  assert sparse.flops(layers, shapes[0], mask, shapes[1]) == found


def test_branches_and_loops():
  mask = {"w": np.array([[True, False], [False, False]])}

  def apply(params, x):
    x = jax.lax.cond(x.sum() > 0, lambda x: x @ params["w"], lambda x: x, x)
    return jax.lax.while_loop(
      lambda x: x.sum() > 9, lambda x: x @ params["w"].T, x
    )

  found = sparse.flops(apply, {"w": np.ones((2, 2))}, mask, np.ones((3, 2)))
  assert found == 2 * 24 * 0.25


def test_equal_cost_is_exact_where_the_counts_are():
  """Twice as wide with as many weights costs what the dense layer does."""
  wide = sparse.wide(8, 0.75)
  dense = {"w": np.ones((8, 8))}
  shares = sparse.densities({"w": wide * wide}, 64)
  mask = sparse.random(KEY, {"w": np.ones((wide, wide))}, shares)

  def apply(params, x):
    return x @ params["w"]

  costs = [
    sparse.flops(apply, params, keep, np.ones((5, len(params["w"]))))
    for params, keep in (
      (dense, {"w": np.ones((8, 8), bool)}),
      ({"w": np.ones((wide, wide))}, mask),
    )
  ]
  assert costs[0] == costs[1] == 2 * 5 * 64


def test_a_wrong_mask_is_named():
  with pytest.raises(ValueError, match="'conv' is missing"):
    sparse.flops(layers, PARAMS, {"blocks": np.ones((5, 4, 4), bool)}, X)
