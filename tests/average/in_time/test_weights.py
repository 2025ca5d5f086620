"""Weights of checkpoints, averages made afterwards, scores: laws and NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import average


def test_metric_weights_in_closed_form():
  losses, steps = np.array([0.5, 2.0, 1.0]), np.array([1.0, 2.0, 4.0])
  for penalty in (0.0, 0.5, 3.0):
    found = average.metric_weights(losses, penalty)
    raw = losses**-penalty
    np.testing.assert_allclose(found, raw / raw.sum(), rtol=1e-5)
    scaled = average.metric_weights(1000 * losses, penalty)
    np.testing.assert_allclose(scaled, found, rtol=1e-5)
    raw = steps**penalty
    found = average.metric_weights(steps, penalty, kind="step")
    np.testing.assert_allclose(found, raw / raw.sum(), rtol=1e-5)
  assert average.metric_weights(losses, math.inf).tolist() == [1.0, 0.0, 0.0]
  tied = average.metric_weights([1.0, 1.0, 2.0], math.inf)
  assert tied.tolist() == [0.5, 0.5, 0.0]
  np.testing.assert_allclose(average.metric_weights(losses, 0.0), 1 / 3, 1e-6)
  np.testing.assert_allclose(average.metric_weights([7.0] * 3, 9.0), 1 / 3)
  steps = average.metric_weights([0.0, 1.0, 3.0], 2.0, kind="step")
  np.testing.assert_allclose(steps, [0.0, 0.1, 0.9], rtol=1e-6)
  even = average.metric_weights([0.0, 1.0], 0.0, kind="step")
  assert even.tolist() == [0.5, 0.5]
  tiny = average.metric_weights([1e-30, 1e-29], 8.0)  # no overflow
  assert np.isfinite(tiny).all() and tiny[0] > 0.99


def test_metric_weights_vmap_over_penalties():
  penalties = jnp.array([0.0, 1.0, jnp.inf])
  found = jax.jit(jax.vmap(average.metric_weights, (None, 0)))(
    jnp.array([1.0, 3.0]), penalties
  )
  np.testing.assert_allclose(found, [[0.5, 0.5], [0.75, 0.25], [1, 0]], 1e-6)


@pytest.mark.parametrize(
  "fold",
  [
    average.running_mean(),
    average.ema(0.9, debias=True),
    average.ema(average.power(0.1), debias=True),
    average.every(3, average.window(2), start=1),
  ],
)
def test_a_profile_is_the_fold(fold):
  models = problems.models(9)
  weights = average.profile(fold, 9)
  mean = ws.weighted_sum(ws.stack(models), jnp.asarray(weights, jnp.float32))
  problems.close(mean, average.run(fold, models), 1e-4, 1e-5)
  np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-5)


def test_ema_of_any_decay_from_stored_traces():
  """Sixteen power traces of two widths give an EMA that nobody kept."""
  steps, at = 64, [8, 16, 24, 32, 40, 48, 56, 64]
  walk = np.cumsum(np.random.default_rng(0).normal(size=(steps, 5)), 0)
  walk = walk.astype(np.float32)
  folds = [average.ema(average.power(s), debias=True) for s in (0.05, 0.15)]
  stored, traces = [], []
  for fold in folds:
    state = fold.init(walk[0])
    for n, x in enumerate(walk, 1):
      state = fold.update(state, x)
      if n in at:
        stored.append(average.profile(fold, n, steps))
        traces.append(fold.value(state))
  wanted = average.ema(average.power(0.1), debias=True)
  target = average.profile(wanted, steps)
  found = average.synthesise(stored, target)
  assert found.error < 0.05
  mixed = ws.weighted_sum(jnp.stack(traces), jnp.asarray(found.weights))
  truth = average.run(wanted, list(walk))
  last = np.abs(truth - walk[-1]).max()
  assert np.abs(mixed - truth).max() < 0.03 * last
  mean = average.synthesise(stored, average.profile(average.window(8), steps))
  assert mean.error > found.error  # and it says when it is not to be had
  assert abs((mean.weights @ stored).sum() - 1) < 1e-4  # still an average
  exact = average.synthesise(stored, 2 * np.array(stored[3]))
  assert exact.error < 1e-6


def test_power_functions_have_the_width_asked_for():
  for sigma in (0.05, 0.1, 0.25):
    weights = average.profile(
      average.ema(average.power(sigma), debias=True), 800
    )
    t = np.arange(800) + 1.0
    mean = weights @ t
    width = np.sqrt(weights @ (t - mean) ** 2) / 800
    np.testing.assert_allclose(width, sigma, rtol=0.01)


def test_ema_weights_are_those_of_the_steps_when_all_are_saved():
  x = np.random.default_rng(0).normal(size=12)
  weights = average.ema_weights(np.arange(1, 13), 0.7)
  e = x[0]
  for value in x[1:]:
    e = 0.7 * e + 0.3 * value
  np.testing.assert_allclose(weights @ x, e)
  some = average.ema_weights([10, 20, 40], 0.95)
  wanted = [0.95**30, 0.95**20 - 0.95**30, 1 - 0.95**20]
  np.testing.assert_allclose(some, wanted)


def test_snapshots_are_at_equal_distances():
  assert average.spaced(7, 3) == [2, 4, 7]
  assert average.spaced(5, 5) == [1, 2, 3, 4, 5]


def test_heads_of_runs():
  models = problems.models(3)
  shared = [{**m, "out": models[0]["out"]} for m in models]
  mean = average.average_runs(shared, "out")
  problems.close(mean["dense"], ws.weighted_mean(ws.stack(models))["dense"])
  problems.close(mean["out"], models[0]["out"], 1e-6)
  own = average.average_runs(models, "out", heads="own")
  for m, model in enumerate(ws.unstack(own)):
    problems.close(model["out"], models[m]["out"], 0, 0)
    problems.close(model["dense"], mean["dense"], 0, 0)
  everything = average.average_runs(models, "out", heads="mean")
  problems.close(everything, ws.weighted_mean(ws.stack(models)))


def test_optimizer_states_keep_reset_average():
  tx, params = optax.adam(0.1), {"w": jnp.ones(2)}
  states = []
  for scale in (1.0, 3.0):
    state = tx.init(params)
    for _ in range(int(scale)):
      _, state = tx.update({"w": jnp.full(2, scale)}, state)
    states.append(state)
  stack = ws.stack(states)
  kept = average.optimizer_state("keep", tx, params, stack)
  problems.close(kept, states[1], 0, 0)
  reset = average.optimizer_state("reset", tx, params, stack)
  problems.close(reset, tx.init(params), 0, 0)
  mean = average.optimizer_state("average", tx, params, stack)
  assert mean[0].count.item() == 3
  wanted = (states[0][0].mu["w"] + states[1][0].mu["w"]) / 2
  np.testing.assert_allclose(mean[0].mu["w"], wanted, rtol=1e-6)


def test_signal_and_noise_are_numpys():
  scores = np.random.default_rng(0).random((4, 10)) + 1
  spread = (scores.max(-1) - scores.min(-1)) / scores.mean(-1)
  np.testing.assert_allclose(average.signal(scores), spread)
  tail = scores[:, -3:]
  wanted = tail.std(-1) / tail.mean(-1)
  np.testing.assert_allclose(average.noise(scores, 3), wanted)
  np.testing.assert_allclose(average.average_scores(scores, 3), tail.mean(-1))


def test_means_of_independent_scores_are_quieter_by_the_root():
  scores = np.random.default_rng(0).normal(size=(4000, 16)) + 50
  alone, mean = scores[:, -1].std(), average.average_scores(scores, 16).std()
  np.testing.assert_allclose(alone / mean, 4.0, rtol=0.05)


def test_decisions():
  a, b = [3.0, 1.0, 2.0], [30.0, 20.0, 10.0]
  assert average.decision_accuracy(a, a) == 1.0
  assert average.decision_accuracy(a, [-x for x in a]) == 0.0
  assert average.decision_accuracy(a, b) == 2 / 3
  assert average.decision_accuracy([1.0, 1.0], [1.0, 2.0]) == 0.0


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: average.metric_weights([], 1.0), r"shape \(0,\), expected \[M\]"),
    (lambda: average.metric_weights([1.0, 0.0], 1.0), "loss 1 is 0.0"),
    (lambda: average.metric_weights([0.0], 1.0, "step"), "step 0 is 0.0"),
    (lambda: average.metric_weights([1.0, np.nan], 1.0), "loss 1 is nan"),
    (lambda: average.metric_weights([1.0], -1.0), "penalty is -1.0"),
    (lambda: average.metric_weights([1.0], 1.0, "acc"), "kind is 'acc'"),
    (lambda: average.profile(average.window(1), 3, 2), "count is 3"),
    (lambda: average.synthesise([[1.0]], [1.0, 2.0]), r"\[K, T\] and \[T\]"),
    (lambda: average.synthesise([[1.0]], [0.0]), "target is zero"),
    (lambda: average.ema_weights([2, 1], 0.5), "expected rising"),
    (lambda: average.ema_weights([1], 1.0), "decay is 1.0"),
    (lambda: average.spaced(3, 4), "4 of 3 steps"),
    (
      lambda: average.average_runs(problems.models(2), "out"),
      "'out' of run 1 differs from run 0",
    ),
    (
      lambda: average.average_runs(problems.models(2), "head*"),
      "'head.*matches no path",
    ),
    (
      lambda: average.average_runs(problems.models(2), "out", heads="any"),
      "heads is 'any'",
    ),
    (
      lambda: average.optimizer_state("mean", optax.sgd(1.0), {}, {}),
      "rule is 'mean'",
    ),
    (lambda: average.signal([1.0]), "at least 2"),
    (lambda: average.noise([1.0, np.inf]), "not finite"),
    (lambda: average.noise([1.0, 2.0], last=1), "last is 1"),
    (lambda: average.noise([1.0, 2.0], last=3), "at least 3"),
    (lambda: average.average_scores([1.0], 0), "last is 0"),
    (lambda: average.average_scores([1.0], 2), "at least 2"),
    (
      lambda: average.decision_accuracy([1.0, 2.0], [1.0, 2.0, 3.0]),
      r"\[M\] twice",
    ),
  ],
)
def test_bad_input_is_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()
