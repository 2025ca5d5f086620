"""Recipes see the values of computed leaves; factors only where asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge
from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), "float32")


BASE = {"w": normal(6, 4), "b": normal(4)}


def tuned(make, seed=0):
  tree = p.attach(BASE, "w", make, jax.random.key(seed))
  apart = p.changes(tree)
  moved = jax.tree.map(lambda x: x + 0.1 * normal(*jnp.shape(x)), apart)
  return p.with_changes(BASE, moved)


RECIPES = {
  "uniform": merge.uniform(),
  "TIES": merge.ties(0.5),
  "TSV": merge.tsv(),
  "arithmetic": merge.task_arithmetic(0.4),
}


def close(got, want):
  want = ws.trees.named(want)
  for path, x in ws.trees.named(got).items():
    np.testing.assert_allclose(x, want[path], atol=1e-5, err_msg=path)


MAKES = [p.bone(2), p.dora(1), p.quantised(8)]
CASES = [(name, p.lora(2)) for name in RECIPES]


@pytest.mark.parametrize(
  ("name", "make"), CASES + [("TIES", make) for make in MAKES]
)
def test_a_stack_of_leaves_is_merged_as_values(name, make):
  if make is MAKES[-1]:  # codes, of other weights
    models = [
      p.attach({**BASE, "w": normal(6, 4)}, "w", make) for _ in range(3)
    ]
  else:
    models = [tuned(make, seed) for seed in range(3)]
  values = [p.value(model) for model in models]
  want = RECIPES[name](ws.stack(values), base=BASE)
  close(RECIPES[name](ws.stack(models), base=BASE), want)
  close(merge.run(RECIPES[name], models, BASE), want)


def test_kinds_and_ranks_may_differ_in_a_list():
  models = [tuned(p.lora(1)), tuned(p.lora(3)), tuned(p.miss(2)), p.value(BASE)]
  recipe = merge.ties(0.5)
  want = recipe(ws.stack([p.value(model) for model in models]), base=BASE)
  close(merge.run(recipe, models, BASE), want)


def test_a_base_may_be_coarse():
  coarse = p.quantise(BASE, 8, only="w")
  models = [tuned(p.lora(2), seed) for seed in range(2)]
  recipe = merge.task_arithmetic(0.5)
  want = merge.run(recipe, models, p.value(coarse))
  close(merge.run(recipe, models, coarse), want)
  close(recipe(ws.stack(models), base=coarse), want)


def test_adapters_of_any_kind_are_merged_into_their_base():
  makes = (p.lora(2), p.miss(2), p.bone(2), p.dora(2), p.kronecker(2))
  models = [tuned(make, seed) for seed, make in enumerate(makes)]
  adapters = [{"w": p.changes(model)["w"]} for model in models]
  got = merge.run_adapters(merge.uniform(), adapters, BASE)
  want = np.mean([p.value(model)["w"] for model in models], 0)
  np.testing.assert_allclose(got["w"], want, atol=1e-5)
  assert got["b"] is BASE["b"]
  with pytest.raises(ValueError, match="'w' is a Miss, expected an Adapter"):
    merge.run_adapters(merge.uniform(), adapters[:2], BASE, "factors")


def test_first_members_are_the_same():
  assert merge.Adapter is p.Adapter
  kept = merge.quantise({"w": normal(5)}, 8)
  np.testing.assert_array_equal(kept.value()["w"], merge.dequantise(kept)["w"])
  assert p.is_leaf(kept)


def test_the_report_is_of_values():
  models = [tuned(p.lora(2), seed) for seed in range(2)]
  recipe = merge.ties(0.5)
  found = merge.report(recipe, ws.stack(models), base=BASE)
  want = merge.report(recipe, ws.stack([p.value(m) for m in models]), base=BASE)
  assert str(found) == str(want)
