"""Recipes: chains, needs, passes and measures, and the four ways to run one."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.merge.core import steps
from weightspace.merge.core.steps import Step, mean
from weightspace.types import Fold

MODELS = problems.models(3)
STACK = ws.stack(MODELS)
BASE = problems.tree(7)
WEIGHTS = [0.5, -1.0, 2.0]

double = Step("double", lambda x, at: 2 * x)


def largest(previous):
  """Start a measure of the largest entry over the whole tree."""
  return jnp.float32(0.0) if previous is None else previous


# Divides by the largest entry of all leaves: one pass more.
to_unit = Step(
  "to_unit",
  lambda x, at: x / at.measured,
  measures=(
    Fold(
      init=largest,
      update=lambda top, item: jnp.maximum(top, jnp.abs(item[0]).max()),
      value=lambda top: top,
    ),
  ),
)
by_fisher = Step(
  "by_fisher", lambda x, at: x * at.given["fisher"], needs=("fisher",)
)

# A recipe, what it is given beside the models, and NumPy's word for one leaf.
CASES = {
  "uniform": (ws.merge.uniform(), {}, lambda x, b: x.mean(0)),
  "linear": (
    ws.merge.linear(WEIGHTS),
    {},
    lambda x, b: np.tensordot(WEIGHTS, x, 1) / 1.5,
  ),
  "linear as it is": (
    ws.merge.linear(WEIGHTS, normalize=False),
    {},
    lambda x, b: np.tensordot(WEIGHTS, x, 1),
  ),
  "wise_ft": (
    ws.merge.wise_ft(0.3),
    {"base": BASE},
    lambda x, b: 0.7 * b + 0.3 * x.mean(0),
  ),
  "on_deltas": (
    ws.merge.on_deltas(ws.merge.chain(double, mean)),
    {"base": BASE},
    lambda x, b: b + 2 * (x - b).mean(0),
  ),
  "measured": (
    ws.merge.chain(double, to_unit, mean),
    {},
    lambda x, b: x.mean(0) / TOP,
  ),
}
TOP = max(np.abs(x).max() for model in MODELS for x in jax.tree.leaves(model))


def reference(name):
  return jax.tree.map(
    lambda b, *xs: CASES[name][2](np.stack(xs).astype(float), b), BASE, *MODELS
  )


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_is_its_formula_in_all_ways(name):
  recipe, given, _ = CASES[name]
  expected = reference(name)
  problems.close(recipe(STACK, **given), expected)
  problems.close(jax.jit(recipe)(STACK, **given), expected)
  problems.close(ws.merge.run(recipe, MODELS, **given), expected)
  numpy = jax.tree.map(np.asarray, STACK)
  problems.close(recipe(numpy, **given), expected)


@pytest.mark.parametrize("name", ["linear", "on_deltas", "measured"])
@pytest.mark.parametrize("axis", ["models", "leaves"])
def test_a_sharded_stack_merges_alike(name, axis):
  recipe, given, _ = CASES[name]
  auto = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((8,), ("x",), axis_types=auto)
  shapes = {"w": (16, 3)}
  models = [problems.tree(seed, shapes) for seed in range(8)]
  recipe = ws.merge.linear(range(1, 9)) if name.startswith("linear") else recipe
  given = {"base": problems.tree(9, shapes)} if given else {}
  spec = jax.P("x") if axis == "models" else jax.P(None, "x")
  place = jax.sharding.NamedSharding(mesh, spec)
  stack = ws.stack(models)
  merged = jax.jit(recipe)(jax.device_put(stack, place), **given)
  problems.close(merged, recipe(stack, **given))


def test_vmap_over_hyper_parameters():
  alphas = jnp.array([0.0, 0.5, 1.0])
  swept = jax.vmap(lambda a: ws.merge.wise_ft(a)(STACK, base=BASE))(alphas)
  for k, alpha in enumerate(alphas.tolist()):
    one = ws.merge.wise_ft(alpha)(STACK, base=BASE)
    problems.close(jax.tree.map(lambda x, k=k: x[k], swept), one)
  rows = jnp.array([[1.0, 1.0, 1.0], WEIGHTS])
  for normalize in (True, False):
    swept = jax.jit(
      jax.vmap(lambda w, n=normalize: ws.merge.linear(w, n)(STACK))
    )(rows)
    one = ws.merge.linear(WEIGHTS, normalize)(STACK)
    problems.close(jax.tree.map(lambda x: x[1], swept), one)


def test_wise_ft_ends_are_exact():
  one = ws.stack([MODELS[1]])
  problems.close(ws.merge.wise_ft(0.0)(one, base=BASE), BASE, 0, 0)
  problems.close(ws.merge.wise_ft(1.0)(one, base=BASE), MODELS[1], 0, 0)


def test_laws_of_the_averages():
  uniform = ws.merge.uniform()(STACK)
  problems.close(ws.merge.linear([2.0] * 3)(STACK), uniform)
  problems.close(ws.weighted_mean(STACK), uniform)
  problems.close(ws.merge.on_deltas(mean)(STACK, base=BASE), uniform, 1e-4)
  turned = ws.stack(MODELS[::-1])
  problems.close(ws.merge.linear(WEIGHTS[::-1])(turned), reference("linear"))
  moved = jax.tree.map(lambda x: 3 * x + 1, STACK)
  expected = jax.tree.map(lambda x: 3 * x + 1, uniform)
  problems.close(ws.merge.uniform()(moved), expected, 1e-4, 1e-5)


def test_needs_and_passes_are_known_before_any_work():
  recipe = ws.merge.on_deltas(ws.merge.chain(by_fisher, to_unit, mean))
  assert recipe.needs == ("base", "fisher")
  assert recipe.passes == 2
  assert [s.name for s in recipe.steps][1:3] == ["by_fisher", "to_unit"]
  assert ws.merge.uniform().passes == 1
  assert ws.merge.uniform().needs == ()


def test_a_recipe_without_a_reduction_returns_a_stack():
  twice = ws.merge.chain(double)(STACK)
  problems.close(twice, jax.tree.map(lambda x: 2 * x, STACK), 0, 0)


def test_a_measure_sees_what_reaches_its_step():
  """Twice the models have twice the measure, so the results agree."""
  plain = ws.merge.chain(to_unit, mean)(STACK)
  problems.close(ws.merge.chain(double, to_unit, mean)(STACK), plain)
  deltas = ws.merge.chain(steps.minus_base, to_unit, mean)(STACK, base=BASE)
  parts = [jax.tree.map(np.subtract, model, BASE) for model in MODELS]
  top = max(np.abs(x).max() for part in parts for x in jax.tree.leaves(part))
  expected = jax.tree.map(lambda *xs: sum(xs) / (3 * top), *parts)
  problems.close(deltas, expected)


def test_a_step_may_differ_by_leaf():
  halves = Step("halves", lambda x, at: x / 2)
  chosen = Step(
    "chosen",
    lambda x, at: x,
    resolve=lambda path: halves if path.startswith("dense") else double,
  )
  found = ws.merge.chain(chosen, mean)(STACK)
  half = jax.tree.map(lambda x: x / 2, ws.merge.uniform()(STACK))
  problems.close(found["dense"], half["dense"])
  problems.close(found["out"], 4 * half["out"])


def test_statistics_are_trees_or_prefixes():
  recipe = ws.merge.chain(by_fisher, mean)
  found = recipe(STACK, fisher={"dense": 2.0, "gain": 1.0, "out": 0.0})
  uniform = ws.merge.uniform()(STACK)
  doubled = jax.tree.map(lambda x: 2 * x, uniform["dense"])
  problems.close(found["dense"], doubled)
  problems.close(found["gain"], uniform["gain"])
  whole = jax.tree.map(lambda x: x[None], BASE)
  run = ws.merge.run(recipe, MODELS, fisher=whole)
  problems.close(run, recipe(STACK, fisher=whole))


def test_many_models_are_a_loop():
  x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
  weights = np.arange(1.0, 101.0)
  expected = {"w": weights @ x / weights.sum()}
  problems.close(ws.merge.linear(weights)({"w": x}), expected, 1e-4)
  problems.close(ws.merge.uniform()({"w": x}), {"w": x.mean(0)}, 1e-4)


@pytest.mark.parametrize("name", ["uniform", "linear", "wise_ft", "on_deltas"])
def test_bfloat16_is_within_an_ulp_of_the_float32_answer(name):
  models = problems.models(3, ml_dtypes.bfloat16)
  base = problems.tree(7, dtype=ml_dtypes.bfloat16)
  recipe, given, formula = CASES[name]
  given = {"base": base} if given else {}
  merged = recipe(ws.stack(models), **given)
  for path, leaf in ws.trees.named(merged).items():
    rows = [ws.trees.named(m)[path].astype(float) for m in models]
    wanted = formula(np.stack(rows), ws.trees.named(base)[path].astype(float))
    ulp = 2.0 ** (np.floor(np.log2(np.abs(wanted))) - 7)
    assert leaf.dtype == jnp.bfloat16
    error = np.abs(np.asarray(leaf, float) - wanted)
    assert (error <= 0.51 * ulp + 1e-6).all()


def test_leaves_that_are_no_numbers_pass_through():
  def model(seed, value):
    return {
      "count": np.int32(seed),
      "flag": np.bool_(seed == 1),
      "key": jax.random.key(seed),
      "none": None,
      "wave": np.complex64(value + 1j),
      "small": jnp.full(2, value, jnp.float8_e4m3fn),
      "x": np.float32(value),
    }

  models, base = [model(1, 1.0), model(2, 3.0)], model(5, 0.5)
  recipe = ws.merge.on_deltas(ws.merge.chain(double, mean))
  for merged in (
    recipe(ws.stack(models), base=base),
    ws.merge.run(recipe, models, base),
  ):
    assert (merged["count"].item(), merged["flag"].item()) == (1, True)
    assert jax.random.key_data(merged["key"]).tolist() == [0, 1]
    assert merged["none"] is None
    assert merged["wave"].item() == 3.5 + 1j
    assert merged["small"].astype(float).tolist() == [3.5, 3.5]
    assert merged["x"].item() == 3.5
  twice = ws.merge.chain(double)(ws.stack(models))
  assert twice["count"].tolist() == [1, 2]


def test_float64_stays_when_it_is_on():
  with jax.enable_x64(True):
    models = problems.models(3, np.float64)
    merged = ws.merge.linear([0.1, 0.2, 0.4])(ws.stack(models))
    share = np.array([0.1, 0.2, 0.4]) / 0.7
    expected = jax.tree.map(lambda *xs: np.tensordot(share, xs, 1), *models)
    problems.close(merged, expected, 1e-14, 1e-15)
    mixed = ws.merge.linear([0.1, 0.2, 0.4])(STACK)  # float32 leaves stay so
    assert mixed["out"].dtype == np.float32


def test_constants_of_a_traced_function_are_checked_too():
  merged = jax.jit(lambda a: ws.merge.wise_ft(a)(STACK, base=BASE))(0.3)
  problems.close(merged, reference("wise_ft"))
  swept = jax.lax.map(
    lambda a: ws.merge.wise_ft(a)(STACK, base=BASE)["out"], jnp.array([0.3])
  )
  np.testing.assert_allclose(swept[0], reference("wise_ft")["out"], rtol=1e-5)


def test_inputs_are_left_as_they_were():
  stack, base = jax.tree.map(np.array, (STACK, BASE))
  models = jax.tree.map(np.array, MODELS)
  recipe = ws.merge.on_deltas(ws.merge.chain(double, mean))
  recipe(stack, base=base)
  ws.merge.run(recipe, models, base)
  problems.close(stack, STACK, 0, 0)
  problems.close(base, BASE, 0, 0)
  problems.close(models, MODELS, 0, 0)


def without(path):
  base = problems.tree(7)
  base.pop(path)
  return base


needs_key = Step("masks", lambda x, at: x, needs=("key",))
NAN = {**BASE, "out": np.full((4, 2), np.nan, np.float32)}


@pytest.mark.parametrize(
  ("recipe", "given", "words"),
  [
    (ws.merge.wise_ft(0.5), {}, "'towards_base' needs base="),
    (ws.merge.on_deltas(mean), {}, "'minus_base' needs base="),
    (ws.merge.chain(needs_key, mean), {}, "'masks' needs key="),
    (ws.merge.chain(by_fisher), {}, "'by_fisher' needs fisher="),
    (ws.merge.uniform(), {"gram": 1.0}, r"unknown input 'gram', expected \["),
    (
      ws.merge.chain(by_fisher),
      {"fisher": {"dense": 1.0}},
      "fisher: nothing for 'gain'",
    ),
    (
      ws.merge.chain(by_fisher),
      {"fisher": np.nan},
      "NaN in 'fisher'",
    ),
    (ws.merge.wise_ft(0.5), {"base": without("out")}, "base: 'out' is missing"),
    (
      ws.merge.wise_ft(0.5),
      {"base": {**BASE, "out": np.ones((4, 3), np.float32)}},
      r"base: 'out' is \(4, 3\) float32, expected \(4, 2\)",
    ),
    (
      ws.merge.wise_ft(0.5),
      {"base": {**BASE, "gain": np.float16(1)}},
      "base: 'gain' .* float16",
    ),
    (ws.merge.wise_ft(0.5), {"base": NAN}, "base: NaN in 'out'"),
    (ws.merge.linear([1.0, 2.0]), {}, "'linear' is made for 2 models, got 3"),
  ],
)
def test_bad_input_is_named_before_work(recipe, given, words):
  with pytest.raises(ValueError, match=words):
    recipe(STACK, **given)
  with pytest.raises(ValueError, match=words):
    ws.merge.run(recipe, MODELS, **given)


def test_bad_models_are_named():
  uniform = ws.merge.uniform()
  with pytest.raises(ValueError, match="no models"):
    ws.merge.run(uniform, [])
  with pytest.raises(ValueError, match="run: models are a dict"):
    ws.merge.run(uniform, BASE)
  with pytest.raises(ValueError, match="model 1: 'out' is missing"):
    ws.merge.run(uniform, [BASE, without("out")])
  with pytest.raises(ValueError, match="model 1: NaN in 'out'"):
    ws.merge.run(uniform, [BASE, NAN])
  with pytest.raises(ValueError, match="'out' is a scalar"):
    uniform({"out": jnp.float32(1.0)})
  bad = {"w": jnp.ones((3, 2)).at[2, 1].set(jnp.nan)}
  with pytest.raises(ValueError, match="NaN in 'w' of model 2"):
    uniform(bad)


def test_bad_hyper_parameters_are_named():
  with pytest.raises(ValueError, match="sum to zero"):
    ws.merge.linear([1.0, -1.0])
  with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \[M\]"):
    ws.merge.linear([[1.0, 2.0]])
  with pytest.raises(ValueError, match="linear: weights: NaN"):
    ws.merge.linear([1.0, np.nan])
  for alpha in (np.nan, np.inf, jnp.ones(2)):
    with pytest.raises(ValueError, match="wise_ft: alpha is"):
      ws.merge.wise_ft(alpha)
  with pytest.raises(ValueError, match="'mean' follows 'linear'"):
    ws.merge.chain(ws.merge.linear([1.0]), mean)
