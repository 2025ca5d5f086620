"""Pareto fronts, their surrogates, and searches for them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import problems
from weightspace import merge
from weightspace.search import pareto_fronts, surrogates

KEY = jax.random.key(0)
BASE = problems.tree(9)
STACK = problems.stack(3)
SETS = [problems.data(32, seed) for seed in range(3)]


def quadratic(params, goal):
  return -((params["w"] - goal) ** 2).sum()


EYE = {"w": jnp.eye(2)}
ZERO = {"w": jnp.zeros(2)}
GOALS = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]


def test_dominance_and_volume_against_counting():
  random = np.random.default_rng(0)
  points = random.random((40, 3)).round(1)
  front = [
    not any((q >= p).all() and (q > p).any() for q in points) for p in points
  ]
  np.testing.assert_array_equal(pareto_fronts.on_front(points), front)
  cells = np.stack(np.meshgrid(*[np.arange(0, 1, 0.1) + 0.05] * 3), -1)
  covered = (points[:, None] > cells.reshape(-1, 3)[None]).all(-1).any(0)
  volume = pareto_fronts.hypervolume(points, np.zeros(3))
  np.testing.assert_allclose(volume, covered.mean(), atol=1e-6)
  assert pareto_fronts.hypervolume(points, np.ones(3)) == 0.0
  ranks = pareto_fronts.ranks(points)
  for number in range(1, ranks.max() + 1):
    before = points[ranks == number - 1]
    for p in points[ranks == number]:
      assert ((before >= p).all(1) & (before > p).any(1)).any()


@pytest.mark.parametrize("link", surrogates.LINKS)
def test_a_quadratic_behind_a_link_is_found(link):
  random = np.random.default_rng(1)
  c = random.uniform(0, 1, (30, 3))
  inner = surrogates.monomials(c) @ random.normal(size=10)
  values = surrogates._forward(inner, link)
  fitted = surrogates.fit(c, values, link)
  assert fitted.error < 1e-6
  new = random.uniform(0, 1, (5, 3))
  wanted = surrogates._forward(surrogates.monomials(new) @ fitted.weights, link)
  np.testing.assert_allclose(fitted(new), wanted)
  assert surrogates.needed(3) == 10


@pytest.mark.parametrize("way", ["plain", "bayesian"])
def test_the_front_of_two_quadratics_is_the_line_between_their_goals(way):
  found = merge.pareto_front(
    EYE, quadratic, GOALS, KEY, base=ZERO, budget=12, points=20, way=way
  )
  assert found.evaluations == 32
  near = np.abs(found.weights.sum(1) - 1.0)
  assert np.median(near) < 0.03
  np.testing.assert_allclose(found.values, found.predicted, atol=1e-3)
  assert (np.diff(found.values[:, 0]) >= 0).all()
  assert (np.diff(found.values[:, 1]) <= 0).all()
  assert np.isnan(found.errors).all()
  dense = np.array([[t, 1 - t] for t in np.linspace(0, 1, 101)])
  values = np.stack([-2 * (1 - dense[:, 0]) ** 2, -2 * dense[:, 0] ** 2], 1)
  reference = np.array([-2.0, -2.0])
  share = pareto_fronts.hypervolume(found.values, reference)
  assert share > 0.93 * pareto_fronts.hypervolume(values, reference)


def test_rounds_do_not_lose_volume_and_count_their_evaluations():
  found = merge.pareto_front(
    STACK,
    problems.likelihood,
    SETS,
    KEY,
    base=BASE,
    budget=20,
    rounds=3,
    points=8,
  )
  assert found.history[:, 0].tolist() == [20, 28, 36, 44]
  assert (np.diff(found.history[:, 1]) >= 0).all()
  assert found.evaluations == 44
  assert pareto_fronts.on_front(found.values).all()
  assert (found.errors > 0).all()
  for weights, value in zip(found.weights[:2], found.values[:2]):
    mixed = jax.tree.map(
      lambda x, b, w=weights: b + np.tensordot(w, x - b[None], 1), STACK, BASE
    )
    wanted = [problems.likelihood(mixed, part).mean() for part in SETS]
    np.testing.assert_allclose(value, wanted, 1e-3, 1e-4)


def test_scores_of_their_own_and_weights_on_the_stack():
  scores = [problems.likelihood, problems.mean_likelihood]
  found = merge.pareto_front(
    STACK, scores, [SETS[0]] * 2, KEY, budget=10, points=4
  )
  np.testing.assert_allclose(found.values[:, 0], found.values[:, 1], 1e-4)
  assert len(found.weights) == 1


def test_one_objective_gives_the_best_mix():
  found = merge.pareto_front(EYE, quadratic, GOALS[:1], KEY, base=ZERO)
  np.testing.assert_allclose(found.weights, [[1.0, 0.0]], atol=1e-6)


def test_the_line_between_two_models_and_its_chord():
  stack = jax.tree.map(lambda x: x[:2], STACK)
  found = merge.line_front(stack, problems.likelihood, SETS[:2], count=5)
  assert found.weights[0].tolist() == [1.0, 0.0]
  middle = jax.tree.map(lambda x: (x[0] + x[1]) / 2, stack)
  wanted = [problems.likelihood(middle, part).mean() for part in SETS[:2]]
  np.testing.assert_allclose(found.values[2], wanted, 1e-4)
  assert (found.errors > 0).all() and found.evaluations == 5
  straight = np.stack([np.linspace(0, 2, 5), np.linspace(3, 1, 5)], 1)
  np.testing.assert_allclose(merge.above_chord(straight), 0.0, atol=1e-12)
  bent = straight + np.array([[0, 0], [0.1, 0.1]] + [[0.1, 0.1]] * 2 + [[0, 0]])
  assert (merge.above_chord(bent)[1:4] > 0.05).all()


def test_nested_merges_pairs_of_pairs():
  stack, zero = {"w": jnp.eye(4)}, {"w": jnp.zeros(4)}
  goals = [jnp.eye(4)[m] for m in range(4)]
  found = merge.nested_merge(stack, quadratic, goals, KEY, base=zero)
  np.testing.assert_allclose(found.weights, 0.25, atol=0.03)
  assert found.evaluations == 4 + 3 * 18
  assert sorted(itertools.chain(*found.pairs[-1])) == [0, 1, 2, 3]
  tilted = merge.nested_merge(
    stack, quadratic, goals, KEY, base=zero, preference=[1.0, 1.0, 0.0, 0.0]
  )
  np.testing.assert_allclose(tilted.weights, [0.5, 0.5, 0, 0], atol=0.05)
  np.testing.assert_allclose(tilted.params["w"], tilted.weights, atol=1e-5)


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: merge.pareto_front(EYE, quadratic, GOALS, KEY, budget=5),
      "budget is 5, expected at least 6",
    ),
    (
      lambda: merge.pareto_front(EYE, quadratic, GOALS, KEY, box=(1.0, 0.0)),
      r"pareto_front: box is \(1.0, 0.0\), expected low < high",
    ),
    (
      lambda: merge.pareto_front(EYE, quadratic, [], KEY),
      "0 scores and 0 data sets",
    ),
    (
      lambda: merge.pareto_front(EYE, [quadratic], GOALS, KEY),
      "1 scores and 2 data sets",
    ),
    (
      lambda: merge.pareto_front(EYE, quadratic, GOALS, KEY, way="random"),
      "way is 'random'",
    ),
    (
      lambda: merge.pareto_front(EYE, quadratic, GOALS, KEY, link="probit"),
      "link is 'probit'",
    ),
    (
      lambda: merge.pareto_front(
        EYE, lambda p, g: p["w"].sum() * jnp.nan, GOALS, KEY
      ),
      "a score is NaN at",
    ),
    (
      lambda: merge.pareto_front(EYE, quadratic, GOALS, KEY, base={"v": 1.0}),
      "base: 'w' is missing",
    ),
    (
      lambda: surrogates.fit(np.zeros((5, 2)), np.zeros(5)),
      "5 evaluations, expected at least 6",
    ),
    (
      lambda: merge.line_front(STACK, quadratic, GOALS),
      "11 points between 3 models",
    ),
    (
      lambda: merge.nested_merge(EYE, quadratic, GOALS[:1], KEY, base=ZERO),
      "1 objectives and preferences",
    ),
    (
      lambda: merge.nested_merge(
        EYE, quadratic, GOALS, KEY, base=ZERO, preference=[1.0, -1.0]
      ),
      "preference is",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
