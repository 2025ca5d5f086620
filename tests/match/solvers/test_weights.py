"""Weight matching: planted permutations, the published loop, certificates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import weightspace as ws
from tests import architectures, problems
from weightspace import match
from weightspace.match.solvers import (
  assignment,
  coordinate_descent,
  grams,
  matching_plan,
)
from weightspace.symmetry import axes as axes_of
from weightspace.symmetry import checks

PLANTED = [
  n for n in architectures.CASES if n not in ("tied", "looked_up_experts")
]


def squares(params):
  return sum(float((np.asarray(x, float) ** 2).sum()) for x in params)


def scored(tree):
  return [
    x
    for path, x in ws.trees.named(tree).items()
    if not checks.is_statistic(path)
  ]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_permutation_is_found(name):
  apply, params, x, _ = architectures.build(name)
  axes = match.trace_axes(apply, params, x)
  planted = match.random(axes, params, jax.random.key(5))
  b = match.permute(axes, planted, params)
  found = match.match_weights(axes, params, b)
  assert found.objective == pytest.approx(squares(scored(params)), rel=1e-6)
  problems.close(match.permute(axes, found.perm, b), params, 0, 0)
  assert found.bound >= found.objective * (1 - 1e-9)
  assert found.trace == sorted(found.trace)


@pytest.mark.parametrize("seed", range(3))
def test_a_recurrent_layer_of_few_inputs_is_found(seed):
  shapes = {"in": (1, 64), "h": (64, 64), "out": (64, 1)}
  random = np.random.default_rng(seed)
  params = {n: random.normal(size=s).astype("f") for n, s in shapes.items()}
  axes = match.Axes({"in": "1 u", "h": "u u", "out": "u 1"}, {"u": 64}, {})
  b = match.permute(axes, match.random(axes, params, jax.random.key(0)), params)
  found = match.match_weights(axes, params, b)
  problems.close(match.permute(axes, found.perm, b), params, 0, 0)


@pytest.mark.parametrize("name", ["mlp", "heads_einsum", "rnn", "group_norm"])
def test_equal_models_and_ties_stay(name):
  apply, params, x, _ = architectures.build(name)
  axes = match.trace_axes(apply, params, x)
  assert match.match_weights(axes, params, params).moved == 0
  same = jax.tree.map(np.ones_like, params)
  assert match.match_weights(axes, same, same).moved == 0
  dead = jax.tree.map(np.zeros_like, params)
  assert match.match_weights(axes, params, dead).moved == 0


def published(a, b, orders):
  """Algorithm 1 of Git Re-Basin on a chain of matrices, in NumPy."""
  n = len(a)
  perms = [np.arange(w.shape[1]) for w in a[:-1]]
  for order in orders:
    gained = False
    for k in order:
      w = b[k] if k == 0 else b[k][perms[k - 1]]
      v = b[k + 1] if k + 2 == n else b[k + 1][:, perms[k + 1]]
      s = a[k].T @ w + a[k + 1] @ v.T
      new = scipy.optimize.linear_sum_assignment(s, maximize=True)[1]
      at = np.arange(len(new))
      gained |= s[at, new].sum() > s[at, perms[k]].sum() + 1e-9
      perms[k] = new
    if not gained:
      return perms


@pytest.mark.parametrize("seed", range(3))
def test_as_the_published_loop(seed):
  random = np.random.default_rng(seed)
  sizes = (6, 20, 20, 20, 4)
  shapes = list(itertools.pairwise(sizes))
  a, b = ([random.normal(size=s) for s in shapes] for _ in range(2))
  orders = [list(random.permutation(3)) for _ in range(50)]
  names = ["w0", "w1", "w2"]
  tree = {f"w{k}": f"{x} {y}" for k, (x, y) in enumerate(
    [("6", "w0"), ("w0", "w1"), ("w1", "w2"), ("w2", "4")])}  # fmt: skip
  pins = {"w0:0": "input", "w3:1": "output"}
  axes = match.Axes(tree, dict.fromkeys(names, 20), pins)
  found = match.match_weights(
    axes, *({f"w{k}": w for k, w in enumerate(m)} for m in (a, b)),
    order=lambda names, sweep: [f"w{k}" for k in orders[sweep]],
  )  # fmt: skip
  expected = published(a, b, orders)
  for name, p in zip(names, expected):
    np.testing.assert_array_equal(found.perm[name], p)


def test_heads_are_matched_with_what_they_hold():
  apply, _, x, _ = architectures.build("heads_einsum")
  random = np.random.default_rng(3)
  shapes = {"q": (6, 2, 3), "k": (6, 2, 3), "v": (6, 2, 2), "o": (2, 2, 6)}
  params = {n: random.normal(size=s).astype("f") for n, s in shapes.items()}
  axes = match.trace_axes(apply, params, x)
  b = jax.tree.map(lambda w: random.normal(size=w.shape).astype("f"), params)
  found = match.match_weights(axes, params, b)
  names = {n: axes_of.shape(axes, n) for n in found.perm}
  best = -np.inf
  heads = next(n for n, s in names.items() if s == (2,))
  for order in itertools.permutations(range(2)):
    for rows in itertools.product(
      *(
        itertools.product(itertools.permutations(range(s[-1])), repeat=2)
        for n, s in names.items()
        if n != heads
      )
    ):
      perm = {heads: np.array(order)}
      inner = [n for n in names if n != heads]
      perm |= {n: np.array(r) for n, r in zip(inner, rows)}
      moved = match.permute(axes, perm, b)
      value = sum((moved[k] * params[k]).sum() for k in params)
      best = max(best, float(value))
  assert found.objective == pytest.approx(best, rel=1e-5)


def test_restarts_keys_and_pairs():
  model = ws.models.build("mlp", hidden=(12, 12), classes=3)
  x = jnp.ones((1, 5))
  models = [model.init(jax.random.key(k), x) for k in range(4)]
  axes = match.trace_axes(model.apply, models[0], x)
  a, *rest = models
  key = jax.random.key(0)
  one = match.match_weights(axes, a, rest[0], key)
  many = match.match_weights(axes, a, rest[0], key, 6)
  assert many.starts[0] == one.objective
  assert many.objective == max(many.starts)
  assert len(set(many.starts)) > 1
  again = match.match_weights(axes, a, rest[0], key, 6)
  jax.tree.map(np.testing.assert_array_equal, again.perm, many.perm)
  pairs = match.match_pairs(axes, a, ws.stack(rest))
  for pair, b in zip(pairs, rest):
    alone = match.match_weights(axes, a, b)
    jax.tree.map(np.testing.assert_array_equal, pair.perm, alone.perm)
  before = squares(jax.tree.leaves(a)) + squares(jax.tree.leaves(rest[0]))
  moved = match.permute(axes, one.perm, rest[0])
  apart = squares(jax.tree.leaves(jax.tree.map(jnp.subtract, a, moved)))
  assert apart == pytest.approx(before - 2 * one.objective, rel=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float64])
def test_other_dtypes(dtype):
  apply, params, x, _ = architectures.build("mlp")
  params = jax.tree.map(lambda w: w.astype(dtype), params)
  axes = match.trace_axes(apply, params, x)
  b = match.permute(axes, match.random(axes, params, jax.random.key(1)), params)
  found = match.match_weights(axes, params, b)
  problems.close(match.permute(axes, found.perm, b), params, 0, 0)


def test_statistics_are_not_scored():
  apply, params, x, _ = architectures.build("batch_norm")
  axes = match.trace_axes(apply, params, x)
  b = jax.tree.map(np.copy, params)
  b["batch_stats"]["mean"] = b["batch_stats"]["mean"][::-1] * 1e6
  assert match.match_weights(axes, params, b).moved == 0


@pytest.mark.parametrize("solver", assignment.SOLVERS)
def test_assignment_is_optimal(solver):
  gains = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
  found = assignment.solve(gains, solver)
  for matrix, row in zip(gains, found):
    best = max(
      sum(matrix[i, j] for i, j in enumerate(p))
      for p in itertools.permutations(range(5))
    )
    assert matrix[np.arange(5), row].sum() == pytest.approx(best, rel=1e-6)
  with pytest.raises(ValueError, match=r"NaN|not finite"):
    assignment.solve(np.full((2, 2), np.nan), solver)
  with pytest.raises(ValueError, match=r"gains: \(2, 3\), expected"):
    assignment.solve(np.ones((2, 3)), solver)


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0, 10.0])
def test_a_good_present_order_makes_no_other_answer(noise):
  random = np.random.default_rng(0)
  n = 2 * assignment.SMALL
  gains = np.eye(n) + noise * random.normal(size=(n, n))
  expected = scipy.optimize.linear_sum_assignment(gains, maximize=True)[1]
  np.testing.assert_array_equal(assignment.solve(gains), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis, batch", [(0, ()), (1, ()), (2, ()), (1, (0,))])
@pytest.mark.parametrize("size", [3, 90])
def test_products_of_slices(size, axis, batch, dtype):
  random = np.random.default_rng(0)
  a, b = (random.normal(size=(2, size, 40)).astype(dtype) for _ in range(2))
  found = grams.gram(a, b, axis, batch)
  left = "abc"
  right = left.replace(left[axis], "z")
  rest = "".join(left[k] for k in batch) + left[axis] + "z"
  expected = np.einsum(f"{left},{right}->{rest}", a, b)
  assert isinstance(found, np.ndarray)
  assert found.dtype == dtype
  problems.close(found, expected, 1e-4, 1e-4)


@pytest.mark.parametrize("name", ["mlp", "rnn", "heads_einsum", "residual"])
def test_products_that_are_kept_are_those_made_anew(name):
  _, params, _, _ = built = architectures.build(name)
  axes = match.trace_axes(built[0], params, built[2])
  plan = matching_plan.make_plan(axes, params)
  a = matching_plan.load(plan, params)
  perm = match.random(axes, params, jax.random.key(9))
  b = matching_plan.order(plan, a, perm)
  models = matching_plan.pair(plan, a, b, "scipy")
  free = [n for n in plan.places if not plan.inner[n]]
  for round, turned in enumerate([*free, *free[::-1]]):
    for n in plan.places:
      kept = coordinate_descent.gains(models, n)
      anew = coordinate_descent.gains(models._replace(products={}), n)
      problems.close(kept, anew, 1e-5, 1e-5)
    change = match.random(axes, params, jax.random.key(round))[turned]
    models.b[:] = matching_plan.order(plan, models.b, {turned: change})
    coordinate_descent.forget(models, {turned: change})
  assert any(models.products.values())


@pytest.mark.parametrize("name", ["mlp", "rnn", "heads_einsum"])
def test_a_descent_on_device_arrays_is_that_of_the_host(name):
  apply, params, x, _ = architectures.build(name)
  axes = match.trace_axes(apply, params, x)
  plan = matching_plan.make_plan(axes, params)
  perm = match.random(axes, params, jax.random.key(5))
  models = params, match.permute(axes, perm, params)
  sweeps = [[n for n in plan.places if plan.places[n]]] * 50
  host, device = (
    coordinate_descent.descend(
      plan, *(matching_plan.load(plan, m, xp) for m in models), sweeps, "scipy"
    )
    for xp in (np, jnp)
  )
  jax.tree.map(np.testing.assert_array_equal, host.perm, device.perm)
  assert host.objective == pytest.approx(device.objective, rel=1e-6)


def test_a_start_may_leave_names_out():
  apply, params, x, _ = architectures.build("mlp")
  axes = match.trace_axes(apply, params, x)
  planted = match.random(axes, params, jax.random.key(1))
  b = match.permute(axes, planted, params)
  name, *_ = back = match.invert(planted)
  found = match.match_weights(axes, params, b, start={name: back[name]})
  problems.close(match.permute(axes, found.perm, b), params, 0, 0)


def test_cycles_that_gain_nothing_are_undone():
  gains = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2.0]])
  kept, gain = assignment.keep_ties(gains, np.array([1, 0, 3, 2]))
  assert kept.tolist() == [1, 0, 2, 3]
  assert gain == 2.0


def test_the_solver_on_a_device_gives_the_same():
  apply, params, x, _ = architectures.build("mlp")
  axes = match.trace_axes(apply, params, x)
  b = match.permute(axes, match.random(axes, params, jax.random.key(1)), params)
  found = match.match_weights(axes, params, b, solver="optax")
  assert found.objective == pytest.approx(squares(scored(params)), rel=1e-6)


def test_bad_input_is_named():
  apply, params, x, _ = architectures.build("mlp")
  axes = match.trace_axes(apply, params, x)
  bad = {**params, "c": params["c"] * np.nan}
  with pytest.raises(ValueError, match="match_weights: b: 'c' is not finite"):
    match.match_weights(axes, params, bad)
  bad["c"] = np.full_like(params["c"], np.inf)
  with pytest.raises(ValueError, match="match_weights: a: 'c' is not finite"):
    match.match_weights(axes, bad, params)
  with pytest.raises(ValueError, match="b: 'c' has 4 at axis 0, expected 5"):
    match.match_weights(axes, params, {**params, "c": params["c"][:4]})
  half = {**params, "c": params["c"].astype(np.float16)}
  with pytest.raises(ValueError, match=r"b: 'c' is \(5, 4\) float16, expected"):
    match.match_weights(axes, params, half)
  with pytest.raises(ValueError, match="restarts is 0, expected at least 1"):
    match.match_weights(axes, params, params, restarts=0)
  name = next(iter(axes.sizes))
  with pytest.raises(ValueError, match=r"perm: .* holds 0 twice"):
    match.match_weights(
      axes, params, params, start={name: [0] * axes.sizes[name]}
    )
  with pytest.raises(ValueError, match="order: 'z' is unknown"):
    match.match_weights(axes, params, params, order=lambda names, sweep: ["z"])
  with pytest.raises(ValueError, match="solver: 'lapx', expected one of"):
    match.match_weights(axes, params, params, solver="lapx")
  with pytest.raises(ValueError, match="2 models in a, expected 3"):
    pair = ws.stack([params, params])
    match.match_pairs(axes, pair, ws.stack([params] * 3))
