"""Leaves that are alike share a program: results, and what it does not grow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge
from weightspace.merge.core import alike, bound, engine, steps

KEY = jax.random.key(5)


def tree(layers, seed=0, lead=(), dtype=np.float32):
  """Layers of two matrices and a norm, a matrix outside of them, a counter."""
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=(*lead, *shape)), dtype)

  inside = {
    f"layer_{index}": {"up": draw(4, 6), "down": draw(6, 4), "norm": draw(4)}
    for index in range(layers)
  }
  step = jnp.broadcast_to(jnp.int32(7), lead)
  return inside | {"embed": draw(5, 4), "steps": step}


RECIPES = {
  "dare": (lambda: merge.dare(0.5, scale=0.4), {"key": KEY}),
  "dare_ties": (lambda: merge.dare_ties(0.3, 0.5), {"key": KEY}),
  "ties": (lambda: merge.ties(0.4), {}),
  "ties of a leaf": (lambda: merge.ties(0.4, scope="tensor"), {}),
  "ties of a row": (lambda: merge.ties(0.4, scope="row"), {}),
  "ties, exactly k": (lambda: merge.ties(0.4, scope="tensor", exact=True), {}),
  "pcb": (lambda: merge.pcb(0.3), {}),
  "emr": (lambda: merge.emr(), {}),
  "iso_c": (lambda: merge.iso_c(), {}),
  "opcm": (lambda: merge.opcm(), {}),
  "sum": (lambda: merge.task_arithmetic(0.3), {}),
}


def unrolled(recipe, stack, **given):
  """The recipe leaf by leaf, on values that can be looked at."""
  return recipe(stack, **given)


@pytest.mark.parametrize("name", ["dare", "ties of a leaf", "ties", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_together_is_leaf_by_leaf(name, dtype):
  make, given = RECIPES[name]
  stack, base = tree(3, 0, (2,), dtype), tree(3, 1, (), dtype)
  recipe = make()
  got = jax.jit(lambda s, b: recipe(s, base=b, **given))(stack, base)
  wanted = unrolled(recipe, stack, base=base, **given)
  assert jax.tree.structure(got) == jax.tree.structure(wanted)
  for path, x in ws.trees.named(got).items():
    y = ws.trees.named(wanted)[path]
    assert (x.dtype, x.shape) == (y.dtype, y.shape), path
    scale = np.abs(np.asarray(y, np.float64)).max()
    bound_on_rounding = 8 * float(jnp.finfo(np.float32).eps) * scale
    if dtype != np.float32:
      bound_on_rounding = 2.0**-7 * scale
    np.testing.assert_allclose(
      np.asarray(x, np.float64),
      np.asarray(y, np.float64),
      rtol=0,
      atol=bound_on_rounding,
      err_msg=path,
    )


def equations(jaxpr):
  """The number of equations, with those of inner programs."""
  total = 0
  for equation in jaxpr.eqns:
    total += 1
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else [value]:
        inner = getattr(inner, "jaxpr", inner)
        total += equations(inner) if hasattr(inner, "eqns") else 0
  return total


def size(make, given, layers):
  recipe = make()
  stack, base = tree(layers, 0, (2,)), tree(layers, 1)
  program = jax.make_jaxpr(lambda s, b: recipe(s, base=b, **given))
  return equations(program(stack, base).jaxpr)


@pytest.mark.parametrize("name", RECIPES)
def test_a_layer_more_costs_little_more_than_its_leaves(name):
  make, given = RECIPES[name]
  few, many = size(make, given, 3), size(make, given, 6)
  # Nine leaves more: each is stacked, with its base, and taken out again, and
  # what it counts for is added; a recipe does 20 (a sum) to 900 (PCB) things.
  assert many - few <= 9 * 45, (few, many)


def test_layers_are_alike_other_names_are_not():
  arrays = {
    path: jnp.zeros((2, 3)) for path in ("a_0/q", "a_1/q", "a_0/k", "b", "c")
  }
  arrays["a_2/q"] = jnp.zeros((2, 4))
  arrays["a_3/q"] = jnp.zeros((2, 3), jnp.bfloat16)
  groups = alike.together(arrays, lambda path: None)
  assert ("a_0/q", "a_1/q") in groups and len(groups) == 6


def test_what_differs_by_leaf_stays_with_it():
  """Masks hang on the path, bases and statistics on the leaf."""
  stack = {f"layer_{i}": jnp.ones((2, 8)) * (i + 1) for i in range(3)}
  base = {f"layer_{i}": jnp.ones(8) * i for i in range(3)}
  recipe = merge.dare(0.5)
  jitted = jax.jit(lambda s, b, k: recipe(s, base=b, key=k))
  got, wanted = jitted(stack, base, KEY), recipe(stack, base=base, key=KEY)
  jax.tree.map(np.testing.assert_array_equal, got, wanted)
  assert len({np.asarray(x).tobytes() for x in got.values()}) == 3
  onto = merge.transfer(1.0)
  target = {f"layer_{i}": jnp.full(8, 10.0 * i) for i in range(3)}
  moved = jax.jit(lambda s, b, t: onto(s, base=b, target=t))(
    stack, base, target
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    moved,
    onto(stack, base=base, target=target),
  )


def test_hyper_parameters_by_layer_are_kept_apart():
  scale = {"layer_0*": 0.5, "*": 1.0}
  recipe = merge.per_layer(merge.ties, density=0.5, scale=scale)
  stack, base = tree(3, 0, (2,)), tree(3, 1)
  got = jax.jit(lambda s, b: recipe(s, base=b))(stack, base)
  wanted = recipe(stack, base=base)
  for path, x in ws.trees.named(got).items():
    y = ws.trees.named(wanted)[path]
    np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=path)


def test_rows_come_apart_in_their_order():
  rows = {"a": jnp.arange(6.0).reshape(3, 2), "b": jnp.arange(3)}
  got = jax.jit(alike.apart)(rows)
  assert [x["b"].item() for x in got] == [0, 1, 2]
  assert [x["a"].tolist() for x in got] == [[0, 1], [2, 3], [4, 5]]
  assert alike.apart(jnp.ones((1, 2)))[0].tolist() == [1.0, 1.0]


def test_a_bound_recipe_measures_once_what_every_leaf_uses():
  counted = []

  def seen(state, item):
    counted.append(1)
    return state + item[0].size

  total = steps.Measure(lambda _: 0, seen, lambda n: n)
  step = steps.Step("count", lambda x, at: x * at.measured, measures=(total,))
  arrays = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 1))}
  begun = bound.bind((step,), arrays)
  ready = begun.measure(begun.over(arrays))
  assert begun.measured == () and len(counted) == 2
  got = {p: engine.finish(ready.leaf(p), x) for p, x in arrays.items()}
  assert (
    got["a"].tolist() == [[8.0] * 3] * 2 and got["b"].tolist() == [[8.0]] * 2
  )
