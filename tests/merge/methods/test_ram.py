"""RAM: what tasks share, and what only one of them changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import merge


def make(count=3, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)

  def sparse(*shape):
    x = rng.normal(size=(count, *shape)) * (rng.random((count, *shape)) < 0.4)
    return jnp.asarray(x, dtype)

  base = {name: jnp.asarray(rng.normal(size=s), dtype)
          for name, s in (("w", (8, 6)), ("b", (6,)))}  # fmt: skip
  return {n: sparse(*b.shape) + b[None] for n, b in base.items()}, base


def reference(stack, base, rescale, scope, most=1.0):
  deltas = {n: np.asarray(stack[n] - base[n][None], np.float64) for n in base}
  groups = [list(base)] if scope == "global" else [[name] for name in base]
  merged = {}
  for group in groups:
    flat = np.concatenate(
      [deltas[n].reshape(len(deltas[n]), -1) for n in group], 1
    )
    on = np.abs(flat) > 1e-5
    alone, shared = on & (on.sum(0) == 1), on & (on.sum(0) > 1)
    ratio = np.minimum(shared.sum(1) / np.maximum(alone.sum(1), 1), most)
    flat = np.where(alone, flat * (1 + rescale * ratio)[:, None], flat * on)
    mean = flat.sum(0) / np.maximum(on.sum(0), 1)
    sizes = np.cumsum([base[n].size for n in group])[:-1]
    for n, part in zip(group, np.split(mean, sizes)):
      merged[n] = base[n] + part.reshape(base[n].shape)
  return merged


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("rescale", [0.0, 0.3])
def test_it_is_the_reference_in_every_way(scope, rescale):
  stack, base = make()
  recipe = merge.ram(rescale=rescale, scope=scope)
  ways = [
    recipe(stack, base=base),
    jax.jit(lambda s, b: recipe(s, base=b))(stack, base),
    merge.run(recipe, ws.unstack(stack), base),
  ]
  for merged in ways:
    for name, x in reference(stack, base, rescale, scope).items():
      np.testing.assert_allclose(merged[name], x, atol=1e-5)


def test_disjoint_changes_add_up_and_shared_ones_are_averaged():
  disjoint = {"w": jnp.array([[1.0, 0.0], [0.0, 5.0]])}
  zero = {"w": jnp.zeros(2)}
  np.testing.assert_array_equal(merge.ram()(disjoint, base=zero)["w"], [1, 5])
  shared = {"w": jnp.array([[1.0, 2.0], [3.0, 6.0]])}
  np.testing.assert_array_equal(merge.ram()(shared, base=zero)["w"], [2, 4])


def test_a_sweep_and_bfloat16():
  stack, base = make(dtype=jnp.bfloat16)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), (stack, base))
  swept = jax.vmap(lambda r: merge.ram(rescale=r)(wide[0], base=wide[1]))(
    jnp.array([0.0, 0.3])
  )
  merged = merge.ram(rescale=0.3)(stack, base=base)
  for name, x in merged.items():
    np.testing.assert_array_equal(x, swept[name][1].astype(jnp.bfloat16))


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="threshold is -1"):
    merge.ram(-1)
  with pytest.raises(ValueError, match="scope is 'row'"):
    merge.ram(scope="row")
  with pytest.raises(ValueError, match="needs base="):
    merge.ram()(make()[0])


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_a_sharded_stack_merges_alike(scope):
  stack, base = make(4)
  recipe = jax.jit(merge.ram(rescale=0.5, scope=scope))
  spread = problems.sharded(stack, ("model", "leaf"))
  problems.close(recipe(spread, base=base), recipe(stack, base=base))
