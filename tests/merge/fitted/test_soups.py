"""Soups chosen by a score: greedy, pruned, learned, and their guard."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.search import scorers

COUNT = 5
STACK = problems.stack(COUNT)
MODELS = problems.models(COUNT)
DATA = problems.data(20)


def mixed(members):
  return jax.tree.map(lambda *xs: sum(xs) / len(xs), *members)


def accuracy(members):
  """The score of a soup of NumPy models, by itself."""
  model, x = mixed(members), np.asarray(DATA["x"])
  hidden = np.tanh(x @ model["dense"]["kernel"] + model["dense"]["bias"])
  right = (hidden @ model["out"]).argmax(-1) == np.asarray(DATA["y"])
  return np.float64(right.mean())


def greedy_reference(score, order, tie):
  """Recipe 1 of the paper, over subsets of members."""
  soup = [order[0]]
  best, bests = score(soup), [score([order[0]])]
  for model in order[1:]:
    value = score([*soup, model])
    if value > best or (value == best and tie == "accept"):
      soup, best = [*soup, model], value
    bests.append(best)
  return [float(m in soup) for m in range(COUNT)], bests


def python_score(params):
  return float(problems.accuracy(params, DATA).mean())


SCORES = {
  "python": (python_score, None),
  "per example": (problems.accuracy, DATA),
  "one number": (lambda p, d: problems.accuracy(p, d).mean(), DATA),
}


@pytest.mark.parametrize("tie", ["accept", "reject"])
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(
  "order", ["score", "score-later", "given", (3, 1, 0, 4, 2)]
)
def test_greedy_is_the_papers_loop(tie, kind, order):
  singles = np.array([accuracy([model]) for model in MODELS])
  orders = {
    "score": sorted(range(COUNT), key=lambda m: (-singles[m], m)),
    "score-later": sorted(range(COUNT), key=lambda m: (-singles[m], -m)),
    "given": list(range(COUNT)),
  }
  found = ws.merge.greedy(STACK, *SCORES[kind], tie=tie, order=order)
  tried = orders.get(order, order)
  weights, bests = greedy_reference(
    lambda soup: accuracy([MODELS[m] for m in soup]), tried, tie
  )
  assert found.weights.tolist() == weights
  assert [trial.model for trial in found.history] == list(tried)
  np.testing.assert_allclose(found.singles, singles, rtol=1e-6)
  kept = [t.score for t in found.history if t.accepted]
  assert kept == sorted(kept) if isinstance(order, str) else True
  assert found.score == pytest.approx(bests[-1])


def table(values):
  """A score of soups of three scalar models 1, 10, 100, by their mean."""
  stack = {"w": jnp.array([1.0, 10.0, 100.0])}

  def score(params):
    subsets = itertools.product((0, 1), repeat=3)
    for subset in subsets:
      if sum(subset):
        mean = np.dot(subset, [1, 10, 100]) / sum(subset)
        if np.isclose(mean, params["w"].item()):
          return values[subset]
    raise AssertionError("no such soup")

  return stack, score


def test_each_decision_has_its_reason():
  values = {(1, 0, 0): 0.5, (0, 1, 0): 0.7, (0, 0, 1): 0.7}
  values |= {(0, 1, 1): 0.7, (1, 1, 0): 0.9, (1, 0, 1): 0.1, (1, 1, 1): 0.6}
  stack, score = table(values)
  found = ws.merge.greedy(stack, score)
  assert [(t.model, t.accepted, t.reason) for t in found.history] == [
    (1, True, "first"),
    (2, True, "equal score, accepted"),
    (0, False, "score fell"),
  ]
  assert found.weights.tolist() == [0, 1, 1]
  found = ws.merge.greedy(stack, score, tie="reject")
  assert [(t.model, t.accepted, t.reason) for t in found.history] == [
    (1, True, "first"),
    (2, False, "equal score, rejected"),
    (0, True, "score rose"),
  ]
  assert (found.weights.tolist(), found.score) == ([1, 1, 0], 0.9)
  assert [t.best for t in found.history] == [-np.inf, 0.7, 0.7]
  later = ws.merge.greedy(stack, score, order="score-later")
  assert [t.model for t in later.history] == [2, 1, 0]


@pytest.mark.parametrize(("tie", "count"), [("accept", COUNT), ("reject", 1)])
def test_a_constant_score_keeps_all_or_one(tie, count):
  found = ws.merge.greedy(STACK, lambda params: 1.0, tie=tie)
  assert found.weights.sum() == count
  assert found.weights[0] == 1


@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_never_below_the_best_member(seed):
  data = problems.data(16, seed)
  found = ws.merge.greedy(STACK, problems.likelihood, data)
  assert found.score >= found.singles.max()
  soup = ws.weighted_mean(STACK, found.weights)
  again = float(problems.likelihood(soup, data).mean())
  assert again == pytest.approx(found.score, rel=1e-5)


def pruned_reference(score, singles, tie):
  kept = set(range(COUNT))
  best = score(kept)
  for model in np.argsort(singles, kind="stable"):
    value = score(kept - {model}) if len(kept) > 1 else -np.inf
    if value > best or (value == best and tie == "accept"):
      kept, best = kept - {model}, value
  return [float(m in kept) for m in range(COUNT)], best


@pytest.mark.parametrize("tie", ["accept", "reject"])
@pytest.mark.parametrize("kind", SCORES)
def test_pruned_drops_what_it_does_not_need(tie, kind):
  singles = np.array([accuracy([model]) for model in MODELS])
  found = ws.merge.pruned(STACK, *SCORES[kind], tie=tie)
  weights, best = pruned_reference(
    lambda kept: accuracy([MODELS[m] for m in sorted(kept)]), singles, tie
  )
  assert found.weights.tolist() == weights
  assert found.score == pytest.approx(best)


def test_pruned_keeps_the_last_member():
  found = ws.merge.pruned(STACK, lambda params: 1.0)
  assert found.weights.tolist() == [0, 0, 0, 0, 1]
  assert len(found.history) == COUNT - 1
  found = ws.merge.pruned(STACK, lambda params: 1.0, tie="reject")
  assert found.weights.tolist() == [1.0] * COUNT


def test_one_member_is_its_own_soup():
  one = ws.stack(MODELS[:1])
  for select in (ws.merge.greedy, ws.merge.pruned):
    assert select(one, problems.accuracy, DATA).weights.tolist() == [1.0]


def test_history_holds_the_interval_of_each_choice():
  found = ws.merge.greedy(STACK, problems.likelihood, DATA)
  assert found.history[0].interval is None
  for trial in found.history[1:]:
    interval = trial.interval
    assert interval.mean == pytest.approx(trial.score - trial.best, abs=1e-6)
    assert interval.low <= interval.mean <= interval.high
    assert interval.size == len(DATA["y"])
  numbers = ws.merge.greedy(STACK, problems.mean_likelihood, DATA)
  assert {trial.interval for trial in numbers.history} == {None}
  again = ws.merge.greedy(STACK, problems.likelihood, DATA)
  assert again.history == found.history


def test_the_bootstrap_is_nearly_normal():
  values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 2000)
  found = scorers.bootstrap(values, seed=0)
  error = values.std() / np.sqrt(len(values))
  assert found.mean == values.mean()
  np.testing.assert_allclose(found.low, values.mean() - 1.96 * error, atol=4e-3)
  np.testing.assert_allclose(
    found.high, values.mean() + 1.96 * error, atol=4e-3
  )
  assert scorers.bootstrap(np.array([-np.inf, 0.0]), seed=0) is None


def test_numpy_models_data_and_scores_are_welcome():
  stack, data = jax.tree.map(np.asarray, (STACK, DATA))
  found = ws.merge.greedy(stack, problems.accuracy, data)
  expected = ws.merge.greedy(STACK, problems.accuracy, DATA)
  assert found.weights.tolist() == expected.weights.tolist()
  as_array = ws.merge.greedy(stack, lambda p: np.array([python_score(p)]))
  assert as_array.weights.tolist() == expected.weights.tolist()
  problems.close(stack, STACK, 0, 0)


def mlp(params, x):
  return problems.apply(params, x)


@pytest.mark.parametrize("by", ["leaf", "model"])
def test_learned_weights_are_convex_and_lower_the_loss(by):
  found = ws.merge.learned(
    STACK, mlp, DATA, by=by, epochs=12, learning_rate=0.1
  )
  leaves = jax.tree.leaves(found.weights)
  assert len(leaves) == (1 if by == "model" else 4)
  for weights in leaves:
    assert weights.shape == (COUNT,)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
  assert found.history.shape == (12,)
  assert found.temperature > 0

  def loss(weights, beta=1.0):
    logits = beta * mlp(ws.weighted_mean(STACK, weights), DATA["x"])
    return -jax.nn.log_softmax(logits)[np.arange(20), DATA["y"]].mean()

  uniform = loss(jnp.ones(COUNT))
  assert loss(found.weights, found.temperature) < uniform
  assert found.history[0] == pytest.approx(float(uniform), rel=1e-5)


def test_the_first_step_goes_down_the_gradient():
  """AdamW's first step is the rate times the sign of the gradient."""

  def loss(raw):
    share = np.exp(raw) / np.exp(raw).sum()
    x, y = np.asarray(DATA["x"], float), np.asarray(DATA["y"])
    model = jax.tree.map(lambda *xs: np.tensordot(share, xs, 1), *MODELS)
    hidden = np.tanh(x @ model["dense"]["kernel"] + model["dense"]["bias"])
    logits = np.exp(model["gain"]) * (hidden @ model["out"])
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(20), y])

  steps = 1e-4 * np.eye(COUNT)
  slope = np.array([loss(step) - loss(-step) for step in steps])
  found = ws.merge.learned(
    STACK, mlp, DATA, by="model", epochs=1, learning_rate=0.01
  )
  raw = np.log(found.weights) - np.log(found.weights).mean()
  expected = -0.01 * np.sign(slope)
  np.testing.assert_allclose(raw, expected - expected.mean(), atol=1e-4)
  np.testing.assert_allclose(found.history, [loss(np.zeros(COUNT))], rtol=1e-5)


def test_learned_takes_its_order_from_the_key():
  def run(seed):
    key = jax.random.key(seed)
    return ws.merge.learned(STACK, mlp, DATA, epochs=1, batch_size=5, key=key)

  problems.close(run(1).weights, run(1).weights, 0, 0)
  a, b = run(1).weights["out"], run(2).weights["out"]
  assert np.abs(a - b).max() > 1e-6


MEMBERS = [ws.Member("a", 0), ws.Member("a", 1), ws.Member("b", 2)]


def test_members_of_other_starts_give_a_warning_with_the_barrier():
  stack = {"w": jnp.array([-1.0, 0.0, 1.0])}

  def bump(params, x):
    return x - params["w"] ** 2

  midpoint = "members 0 and 2 .*'a', 'b'.* changes by [+]1 .*Align them"
  for args in ((bump, jnp.zeros(())), (lambda p: bump(p, 0.0),)):
    with pytest.warns(UserWarning, match=midpoint):
      ws.merge.greedy(stack, *args, members=MEMBERS)
    with pytest.warns(UserWarning, match=midpoint):
      ws.merge.guard(stack, MEMBERS, *args)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    ws.merge.pruned(
      stack, bump, jnp.zeros(()), members=MEMBERS[:2] + MEMBERS[:1]
    )
    ws.merge.greedy(stack, bump, jnp.zeros(()))


def test_records_must_match_the_models():
  with pytest.raises(ValueError, match="2 records for 5 models"):
    ws.merge.guard(STACK, MEMBERS[:2], python_score)


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"tie": "maybe"}, r"tie is 'maybe', expected one of \['accept'"),
    ({"order": "best"}, "order is 'best', expected one of"),
    ({"order": [0, 1, 2, 3, 3]}, r"each of 0\.\.4 exactly once"),
  ],
)
def test_unknown_options_are_named(options, words):
  with pytest.raises(ValueError, match=words):
    ws.merge.greedy(STACK, python_score, **options)


@pytest.mark.parametrize("select", [ws.merge.greedy, ws.merge.pruned])
@pytest.mark.parametrize(
  ("score", "data", "words"),
  [
    (lambda p: np.nan, None, "score: returned NaN for mix 0"),
    (lambda p: np.ones(2), None, r"score: returned shape \(2,\)"),
    (lambda p, d: problems.apply(p, d["x"]), DATA, r"returned \(20, 2\)"),
    (lambda p, d: p["gain"] * jnp.nan, DATA, "returned NaN for mix 0"),
  ],
)
def test_bad_scores_are_named(select, score, data, words):
  with pytest.raises(ValueError, match=words):
    select(STACK, score, data)


@pytest.mark.parametrize("select", [ws.merge.greedy, ws.merge.pruned])
def test_nan_in_a_member_is_named(select):
  bad = {**STACK, "out": STACK["out"].at[3, 0, 0].set(jnp.nan)}
  with pytest.raises(ValueError, match="NaN in 'out' of model 3"):
    select(bad, python_score)
  with pytest.raises(ValueError, match="NaN in 'out' of model 3"):
    ws.merge.learned(bad, mlp, DATA)


@pytest.mark.parametrize(
  ("options", "data", "words"),
  [
    ({"by": "layer"}, DATA, "by is 'layer', expected one of"),
    ({"epochs": 0}, DATA, "learned: 0 epochs"),
    ({"batch_size": 0}, DATA, "batches of 0"),
    ({}, {"x": DATA["x"], "y": DATA["y"][:3]}, "20 inputs and 3 labels"),
    ({}, {"x": DATA["x"][:0], "y": DATA["y"][:0]}, "0 labels"),
    ({}, {**DATA, "x": DATA["x"] * jnp.nan}, "the loss is nan in epoch 0"),
  ],
)
def test_bad_input_of_learned_is_named(options, data, words):
  with pytest.raises(ValueError, match=words):
    ws.merge.learned(STACK, mlp, data, **options)
