"""Every recipe lowers for other platforms, with no call back to the host."""

import jax
import jax.numpy as jnp
import pytest

from tests.merge import test_recipes_matrix as matrix
from weightspace import merge

QUICK = ("dare", "dare_ties", "linear", "task_arithmetic", "ties", "transfer")


def module(name, platform):
  """The program of a recipe on the matrix's small trees, as text."""
  line = matrix.row(name)
  recipe = merge.RECIPES[name](**line.hyper)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
    (matrix.draw(0, line.most), matrix.given(line)),
  )
  call = jax.jit(lambda stack, names: recipe(stack, **names))
  return jax.export.export(call, platforms=[platform])(*shapes).mlir_module()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
    for name in sorted(merge.RECIPES)
  ],
)
def test_a_recipe_lowers_without_the_host_and_float64(name, platform):
  text = module(name, platform)
  assert "callback" not in text
  assert "f64" not in text


def test_a_call_back_and_float64_would_be_seen():
  def looks(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda y: y, shape, x)

  assert "callback" in jax.jit(looks).lower(jnp.ones(2)).as_text()
  with jax.enable_x64(True):
    wide = jax.ShapeDtypeStruct((2,), jnp.float64)
    doubled = jax.export.export(jax.jit(lambda x: 2 * x), platforms=["tpu"])
    assert "f64" in doubled(wide).mlir_module()
