"""Averages in training and at test time: closed forms, NumPy, bad input."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import average, losses

KEY = jax.random.key(0)


def data(count=24):
  return problems.data(count)


def fit(params, tx, **settings):
  loss = losses.of(problems.apply, losses.cross_entropy)
  return ws.train.fit(
    loss, params, tx, data(), key=KEY, epochs=3, batch_size=8, **settings
  ).params


def reference_mask(params, density):
  """Return the global magnitude mask of the kernels, by NumPy."""
  flat = np.concatenate(
    [np.abs(x).ravel() for x in jax.tree.leaves(params) if x.ndim > 1]
  )
  bound = np.sort(flat)[-max(1, int(density * len(flat) + 1e-6))]
  return jax.tree.map(
    lambda x: (np.abs(x) >= bound) if x.ndim > 1 else np.ones(x.shape, bool),
    params,
  )


@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_masks_are_numpys(density):
  params = problems.tree(0)
  found = average.magnitude_mask(params, density)
  problems.close(found, reference_mask(params, density), 0, 0)
  by_leaf = average.magnitude_mask(params, density, "leaf")
  for path in ("dense/kernel", "out"):
    kept = np.asarray(ws.trees.named(by_leaf)[path])
    assert kept.sum() == max(1, int(density * kept.size + 1e-6))
  inside = jax.jit(lambda p: average.magnitude_mask(p, density))(params)
  problems.close(inside, found, 0, 0)


def test_pruned_weights_never_come_back():
  """The second mask is inside of the first, even where too few are left."""
  params = average.prune(
    problems.tree(0), average.magnitude_mask(problems.tree(0), 0.2)
  )
  again = average.magnitude_mask(params, 0.9)
  assert average.sparsity(params) == 0.8
  kept = ws.trees.named(again)["dense/kernel"]
  assert (np.asarray(kept) == (params["dense"]["kernel"] != 0)).all()


@pytest.mark.parametrize(
  "tx",
  [
    optax.sgd(0.1, momentum=0.9),
    optax.adamw(0.1),
    optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
  ],
)
def test_zeros_stay_zero_and_the_soup_has_the_mask(tx):
  params = problems.tree(0)
  mask = average.magnitude_mask(params, 0.4)
  start = average.prune(params, mask)
  tuned = [fit(start, average.frozen_zeros(tx), seed=s) for s in range(2)]
  soup = average.masked_mean(ws.stack(tuned), mask)
  for model in (*tuned, soup):
    assert average.sparsity(model) == average.sparsity(start)
    assert not np.allclose(model["out"], start["out"])
  problems.close(soup, ws.weighted_mean(ws.stack(tuned)), 0, 0)


def test_phases_multiply():
  densities = average.phases(0.97, 3)
  ratios = np.divide(densities[1:], densities[:-1])
  np.testing.assert_allclose(ratios, densities[0])
  np.testing.assert_allclose(densities[-1], 0.03)


def test_pull_is_a_mixing_matrix():
  experts = problems.stack(4)
  for rate in (0.0, 0.3, 0.75):
    found = average.pull(experts, rate)
    wanted = average.mix(experts, average.sharing(4, rate))
    problems.close(found, wanted)
    problems.close(ws.weighted_mean(found), ws.weighted_mean(experts), 1e-5)
    before, after = average.consensus(experts), average.consensus(found)
    np.testing.assert_allclose(after, abs(1 - rate * 4 / 3) * before, atol=1e-5)
  problems.close(average.pull(problems.stack(1), 0.5), problems.stack(1), 0, 0)


def test_equal_experts_fully_shared_are_sgd_on_the_mean_gradient():
  one = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]])}
  experts = ws.stack([one] * 4)
  tx = average.sharing_experts(optax.sgd(0.1), "w", 3 / 4)
  x = jax.random.normal(KEY, (8, 2))

  def loss(experts):
    y = average.deal(KEY, lambda p, x: x @ p["w"], experts, x)
    return (y**2).sum()

  gradient = jax.grad(loss)(experts)
  updates, _ = tx.update(gradient, tx.init(experts), experts)
  moved = optax.apply_updates(experts, updates)
  wanted = one["w"] - 0.1 * gradient["w"].mean(0)
  for m in range(4):
    np.testing.assert_allclose(moved["w"][m], wanted, rtol=1e-5)
  merged = average.merge_experts(moved, "w")
  np.testing.assert_allclose(merged["w"], wanted, rtol=1e-5)


def test_tokens_are_dealt_evenly_and_come_back_in_order():
  experts = {"tag": jnp.arange(4.0)}
  x = jnp.arange(12.0)[:, None]
  y = average.deal(KEY, lambda p, x: jnp.stack([x, p["tag"] + 0 * x], -1),
                   experts, x)  # fmt: skip
  assert y[:, 0, 0].tolist() == x[:, 0].tolist()
  assert np.bincount(np.asarray(y[:, 0, 1], int)).tolist() == [3] * 4


def test_a_rate_may_rise_with_the_steps():
  tx = average.sharing_experts(optax.sgd(0.0), "w", lambda n: 0.25 * n)
  params, state = {"w": jnp.array([0.0, 4.0])}, None
  state = tx.init(params)
  for wanted in ([0.0, 4.0], [1.0, 3.0], [2.0, 2.0]):
    updates, state = tx.update({"w": jnp.zeros(2)}, state, params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], wanted, atol=1e-6)


def test_the_tilted_policy_is_the_best_one():
  reference, reward = jax.random.normal(KEY, (2, 16))
  best = average.tilt(reference, reward, 0.7)
  value = average.regularised(best, reference, reward, 0.7)
  p, r = (np.asarray(jax.nn.softmax(x), float) for x in (best, reference))
  wanted = p @ np.asarray(reward, float) - 0.7 * (p * np.log(p / r)).sum()
  np.testing.assert_allclose(value, wanted, rtol=1e-5)
  partition = np.log((r * np.exp(np.asarray(reward, float) / 0.7)).sum())
  np.testing.assert_allclose(value, 0.7 * partition, rtol=1e-5)
  slope = jax.grad(average.regularised)(best, reference, reward, 0.7)
  assert np.abs(slope).max() < 1e-6
  for seed in range(5):
    other = best + 0.1 * jax.random.normal(jax.random.key(seed), (16,))
    assert average.regularised(other, reference, reward, 0.7) < value


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_restored_share(rate):
  """Within five binomial deviations, in every leaf, and apart in each."""
  params = {"a": jnp.ones(40_000), "b": jnp.ones((200, 200))}
  source = jax.tree.map(jnp.zeros_like, params)
  found = average.stochastic_restore(KEY, params, source, rate)
  slack = 5 * np.sqrt(rate * (1 - rate) / 40_000)
  for leaf in found.values():
    assert abs(float((leaf == 0).mean()) - rate) < slack
  assert not np.array_equal(found["a"], found["b"].ravel())
  inside = jax.jit(average.stochastic_restore)(KEY, params, source, rate)
  problems.close(inside, found, 0, 0)


def test_restoring_all_none_and_for_long():
  params, source = problems.models(2)
  restore = average.stochastic_restore
  problems.close(restore(KEY, params, source, 1.0), source, 0, 0)
  problems.close(restore(KEY, params, source, 0.0), params, 0, 0)
  far, origin = {"w": jnp.ones(50_000)}, {"w": jnp.zeros(50_000)}
  for n in range(10):
    far = restore(jax.random.fold_in(KEY, n), far, origin, 0.1)
  assert abs(far["w"].mean() - 0.9**10) < 0.01
  narrow = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
  for x in jax.tree.leaves(restore(KEY, narrow, narrow, 0.5)):
    assert x.dtype == ml_dtypes.bfloat16


def shifted(key, x):
  return x + 0.1 * jax.random.normal(key, x.shape)


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_cotta_step_by_hand(threshold):
  """Against the same events written out, sure and unsure."""
  source, x = problems.tree(0), data()["x"]
  adapter = average.cotta(
    problems.apply, optax.sgd(0.1), shifted,
    decay=0.9, restore=0.2, threshold=threshold, copies=3,
  )  # fmt: skip
  state = adapter.init(source)
  state, _ = adapter.step(state, KEY, x)  # the teacher is another one now
  student, teacher = state.params, state.teacher.total
  after, logits = jax.jit(adapter.step)(state, KEY, x)
  keys = jax.random.split(KEY)
  if threshold:
    views = [shifted(k, x) for k in jax.random.split(keys[0], 3)]
    wanted = sum(problems.apply(teacher, view) for view in views) / 3
  else:
    wanted = problems.apply(teacher, x)
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)

  def loss(params):
    logs = jax.nn.log_softmax(problems.apply(params, x))
    return -(jax.nn.softmax(wanted) * logs).sum(-1).mean()

  gradient = jax.grad(loss)(student)
  moved = jax.tree.map(lambda p, g: p - 0.1 * g, student, gradient)
  mean = jax.tree.map(lambda t, p: 0.9 * t + 0.1 * p, teacher, moved)
  problems.close(after.teacher.total, mean, 1e-5)
  back = average.stochastic_restore(keys[1], moved, source, 0.2)
  problems.close(after.params, back, 1e-5)
  problems.close(after.source, source, 0, 0)


def test_tent_lowers_entropy():
  adapter, x = average.tent(problems.apply, optax.sgd(0.5)), data()["x"]
  state, seen = adapter.init(problems.tree(0)), []
  for _ in range(5):
    state, logits = adapter.step(state, KEY, x)
    seen.append(float(losses.entropy(logits).mean()))
  assert sorted(seen, reverse=True) == seen


def test_el2n_is_numpys():
  logits = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
  labels = np.array([0, 1, 2, 0, 1])
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  wanted = np.sqrt(((p - np.eye(3)[labels]) ** 2).sum(-1))
  found = average.el2n(jnp.asarray(logits), jnp.asarray(labels))
  np.testing.assert_allclose(found, wanted.mean(0), rtol=1e-5)
  one = average.el2n(jnp.asarray(logits[0]), jnp.asarray(labels))
  np.testing.assert_allclose(one, wanted[0], rtol=1e-5)


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: average.phases(1.0, 3), "sparsity 1.0 in 3 phases"),
    (lambda: average.magnitude_mask({"w": jnp.ones((2, 2))}, 0.0), "is 0.0"),
    (lambda: average.magnitude_mask({"b": jnp.ones(2)}, 0.5), "no leaf has 2"),
    (
      lambda: average.magnitude_mask({"w": jnp.ones((2, 2))}, 0.5, "row"),
      "scope is 'row'",
    ),
    (
      lambda: average.masked_mean(
        {"w": jnp.array([[1.0, 0.0], [1.0, 2.0]])},
        {"w": jnp.array([True, False])},
      ),
      "'w' of model 1 is not zero",
    ),
    (
      lambda: average.masked_mean({"w": jnp.ones((2, 2))}, {"v": True}),
      "masked_mean: mask: 'w' is missing",
    ),
    (
      lambda: average.prune({"w": jnp.ones((2, 2))}, {"w": np.ones(2, bool)}),
      r"prune: mask: 'w' is \(2,\)",
    ),
    (lambda: average.sparsity({"b": jnp.ones(2)}), "no leaf has 2"),
    (
      lambda: average.merge_experts({"w": jnp.ones(2)}, "v"),
      "merge_experts: 'v' matches no path of w",
    ),
    (lambda: average.pull({"w": jnp.ones(2)}, 1.5), "pull: rate is 1.5"),
    (
      lambda: average.divergence(jnp.zeros(2), jnp.zeros(3)),
      r"logits \(2,\) and \(3,\)",
    ),
    (
      lambda: average.regularised(*[jnp.zeros(2)] * 3, beta=-1.0),
      "beta is -1.0",
    ),
    (
      lambda: average.frozen_zeros(optax.sgd(1.0)).update({}, (), None),
      "params is None",
    ),
    (
      lambda: average.deal(KEY, None, {"w": jnp.ones(3)}, jnp.ones((4, 1))),
      "4 tokens for 3 experts",
    ),
    (
      lambda: average.sharing_experts(optax.sgd(1.0), "v", 0.1).init({"w": 1}),
      "'v' matches no path",
    ),
    (lambda: average.tilt(jnp.zeros(2), jnp.zeros(2), 0.0), "beta is 0.0"),
    (
      lambda: average.stochastic_restore(KEY, {"w": 1.0}, {"w": 1.0}, 1.5),
      "rate is 1.5",
    ),
    (
      lambda: average.stochastic_restore(KEY, {"w": 1.0}, {"v": 1.0}, 0.5),
      "source: 'w' is missing",
    ),
    (
      lambda: average.cotta(None, optax.sgd(1.0), shifted, copies=0),
      "0 copies",
    ),
    (lambda: average.el2n(jnp.ones((3, 2)), jnp.ones(2, int)), "expected .N"),
  ],
)
def test_bad_input_is_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()
