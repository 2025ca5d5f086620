"""Merges of a list of models: pieces of long leaves, NaN found on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.merge.core import leaves
from weightspace.merge.core.steps import Step

KEY = jax.random.key(3)
SHAPES = {"bias": (5,), "kernel": (23, 7), "out": (300,)}
BASE = problems.tree(9, SHAPES)
MODELS = [problems.tree(seed, SHAPES) for seed in range(3)]
ON_BASE = {
  "ties": ws.merge.ties(0.4),
  "ties of each leaf": ws.merge.ties(0.4, scope="tensor"),
  "ties of each row": ws.merge.ties(0.4, scope="row"),
  "ties with all of k": ws.merge.ties(0.4, exact=True),
  "ties like mergekit": ws.merge.ties(0.4, parity="mergekit"),
  "weighted ties": ws.merge.ties(0.4, weights=[1.0, 2.0, 0.5]),
  "largest": ws.merge.magmax(),
  "pcb": ws.merge.pcb(0.3),
}
DRAWN = {
  "dare_ties": ws.merge.dare_ties(0.5, density=0.5),
  "dare_ties of each leaf": ws.merge.dare_ties(0.5, 0.5, scope="tensor"),
  "dare like mergekit": ws.merge.dare_ties(0.5, parity="mergekit"),
}


@pytest.mark.parametrize("name", [*ON_BASE, *DRAWN])
def test_pieces_of_long_leaves_merge_as_a_stack(name, monkeypatch):
  monkeypatch.setattr(leaves, "PIECE", 64)
  monkeypatch.setattr(leaves, "MERGED", 50)
  recipe = (ON_BASE | DRAWN)[name]
  given = {"base": BASE} | ({"key": KEY} if name in DRAWN else {})
  whole = jax.jit(lambda stack: recipe(stack, **given))(ws.stack(MODELS))
  problems.close(ws.merge.run(recipe, MODELS, **given), whole)


def test_more_models_than_are_unrolled():
  many = [problems.tree(seed, SHAPES) for seed in range(70)]
  for recipe in (ws.merge.uniform(), ws.merge.ties(0.4)):
    given = {"base": BASE} if recipe.needs else {}
    whole = jax.jit(lambda s, r=recipe, g=given: r(s, **g))(ws.stack(many))
    problems.close(ws.merge.run(recipe, many, **given), whole, 1e-4, 1e-5)


def broken(tree, path, sign=1.0, place=3):
  x = np.array(tree[path])
  x.reshape(-1)[place] = np.copysign(np.nan, sign)
  return {**tree, path: x}


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nan_is_named_where_the_merge_would_hide_it(dtype, sign):
  recipe = ws.merge.ties(0.1, scope="tensor")

  def cast(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)

  base, models = cast(BASE), [cast(m) for m in MODELS]
  bad = cast(broken(MODELS[1], "out", sign))
  with pytest.raises(ValueError, match="model 1: NaN in 'out', expected"):
    ws.merge.run(recipe, [models[0], bad, models[2]], base)
  with pytest.raises(ValueError, match="base: NaN in 'kernel', expected"):
    ws.merge.run(recipe, models, cast(broken(BASE, "kernel", sign)))
  with pytest.raises(ValueError, match="base: NaN in 'kernel', expected"):
    ws.merge.run(ws.merge.uniform(), models, cast(broken(BASE, "kernel")))


def test_nan_in_a_model_that_the_recipe_drops_is_named():
  first = ws.merge.only("out", ws.merge.uniform(), rest="first")
  models = [MODELS[0], broken(MODELS[1], "kernel")]
  with pytest.raises(ValueError, match="model 1: NaN in 'kernel'"):
    ws.merge.run(first, models)


def test_infinities_may_cancel():
  """A NaN that no input has is the recipe's, and stays."""
  models = [{"w": np.float32([np.inf, 1.0])}, {"w": np.float32([-np.inf, 3.0])}]
  merged = ws.merge.run(ws.merge.uniform(), models)["w"]
  np.testing.assert_array_equal(merged, [np.nan, 2.0])


def test_a_stack_comes_back_from_steps_that_do_not_reduce():
  twice = ws.merge.chain(Step("twice", lambda x, at: 2 * x, entrywise=True))
  stacked = jax.tree.map(lambda x: 2 * x, ws.stack(MODELS))
  problems.close(ws.merge.run(twice, MODELS), stacked, 0, 0)
  with pytest.raises(ValueError, match="model 2: NaN in 'bias'"):
    ws.merge.run(twice, [*MODELS[:2], broken(MODELS[2], "bias")])


def test_a_part_of_integers_has_no_ties_to_cut():
  models = [{"n": np.arange(3), "w": m["bias"]} for m in MODELS]
  recipe = ws.merge.chain(ws.merge.trim(0.5, exact=True))
  merged = ws.merge.only("n", recipe, rest="keep")(ws.stack(models))
  np.testing.assert_array_equal(merged["n"], np.tile(np.arange(3), (3, 1)))
