"""Variance correction, norm matching, weight aligning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import merge


def make(count=3, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  shapes = {"w": (8, 6), "b": (6,), "s": ()}
  return {
    name: jnp.asarray(rng.normal(size=(count, *shape)) + 1, dtype)
    for name, shape in shapes.items()
  }


def close(a, b, tolerance=3e-6):
  for path, x in ws.trees.named(a).items():
    y = np.asarray(ws.trees.named(b)[path], np.float64)
    scale = max(1.0, float(np.abs(y).max()))
    np.testing.assert_allclose(
      np.asarray(x, np.float64), y, atol=tolerance * scale, err_msg=path
    )


def corrected_reference(xs):
  xs = np.asarray(xs, np.float64)
  mean = xs.mean(0)
  target = np.mean([x.var() for x in xs])
  return (mean - mean.mean()) * np.sqrt(target / mean.var()) + mean.mean()


def matched_reference(xs, axis=None):
  xs = np.asarray(xs, np.float64)
  mean, *lengths = (
    np.sqrt((x**2).sum(axis, keepdims=True)) for x in (xs.mean(0), *xs)
  )
  return xs.mean(0) * sum(lengths) / len(xs) / mean


def aligned_reference(kernel, old):
  kernel = np.array(kernel, np.float64)
  norms = np.linalg.norm(kernel, axis=0)
  kernel[:, old:] *= norms[:old].mean() / norms[old:].mean()
  return kernel


def test_variance_correction_is_the_reference():
  stack = make()
  merged = merge.variance_corrected()(stack)
  mean = jax.tree.map(lambda x: x.mean(0), stack)
  close(merged, dict(mean, w=corrected_reference(stack["w"])))
  every = merge.variance_corrected(axes=1)(stack)
  np.testing.assert_allclose(
    every["b"], corrected_reference(stack["b"]), atol=3e-6
  )


@pytest.mark.parametrize("count", [2, 4, 10])
def test_the_variance_of_a_mean_is_one_over_its_models(count):
  # 200 000 entries: the standard error of a variance ratio is about 0.5 %.
  rng = np.random.default_rng(count)
  stack = {"w": jnp.asarray(rng.normal(size=(count, 500, 400)), jnp.float32)}
  ratio = merge.variance_ratio(stack)["w"]
  np.testing.assert_allclose(ratio, 1 / count, rtol=0.02)
  merged = merge.variance_corrected()(stack)["w"]
  before = np.mean([np.var(x) for x in np.asarray(stack["w"])])
  np.testing.assert_allclose(np.var(merged), before, rtol=1e-5)


def test_the_ratio_of_correlated_models():
  rng = np.random.default_rng(0)
  shared, own = rng.normal(size=(500, 400)), rng.normal(size=(4, 500, 400))
  models = np.sqrt(0.3) * shared + np.sqrt(0.7) * own
  ratio = merge.variance_ratio({"w": jnp.asarray(models, jnp.float32)})["w"]
  np.testing.assert_allclose(ratio, (1 + 3 * 0.3) / 4, rtol=0.02)


def test_norm_matching_is_the_reference():
  stack = make()
  merged = merge.norm_matched()(stack)
  close(merged, {name: matched_reference(x) for name, x in stack.items()})
  rows = merge.norm_matched("row")(stack)["w"]
  close({"w": rows}, {"w": matched_reference(stack["w"], -1)})


def test_weight_aligning_is_the_reference():
  stack = {"head": {"kernel": make()["w"], "bias": make()["b"]}}
  aligned = merge.weight_aligned("head/kernel", old=4)(stack)["head"]
  for before, after in zip(stack["head"]["kernel"], aligned["kernel"]):
    np.testing.assert_allclose(
      after, aligned_reference(before, 4), rtol=1e-6, atol=1e-6
    )
    norms = np.linalg.norm(after, axis=0)
    np.testing.assert_allclose(norms[:4].mean(), norms[4:].mean(), rtol=1e-6)
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
  np.testing.assert_array_equal(aligned["bias"], stack["head"]["bias"])


def test_weight_aligning_twice_and_the_other_way_round():
  stack = {"k": make()["w"]}
  align = merge.weight_aligned("k", old=2)
  once = align(stack)
  close(align(once), once, 1e-6)
  turned = {"k": jnp.swapaxes(stack["k"], 1, 2)}
  other = merge.weight_aligned("k", old=2, axis=-2)(turned)["k"]
  np.testing.assert_allclose(jnp.swapaxes(other, 1, 2), once["k"], rtol=1e-6)


def test_weight_aligning_may_only_shrink():
  kernel = jnp.array([[[3.0, 0.3], [4.0, 0.4]]])
  shrink = merge.weight_aligned("k", old=1, only_shrink=True)({"k": kernel})
  np.testing.assert_array_equal(shrink["k"], kernel)


CASES = [
  merge.variance_corrected,
  merge.norm_matched,
  lambda: merge.norm_matched("row"),
  lambda: merge.weight_aligned("w", old=2),
]


@pytest.mark.parametrize("factory", CASES)
def test_jit_and_run_agree(factory):
  stack, recipe = make(), factory()
  eager = recipe(stack)
  close(jax.jit(recipe)(stack), eager)
  close(merge.run(recipe, ws.unstack(stack)), eager)


@pytest.mark.parametrize("factory", CASES)
def test_bfloat16_is_the_float32_answer_rounded_once(factory):
  stack = make(dtype=jnp.bfloat16)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), stack)
  merged, expected = factory()(stack), factory()(wide)
  for path, x in merged.items():
    assert x.dtype == jnp.bfloat16
    np.testing.assert_array_equal(x, expected[path].astype(jnp.bfloat16))


@pytest.mark.parametrize("factory", CASES)
def test_equal_models_stay_and_zeros_give_numbers(factory):
  one = make(1)
  same = jax.tree.map(lambda x: jnp.concatenate([x] * 3), one)
  if factory is not CASES[3]:
    close(factory()(same), jax.tree.map(lambda x: x[0], one), 1e-6)
  for leaf in jax.tree.leaves(factory()(jax.tree.map(jnp.zeros_like, same))):
    np.testing.assert_array_equal(leaf, 0.0)


def test_constant_leaves_are_averaged():
  models = {"w": jnp.array([[[2.0, 2.0]], [[4.0, 4.0]]])}
  merged = merge.variance_corrected()(models)["w"]
  np.testing.assert_array_equal(merged, [[3.0, 3.0]])
  np.testing.assert_array_equal(merge.variance_ratio(models)["w"], 1.0)


@pytest.mark.parametrize(
  "call,message",
  [
    (lambda s: merge.norm_matched("layer"), "scope is 'layer'"),
    (lambda s: merge.weight_aligned("w", old=0)(s), "0 old classes"),
    (lambda s: merge.weight_aligned("head", old=1)(s), "matches nothing"),
    (lambda s: merge.weight_aligned("w", old=6)(s), "6 old classes"),
    (lambda s: merge.weight_aligned("b", old=2)(s), "expected a matrix"),
    (lambda s: merge.variance_ratio({"w": jnp.ones(())}), "is a scalar"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(make())


@pytest.mark.parametrize(
  "recipe",
  [
    merge.variance_corrected(),
    merge.norm_matched(),
    merge.norm_matched("row"),
    merge.weight_aligned("w", old=2),
  ],
)
def test_a_sharded_stack_merges_alike(recipe):
  stack = make(4)
  run = jax.jit(recipe)
  spread = problems.sharded(stack, ("model", "leaf"))
  problems.close(run(spread), run(stack))
