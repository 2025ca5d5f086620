"""Many models, soft permutations, and permutations learned by gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import match
from weightspace.match.solvers import frank_wolfe, learned, many, soft

NAMES = ["mlp", "heads_einsum", "residual", "group_norm", "scanned"]


def setting(name):
  apply, params, x, _ = architectures.build(name)
  return params, match.trace_axes(apply, params, x)


@pytest.mark.parametrize("method", many.METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_planted_permutations_of_many_models(name, method):
  params, axes = setting(name)
  keys = jax.random.split(jax.random.key(0), 3)
  drawn = [match.random(axes, params, key) for key in keys]
  models = [params, *(match.permute(axes, p, params) for p in drawn)]
  found = match.match_many(axes, ws.stack(models), method=method)
  one = match.identity(axes, params)
  jax.tree.map(np.testing.assert_array_equal, found[0], one)
  if method == "merge_many" and name in ("residual", "scanned"):
    return  # a sum of models that are not aligned may be a place of rest
  for perm, model in zip(found, models):
    problems.close(match.permute(axes, perm, model), params, 0, 0)


def reference(axes, models, found):
  aligned = [match.permute(axes, p, m) for p, m in zip(found, models)]
  pairs = itertools.combinations([jax.tree.leaves(m) for m in aligned], 2)
  return sum(float((x * y).sum()) for a, b in pairs for x, y in zip(a, b))


def independent(name, count):
  params, axes = setting(name)
  models = []
  for seed in range(count):
    random = np.random.default_rng(seed)
    shapes = [x.shape for x in jax.tree.leaves(params)]
    leaves = [random.normal(size=shape).astype("f") for shape in shapes]
    models.append(jax.tree.unflatten(jax.tree.structure(params), leaves))
  return axes, models


def test_many_is_no_worse_than_each_to_the_first():
  axes, models = independent("mlp", 4)
  found = match.match_many(axes, models)
  again = match.match_many(axes, ws.stack(models))
  jax.tree.map(np.testing.assert_array_equal, found, again)
  value = reference(axes, models, found)
  assert many.together(axes, models, found) == pytest.approx(value, rel=1e-5)
  first = [match.match_weights(axes, models[0], m).perm for m in models]
  assert value >= reference(axes, models, first) - 1e-4
  keyed = match.match_many(axes, models, jax.random.key(1))
  assert reference(axes, models, keyed) > 0
  merged = match.match_many(axes, models, method="merge_many")
  one = [match.identity(axes, models[0])] * 4
  assert reference(axes, models, merged) > reference(axes, models, one)


def test_frank_wolfe_on_a_pair():
  axes, (a, b) = independent("mlp", 2)
  found = frank_wolfe.frank_wolfe(axes, [a, b], fixed=(0,))
  value = reference(axes, [a, b], found)
  one = match.identity(axes, a)
  jax.tree.map(np.testing.assert_array_equal, found[0], one)
  assert value > reference(axes, [a, b], [one, one])


def test_the_best_length_is_the_best_of_a_grid():
  random = np.random.default_rng(0)
  places = np.linspace(0, 1, 5)
  for _ in range(20):
    line = np.polynomial.Polynomial(random.normal(size=5))
    best = frank_wolfe.best_length(places, line(places))
    assert line(best) >= line(np.linspace(0, 1, 201)).max() - 1e-6


def test_soft_permutations_of_hard_matrices():
  params, axes = setting("residual")
  perm = match.random(axes, params, jax.random.key(0))
  matrices = {n: np.eye(len(p), dtype="f")[p] for n, p in perm.items()}
  moved = soft.soft_permute(axes, matrices, params)
  problems.close(
    jax.tree.map(np.asarray, moved), match.permute(axes, perm, params)
  )
  jax.tree.map(np.testing.assert_array_equal, soft.harden(matrices), perm)


def test_the_gradient_of_sinkhorn_is_that_of_many_iterations():
  scores = jax.random.normal(jax.random.key(0), (4, 4))
  g = jax.random.normal(jax.random.key(1), (4, 4))

  def unrolled(x):
    def step(x, _):
      x = x - jax.nn.logsumexp(x, 0, keepdims=True)
      return x - jax.nn.logsumexp(x, 1, keepdims=True), None

    return (jnp.exp(jax.lax.scan(step, x, None, 200)[0]) * g).sum()

  expected = jax.grad(unrolled)(scores)
  found = jax.grad(lambda x: (soft.sinkhorn(x, 200) * g).sum())(scores)
  np.testing.assert_allclose(found, expected, 1e-3, 1e-5)
  matrix = soft.sinkhorn(scores, 200)
  np.testing.assert_allclose(matrix.sum(0), 1.0, rtol=1e-5)
  np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-5)


def test_sinkhorn_learns_a_planted_permutation():
  random = np.random.default_rng(0)
  a = {
    "w": random.normal(size=(6, 5)).astype("f"),
    "b": np.arange(5.0, dtype="f"),
  }
  axes = match.Axes({"b": "u", "w": "6 u"}, {"u": 5}, {"w:0": "input"})
  planted = match.random(axes, a, jax.random.key(1))
  b = match.permute(axes, planted, a)
  found = match.match_sinkhorn(axes, a, b, key=jax.random.key(2), steps=60)
  problems.close(match.permute(axes, found.perms[1], b), a, 0, 0)
  assert found.losses[-1] < found.losses[0]
  assert found.loss == 0.0


def test_straight_through_lowers_the_loss_of_the_mean():
  model = ws.models.build("mlp", hidden=(8,), classes=2)
  x = jax.random.normal(jax.random.key(0), (64, 3))
  y = (x.sum(1) > 0).astype(jnp.int32)
  data, loss = (
    {"x": x, "y": y},
    ws.losses.of(model.apply, ws.losses.cross_entropy),
  )

  stack = ws.stack([model.init(jax.random.key(k), x) for k in range(2)])
  fitted = ws.train.fit_population(
    loss, stack, optax.sgd(0.3), data, key=jax.random.key(3), epochs=10,
    batch_size=64,
  ).params  # fmt: skip
  axes = match.trace_axes(model.apply, ws.unstack(stack)[0], x)
  found = match.straight_through(
    axes, loss, fitted, data, key=jax.random.key(0), steps=4, judge=data
  )
  mean = ws.weighted_mean(fitted)
  assert found.loss <= float(loss(mean, data).mean())
  assert len(found.losses) == 4
  a, b = ws.unstack(fitted)
  moved = match.permute(axes, found.perms[1], b)
  again = loss(ws.weighted_mean(ws.stack([a, moved])), data).mean()
  assert float(again) == pytest.approx(found.loss, rel=1e-5)


def test_bad_input_is_named():
  axes, models = independent("mlp", 3)
  with pytest.raises(ValueError, match="1 model, expected at least 2"):
    match.match_many(axes, models[:1])
  with pytest.raises(ValueError, match="method: 'average', expected one of"):
    match.match_many(axes, models, method="average")
  models[2]["c"] = models[2]["c"] * np.nan
  with pytest.raises(ValueError, match="model 2: 'c' is not finite"):
    match.match_many(axes, models)
  assert learned.objective_of(axes, models[0], models[0],
                              match.identity(axes, models[0])) > 0  # fmt: skip
