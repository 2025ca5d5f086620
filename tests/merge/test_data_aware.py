"""Fisher merging, RegMean and RegMean++: laws, and NumPy beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import merge

KEY = jax.random.key(0)


def squares(seed, count):
  trees = [
    jax.tree.map(np.square, problems.tree(seed + i)) for i in range(count)
  ]
  return ws.stack(trees)


def reference_fisher(stack, found, floor, normalize):
  leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(stack)]
  sure = [np.asarray(x, np.float64) for x in jax.tree.leaves(found)]
  size = np.sqrt([sum((f[m] ** 2).sum() for f in sure) for m in range(3)])
  scale = 1 / size if normalize else np.ones(3)
  merged = []
  for x, f in zip(leaves, sure):
    w = np.maximum(f, floor) * scale.reshape(-1, *[1] * (x.ndim - 1))
    merged.append((w * x).sum(0) / w.sum(0))
  return merged


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("floor", [1e-6, 0.5])
def test_fisher_is_the_weighted_mean(normalize, floor):
  stack, found = problems.stack(3), squares(5, 3)
  got = merge.fisher(floor, normalize)(stack, fisher=found)
  wanted = reference_fisher(stack, found, floor, normalize)
  for a, b in zip(jax.tree.leaves(got), wanted):
    np.testing.assert_allclose(a, b, 1e-5, 1e-6)


def test_two_quadratics_merge_at_their_joint_minimum():
  centres, curves = problems.stack(2), squares(3, 2)
  got = merge.fisher(0.0, normalize=False)(centres, fisher=curves)

  def loss(params):
    terms = jax.tree.map(
      lambda p, c, h: (h * (p[None] - c) ** 2).sum(), params, centres, curves
    )
    return sum(jax.tree.leaves(terms))

  for slope in jax.tree.leaves(jax.grad(loss)(got)):
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)


def test_equal_fishers_and_no_fisher_give_the_plain_mean():
  stack = problems.stack(3)
  mean = ws.weighted_mean(stack)
  one = jax.tree.map(np.square, problems.tree(9))
  same = merge.fisher()(stack, fisher=ws.stack([one] * 3))
  problems.close(same, mean, 1e-5, 1e-6)
  zero = jax.tree.map(jnp.zeros_like, stack)
  for floor in (0.0, 1e-6):
    for normalize in (True, False):
      recipe = merge.fisher(floor, normalize)
      problems.close(recipe(stack, fisher=zero), mean, 1e-5, 1e-6)


def test_entries_of_one_owner_and_the_floor_on_the_first():
  stack = {"w": jnp.array([[1.0, 1.0], [5.0, 5.0]])}
  found = {"w": jnp.array([[0.0, 1.0], [0.0, 0.0]])}
  got = merge.fisher(1e-6, False, floor_on="first")(stack, fisher=found)
  assert got["w"].tolist() == [1.0, 1.0]
  got = merge.fisher(1e-6, False)(stack, fisher=found)
  np.testing.assert_allclose(got["w"], [3.0, 1.0], 1e-5)


def test_coefficients_and_their_grids():
  stack, found = problems.stack(2), squares(3, 2)
  ends = merge.fisher_coefficients(2, 3)
  for row, model in ((0, 1), (2, 0)):
    recipe = merge.fisher(coefficients=ends[row])
    problems.close(recipe(stack, fisher=found), ws.unstack(stack)[model])
  drawn = merge.fisher_coefficients(3, 7, KEY)
  assert drawn.shape == (7, 3)
  np.testing.assert_allclose(drawn.sum(1), 1.0, 1e-5)
  swept = jax.vmap(lambda c: merge.fisher(coefficients=c)(stack, fisher=found))
  assert jax.tree.leaves(swept(ends))[0].shape[0] == 3


def test_a_list_of_fishers_is_a_stack():
  stack, found = problems.stack(2), squares(3, 2)
  whole = merge.fisher()(stack, fisher=found)
  listed = merge.fisher()(stack, fisher=ws.unstack(found))
  problems.close(listed, whole, 0, 0)
  run = merge.run(merge.fisher(), ws.unstack(stack), fisher=found)
  problems.close(run, whole)


def linear(params, x):
  return x @ params["w"] + params["b"][None]


def regression(seed, count=3, width=4, unseen=False):
  """Linear models, their inputs, and their Gram matrices."""
  random = np.random.default_rng(seed)
  xs = [
    random.normal(size=(20, width)).astype(np.float32) for _ in range(count)
  ]
  if unseen:
    for x in xs:
      x[:, -1] = 0.0
  models = [
    problems.tree(seed + i, {"w": (width, 2), "b": (2,)}) for i in range(count)
  ]
  grams = [
    ws.statistics.gram(linear, m, x)
    for m, x in zip(models, map(jnp.asarray, xs))
  ]
  return models, xs, grams


def test_regmean_is_the_pooled_least_squares():
  models, xs, grams = regression(0)
  got = merge.regmean()(ws.stack(models), gram=grams)
  targets = np.concatenate([x @ m["w"] for x, m in zip(xs, models)])
  wanted = np.linalg.lstsq(np.concatenate(xs), targets)[0]
  np.testing.assert_allclose(got["w"], wanted, 1e-3, 1e-4)
  np.testing.assert_allclose(
    got["b"], np.mean([m["b"] for m in models], 0), 1e-5
  )


@pytest.mark.parametrize("offdiag", [1.0, 0.3, 0.0])
def test_regmean_with_shrinking_and_a_ridge(offdiag):
  models, xs, grams = regression(0)
  got = merge.regmean(offdiag, ridge=0.1)(ws.stack(models), gram=grams)
  raw = [np.float64(x.T @ x / len(x)) for x in xs]
  r = 0.1 * np.mean([np.trace(g) / 4 for g in raw])
  eye = np.eye(4)
  h = [g * (eye + offdiag * (1 - eye)) + r * eye for g in raw]
  right = sum(a @ m["w"] for a, m in zip(h, models))
  np.testing.assert_allclose(
    got["w"], np.linalg.solve(sum(h), right), 1e-4, 1e-5
  )


def test_what_no_model_has_seen_gets_the_plain_mean():
  models, xs, grams = regression(1, unseen=True)
  got = merge.regmean()(ws.stack(models), gram=grams)
  mean = np.mean([m["w"] for m in models], 0)
  np.testing.assert_allclose(got["w"][-1], mean[-1], 1e-5)
  assert np.abs(got["w"][:-1] - mean[:-1]).max() > 0.05
  rank = merge.gram_ranks(grams, models[0])["w"]
  assert (rank.inputs, rank.seen.tolist()) == (4, [3])
  whole = merge.gram_ranks(regression(1)[2], models[0])["w"]
  assert whole.seen.tolist() == [4] and 1 < whole.condition[0] < 50
  g = np.mean([x.T @ x / 20 for x in xs], 0)
  np.testing.assert_allclose(rank.ridge, 1e-6 * np.trace(g) / 4, 1e-4)


def test_singular_in_float32_and_wide():
  random = np.random.default_rng(0)
  width, models = (
    300,
    [problems.tree(i, {"w": (300, 2), "b": (2,)}) for i in (0, 1)],
  )
  basis = random.normal(size=(width, 5)).astype(np.float32)
  xs = [
    random.normal(size=(40, 5)).astype(np.float32) @ basis.T for _ in (0, 1)
  ]
  grams = [ws.statistics.gram(linear, models[0], jnp.asarray(x)) for x in xs]
  got = np.asarray(merge.regmean()(ws.stack(models), gram=grams)["w"])
  mean = np.mean([m["w"] for m in models], 0)
  unseen = np.linalg.svd(basis)[0][:, 5:]
  np.testing.assert_allclose(unseen.T @ (got - mean), 0.0, atol=2e-3)
  targets = np.concatenate([x @ m["w"] for x, m in zip(xs, models)])
  error = np.concatenate(xs) @ got - targets
  best = np.linalg.lstsq(np.concatenate(xs), targets, rcond=1e-5)[0]
  least = np.concatenate(xs) @ best - targets
  np.testing.assert_allclose((error**2).sum(), (least**2).sum(), 1e-2)


LM = ws.models.build(
  "lm", vocab=5, layers=2, width=8, heads=2, kv_heads=1, scan=True
)


def test_regmean_of_equal_models_is_the_model_on_scanned_layers():
  tokens = jax.random.randint(KEY, (4, 6), 0, 5)
  params = LM.init(KEY, tokens)
  grams = [ws.statistics.gram(LM.apply, params, tokens)] * 2
  got = merge.regmean()(ws.stack([params] * 2), gram=grams)
  problems.close(got, params, 1e-5, 1e-6)


def deep(params, x):
  x = jnp.tanh(linear(params["a"], x))
  return linear(params["c"], jnp.tanh(linear(params["b"], x)))


def deep_models(count=2):
  layer = {"w": (3, 3), "b": (3,)}
  return [problems.tree(i, {n: layer for n in "abc"}) for i in range(count)]


def test_one_layer_of_regmean_pp_is_regmean():
  models, xs, grams = regression(2)
  stack = ws.stack(models)
  for offdiag in (1.0, 0.5):
    wanted = merge.regmean(offdiag)(stack, gram=grams)
    got = merge.regmean_pp(stack, linear, xs, offdiag)
    problems.close(got, wanted, 1e-5, 1e-6)


def test_one_block_of_regmean_pp_is_regmean():
  models, xs = deep_models(), [problems.data(20, s)["x"] for s in (0, 1)]
  grams = [ws.statistics.gram(deep, m, x) for m, x in zip(models, xs)]
  stack = ws.stack(models)
  got = merge.regmean_pp(stack, deep, xs, blocks=lambda path: "all")
  problems.close(got, merge.regmean()(stack, gram=grams), 1e-5, 1e-6)


def test_regmean_pp_sees_inputs_through_the_merged_layers():
  models, xs = deep_models(), [problems.data(20, s)["x"] for s in (0, 1)]
  rows, wanted = [np.float64(x) for x in xs], {}
  for name in "abc":
    ws_, bs = ([np.float64(m[name][k]) for m in models] for k in "wb")
    grams = [x.T @ x / len(x) for x in rows]
    right = sum(g @ w for g, w in zip(grams, ws_))
    wanted[name] = {
      "w": np.linalg.solve(sum(grams), right),
      "b": np.mean(bs, 0),
    }
    rows = [np.tanh(x @ wanted[name]["w"] + wanted[name]["b"]) for x in rows]
  got = merge.regmean_pp(ws.stack(models), deep, xs)
  problems.close(got, wanted, 2e-2, 2e-3)


def test_regmean_pp_keeps_embeddings_dtypes_and_equal_models():
  model = ws.models.build("lm", vocab=5, layers=2, width=8, heads=2, kv_heads=1)
  tokens = jax.random.randint(KEY, (4, 6), 0, 5)
  params = model.init(KEY, tokens)
  got = merge.regmean_pp(
    ws.stack([params] * 2), model.apply, [tokens, [tokens]]
  )
  problems.close(got, params, 1e-5, 1e-6)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: merge.fisher(-1.0), "fisher: floor is -1.0, expected"),
    (lambda: merge.fisher(floor_on="last"), "floor_on is 'last', expected one"),
    (lambda: merge.fisher(coefficients=1.0), "fisher: coefficients have shape"),
    (
      lambda: merge.fisher(coefficients=[1.0])(
        problems.stack(2), fisher=squares(0, 2)
      ),
      "'fisher' is made for 1 models, got 2",
    ),
    (
      lambda: merge.fisher()(problems.stack(2), fisher={"out": jnp.ones(2)}),
      "fisher: nothing for 'dense/bias'",
    ),
    (
      lambda: merge.fisher()(
        {"w": jnp.ones((2, 3))}, fisher={"w": jnp.ones((2, 4))}
      ),
      r"fisher: 'w' has shape \(2, 4\), expected \(2, 3\)",
    ),
    (
      lambda: merge.fisher(normalize=False)(
        {"w": jnp.ones((2, 3))}, fisher={"w": jnp.ones((2, 4))}
      ),
      r"fisher: 'w' has shape \(2, 4\), expected \(2, 3\)",
    ),
    (
      lambda: merge.fisher()(problems.stack(2), fisher=problems.tree(0)),
      r"fisher: 'dense/bias' has shape \(4,\), expected \(2, 4\)",
    ),
    (
      lambda: merge.fisher()({"w": jnp.ones(2)}, fisher={"w": -jnp.ones(2)}),
      "fisher: 'w' has a negative entry",
    ),
    (lambda: merge.fisher()(problems.stack(2)), "'fisher' needs fisher="),
    (lambda: merge.fisher_coefficients(3), "need key="),
    (lambda: merge.fisher_coefficients(1), "expected at least 2"),
    (lambda: merge.regmean(2.0), "regmean: offdiag is 2.0"),
    (lambda: merge.regmean(ridge=-1.0), "regmean: ridge is -1.0"),
    (
      lambda: merge.regmean()({"w": jnp.ones((2, 3, 2))}, gram=[{"v": 1.0}]),
      "gram: .*expected|gram: nothing for 'w'",
    ),
    (
      lambda: merge.regmean()(
        {"w": jnp.ones((2, 3, 2))}, gram=[{"w": jnp.ones((4, 1, 4, 1))}] * 2
      ),
      r"gram: 'w' is \(4, 1, 4, 1\), expected the Gram matrix of a parameter",
    ),
    (
      lambda: merge.regmean()(
        {"w": jnp.ones((2, 3, 2))}, gram=[{"w": jnp.ones((3, 1, 3, 1))}] * 3
      ),
      r"gram: 'w' has \(3,\) models, expected \(2,\)",
    ),
    (
      lambda: merge.regmean()(
        {"w": jnp.ones((2, 3, 2))},
        gram=[{"w": jnp.ones((n, 1, n, 1))} for n in (3, 4)],
      ),
      "gram: of model 1 has a leaf",
    ),
    (
      lambda: merge.regmean_pp(
        problems.stack(2), problems.apply, [jnp.ones((1, 3))]
      ),
      "regmean_pp: 1 data sets, expected 2",
    ),
    (
      lambda: merge.regmean_pp(
        jnp.ones((1, 1, 1)), lambda w, x: x * w, [jnp.ones((1, 1))]
      ),
      "regmean_pp: no linear map found",
    ),
    (lambda: merge.gram_ranks([], {"w": jnp.ones(2)}), "no Gram matrices"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
