"""Computed leaves: their value anywhere in a tree, and under transforms."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import parametrize as p


@flax.struct.dataclass
class Double:
  """A leaf of somebody else's: nothing but a pytree with a value."""

  half: jax.Array

  def value(self):
    return 2.0 * self.half


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def tree(seed=0):
  adapter = p.Adapter(normal(4, 2, seed=seed), normal(2, 3, seed=seed + 1), 0.5)
  return {
    "changed": p.Changed(normal(4, 3, seed=seed + 2), adapter),
    "inner": [adapter, {"double": Double(normal(2, seed=seed + 3))}],
    "plain": normal(3, seed=seed + 4),
    "steps": jnp.int32(7),
  }


def test_value_is_found_anywhere_and_plain_leaves_stay():
  given = tree()
  found = p.value(given)
  product = 0.5 * np.asarray(given["inner"][0].a @ given["inner"][0].b)
  np.testing.assert_allclose(found["inner"][0], product, atol=1e-6)
  np.testing.assert_allclose(
    found["changed"], given["changed"].base + product, atol=1e-6
  )
  np.testing.assert_array_equal(
    found["inner"][1]["double"], 2 * given["inner"][1]["double"].half
  )
  assert found["plain"] is given["plain"] and found["steps"] is given["steps"]
  assert p.value(given["inner"][0]).shape == (4, 3)  # a leaf is a tree
  assert p.value({}) == {}


def test_value_under_jit_vmap_and_grad():
  models = [tree(0), tree(10)]
  eager = [p.value(model) for model in models]
  jitted = jax.jit(p.value)(models[0])
  stacked = jax.vmap(p.value)(ws.stack(models))
  for index, one in enumerate(eager):
    for path, x in ws.trees.named(one).items():
      got = ws.trees.named(stacked)[path][index]
      np.testing.assert_allclose(got, x, atol=1e-6, err_msg=path)
  for path, x in ws.trees.named(eager[0]).items():
    np.testing.assert_allclose(ws.trees.named(jitted)[path], x, atol=1e-6)

  def loss(changed):
    return p.value({"w": changed})["w"].sum()

  slope = jax.grad(loss)(models[0]["changed"])
  assert not slope.base.any() and slope.change.scale == 0
  a, ones = models[0]["changed"].change.a, np.ones((4, 3))
  np.testing.assert_allclose(slope.change.b, 0.5 * a.T @ ones, atol=1e-5)


def test_value_of_sharded_factors_is_the_same():
  mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  one = p.Adapter(normal(8, 2), normal(2, 12, seed=1))
  spread = one.replace(
    a=jax.device_put(one.a, jax.NamedSharding(mesh, jax.P("d", None))),
    b=jax.device_put(one.b, jax.NamedSharding(mesh, jax.P(None, "d"))),
  )
  np.testing.assert_allclose(jax.jit(p.value)(spread), p.value(one), atol=1e-6)


def test_leaves_may_hold_leaves():
  kernel = normal(4, 3)
  coarse = p.quantise(kernel, bits=8)
  one = p.Changed(coarse, p.Adapter(normal(4, 1), jnp.ones((1, 3))))
  expected = coarse.value() + one.change.value()
  np.testing.assert_allclose(p.value({"w": one})["w"], expected, atol=1e-6)
  masked = p.Masked(coarse, kernel > 0)
  np.testing.assert_array_equal(
    p.value(masked), np.where(kernel > 0, coarse.value(), 0)
  )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_values_have_the_dtype_of_the_base(dtype):
  kernel = normal(6, 4).astype(dtype)
  for make in (p.lora(2), p.dora(2), p.miss(2), p.bone(2), p.kronecker(2)):
    one = p.attach(kernel, "*", make, jax.random.key(0))
    assert p.value(one).dtype == dtype
    np.testing.assert_array_equal(p.value(one), kernel)  # zero at the start


def test_double_precision_stays():
  with jax.enable_x64(True):
    a = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)))
    one = p.Changed(jnp.ones((4, 2)), p.Adapter(a, jnp.eye(2)))
    assert p.value(one).dtype == jnp.float64
    np.testing.assert_allclose(p.value(one), 1 + np.asarray(a), rtol=1e-15)


def test_errors_name_the_path():
  bad = {"x": {"w": p.Adapter(jnp.ones((4, 2)), jnp.ones((3, 3)))}}
  with pytest.raises(ValueError, match=r"'x/w'.*\(4, 2\) and \(3, 3\)"):
    p.value(bad)
  with pytest.raises(
    ValueError, match=r"'m'.*\(2, 3\) and coefficients \(3,\)"
  ):
    p.value({"m": p.Mixture(jnp.ones((2, 3)), jnp.ones(3))})


def test_what_counts_as_a_leaf():
  assert p.is_leaf(Double(jnp.ones(1)))
  for other in (jnp.ones(1), np.ones(1), {"value": 1}, [1], None, 3.0):
    assert not p.is_leaf(other)
