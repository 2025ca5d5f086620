"""Recipes for parts of a tree, schedules over layers, models that differ."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge

NAMES = ("embed", "block_0/w", "block_1/w", "block_2/w", "norm", "head")


def make(count=3, seed=0):
  rng = np.random.default_rng(seed)

  def draw(*lead):
    flat = {n: jnp.asarray(rng.normal(size=(*lead, 4)), "f4") for n in NAMES}
    tree = {n: flat[n] for n in ("embed", "norm", "head")}
    return tree | {f"block_{i}": {"w": flat[f"block_{i}/w"]} for i in range(3)}

  return draw(count), draw()


def flat(tree):
  return {n: np.asarray(x) for n, x in ws.trees.named(tree).items()}


def same(a, b, tolerance=0.0):
  assert flat(a).keys() == flat(b).keys()
  for path, x in flat(a).items():
    np.testing.assert_allclose(
      x, flat(b)[path], atol=tolerance, rtol=0, err_msg=path
    )


def part(tree, pattern):
  return {n: x for n, x in ws.trees.named(tree).items() if re.match(pattern, n)}


@pytest.mark.parametrize("rest", ["base", "first", "mean"])
def test_only_is_the_recipe_on_a_pruned_tree(rest):
  """Global thresholds and sign ties see the matched leaves alone."""
  stack, base = make()
  recipe = merge.ties(0.3)
  got = flat(merge.only("block_*", recipe, rest)(stack, base=base))
  wanted = recipe(part(stack, "block"), base=part(base, "block"))
  rests = {
    "base": base,
    "first": jax.tree.map(lambda x: x[0], stack),
    "mean": jax.tree.map(lambda x: x.mean(0), stack),
  }
  for path in NAMES:
    expected = wanted.get(path, flat(rests[rest])[path])
    np.testing.assert_allclose(got[path], expected, atol=1e-6, err_msg=path)
  everywhere = recipe(stack, base=base)["block_0"]["w"]
  assert not np.allclose(got["block_0/w"], everywhere)  # another threshold


@pytest.mark.parametrize("pattern", ["*", re.compile("")])
def test_a_pattern_of_everything_merges_everything(pattern):
  stack, base = make()
  recipe = merge.ties(0.3)
  same(merge.only(pattern, recipe)(stack, base=base), recipe(stack, base=base))


def test_parts_take_the_first_pattern_that_fits():
  stack, base = make()
  recipe = merge.by_part(
    {
      re.compile("block_1"): merge.task_arithmetic(0.5),
      "block_*": merge.slerp(0.0),
      "*": merge.uniform(),
    }
  )
  stack = jax.tree.map(lambda x: x[:2], stack)
  got = recipe(stack, base=base)
  same(got["block_0"], jax.tree.map(lambda x: x[0], stack["block_0"]), 1e-6)
  x, start = flat(stack)["block_1/w"], flat(base)["block_1/w"]
  np.testing.assert_allclose(
    got["block_1"]["w"], start + 0.5 * (x - start).sum(0), atol=1e-6
  )
  np.testing.assert_allclose(got["head"], stack["head"].mean(0), atol=1e-6)


def test_parts_of_parts_are_parts():
  stack, base = make()
  stretched = merge.per_layer(
    merge.task_arithmetic, scale=merge.gradient([0.1, 0.3])
  )
  inner = merge.by_part({"*0*": merge.uniform(), "*": stretched})
  got = merge.only("block_*", inner)(stack, base=base)
  third = merge.task_arithmetic(0.3)(stack, base=base)
  first = merge.task_arithmetic(0.1)(stack, base=base)
  mean = merge.uniform()(stack)
  wanted = {"block_0": mean, "block_1": first, "block_2": third}
  same(got, base | {n: tree[n] for n, tree in wanted.items()}, 1e-6)


def test_a_stack_stays_a_stack_where_only_keeps_the_rest():
  stack, _ = make()
  trimmed = merge.only("block_*", merge.trim(0.25), rest="keep")
  got = merge.chain(trimmed, merge.uniform())(stack)
  np.testing.assert_allclose(got["head"], stack["head"].mean(0), atol=1e-6)
  alone = merge.chain(merge.trim(0.25), merge.uniform())(part(stack, "block"))
  np.testing.assert_allclose(got["block_1"]["w"], alone["block_1/w"], atol=1e-6)


RECIPES = {
  "only": lambda: merge.only("block_*", merge.ties(0.3), rest="mean"),
  "nested": lambda: merge.only(
    "block_*", merge.by_part({"*0*": merge.ties(0.3), "*": merge.dare(0.5)})
  ),
  "spectral": lambda: merge.only("head", merge.uniform(), merge.ties(0.5)),
  "gradient": lambda: merge.per_layer(
    merge.ties, density=merge.gradient([0.2, 0.8]), scale={"head": 2.0, "*": 1}
  ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_in_memory_jit_and_leaf_by_leaf_agree(name):
  stack, base = make()
  recipe, key = RECIPES[name](), jax.random.key(0)
  eager = recipe(stack, base=base, key=key)
  same(jax.jit(recipe)(stack, base=base, key=key), eager, 1e-6)
  same(merge.run(recipe, ws.unstack(stack), base, key=key), eager, 1e-6)
  again = merge.run(
    recipe, ws.unstack(part(stack, "b|h")), part(base, "b|h"), key=key
  )  # the same recipe on another tree
  assert again.keys() == part(stack, "b|h").keys()


def test_a_scale_by_pattern_leaves_the_threshold_of_the_whole_tree():
  stack, base = make()
  recipe = merge.per_layer(merge.ties, density=0.3, scale={"h*": 2.0, "*": 1.0})
  got, plain = recipe(stack, base=base), merge.ties(0.3)(stack, base=base)
  doubled = base["head"] + 2 * (plain["head"] - base["head"])
  same(got, plain | {"head": doubled}, 1e-6)


@pytest.mark.parametrize("density", [0.6, 1.0])
def test_a_density_by_pattern_is_a_threshold_of_the_whole_tree(density):
  stack, base = make()
  recipe = merge.per_layer(merge.ties, density={"h*": density, "*": 0.3})
  loose, tight = (merge.ties(d)(stack, base=base) for d in (density, 0.3))
  same(recipe(stack, base=base), tight | {"head": loose["head"]}, 1e-6)


@pytest.mark.parametrize(
  "outside, scales",
  [("ends", [1, 1, 2.5, 4, 4, 4]), ("first", [1, 1, 2.5, 4, 1, 1])],
)
def test_gradient_is_piecewise_linear_over_layers(outside, scales):
  stack, base = make(1)
  scale = merge.gradient([1.0, 2.0, 3.0, 4.0], outside=outside)
  got = merge.per_layer(merge.task_arithmetic, scale=scale)(stack, base=base)
  for path, factor in zip(NAMES, scales):
    x, start = flat(stack)[path][0], flat(base)[path]
    np.testing.assert_allclose(
      flat(got)[path], start + factor * (x - start), atol=1e-5, err_msg=path
    )


def test_gradient_counts_stages_and_blocks():
  paths = [f"stage_{s}/block_{b}" for s in (0, 1) for b in (0, 1, 2)]
  stack = {p: jnp.ones(1) for p in paths}
  base = {p: jnp.zeros(()) for p in paths}
  scale = merge.gradient([0.0, 1.0], layer=r"stage_(\d+)/block_(\d+)")
  got = merge.per_layer(merge.task_arithmetic, scale=scale)(stack, base=base)
  np.testing.assert_allclose(
    [got[p] for p in paths], np.arange(6) / 5, atol=1e-6
  )


def test_vmap_over_a_scheduled_scale_equals_single_calls():
  stack, base = make()

  def merged(scale):
    schedule = {"block_*": merge.gradient([0.0, scale]), "*": 1.0}
    return merge.per_layer(merge.task_arithmetic, scale=schedule)(
      stack, base=base
    )

  scales = jnp.array([0.5, 2.0])
  swept = jax.jit(jax.vmap(merged))(scales)
  for index, scale in enumerate(scales):
    same(jax.tree.map(lambda x, i=index: x[i], swept), merged(scale), 1e-6)


def test_bad_patterns_and_schedules_are_named():
  stack, base = make()

  def fails(recipe, *words):
    with pytest.raises(ValueError) as error:
      recipe(stack, base=base)
    assert all(word in str(error.value) for word in words), error.value

  arithmetic = merge.task_arithmetic
  fails(merge.only("layer_*", merge.uniform()), "'layer_*'", "matches nothing")
  fails(merge.only(("a", "b"), merge.uniform()), "is a tuple")
  fails(merge.by_part({"b*": merge.uniform()}), "'embed'", "no pattern")
  fails(merge.per_layer(arithmetic, scale={"b*": 1.0}), "scale", "'embed'")
  fails(
    merge.per_layer(arithmetic, scale=merge.gradient([0, 1], before="x")),
    "'embed'",
    "before=",
  )
  fails(
    merge.per_layer(arithmetic, scale=merge.gradient([0, 1], layer="q(.)")),
    "no layer number",
  )


def test_bad_recipes_are_named():
  stack, base = make()

  def lengths(count):
    return merge.chain(*[merge.Step("double", lambda x, at: x)] * count)

  with pytest.raises(ValueError, match=r"recipes of \[1, 2\] steps"):
    merge.per_layer(lengths, count={"head": 1, "*": 2})(stack)
  nested = merge.per_layer(
    lambda density: merge.only("head", merge.ties(density)), density=0.3
  )
  with pytest.raises(ValueError, match="inside of only"):
    nested(stack, base=base)
  with pytest.raises(ValueError, match="needs base="):
    merge.only("head", merge.uniform())(stack)
  with pytest.raises(ValueError, match="some recipes return a model"):
    merge.only("head", merge.trim(0.5))
  with pytest.raises(ValueError, match="rest is 'last'"):
    merge.only("head", merge.uniform(), rest="last")
  with pytest.raises(ValueError, match="at least one"):
    merge.gradient([])
  with pytest.raises(ValueError, match="got Opcm, expected a Step"):
    merge.only("head", merge.opcm())


@pytest.mark.parametrize("rest", ["base", "first"])
def test_models_of_other_heads_share_the_rest(rest):
  stack, base = make()
  models = ws.unstack(stack)
  for index, model in enumerate(models):
    model["head"] = jnp.full(index + 2, 1.0)
  models[1]["extra"] = jnp.zeros(2)
  base["head"] = jnp.full(7, 3.0)
  key = jax.random.key(0)
  got = merge.run_shared(merge.dare(0.5), models, base, rest=rest, key=key)
  whole = merge.dare(0.5)(stack, base=make()[1], key=key)
  kept = base["head"] if rest == "base" else models[0]["head"]
  same(got, whole | {"head": kept}, 1e-6)
  named = merge.run_shared(
    merge.dare(0.5),
    models,
    base,
    rest=rest,
    key=key,
    only=re.compile("^(?!head)"),
  )
  same(named, got)
  assert models[0]["head"].shape == (2,)


def test_shared_refuses_what_does_not_fit():
  stack, _ = make(2)
  a, b = ws.unstack(stack)
  b = b | {"head": jnp.zeros(9)}
  with pytest.raises(ValueError, match="'head' is"):
    merge.run_shared(merge.uniform(), [a, b], rest="mean")
  with pytest.raises(ValueError, match="'head' is"):
    merge.run_shared(merge.uniform(), [a, b], only="*")
  with pytest.raises(ValueError, match="'q' matches nothing"):
    merge.run_shared(merge.uniform(), [a, b], only="q")
  with pytest.raises(ValueError, match="needs base="):
    merge.run_shared(merge.uniform(), [a, b], rest="base")
  with pytest.raises(ValueError, match="share no leaf"):
    merge.run_shared(merge.uniform(), [{"a": 1.0}, {"b": 1.0}])
