"""Intervals that fit what they bound, and verdicts made of them."""

import numpy as np
import pytest
import scipy.stats

from experiments.run import estimates, verdicts
from experiments.run.verdicts import FAILS, HOLDS, OPEN

RANDOM = np.random.default_rng(0)


def test_accuracies_stay_within_their_bounds():
  found = estimates.bounded([99.0, 100.0, 99.9], 0.0, 100.0)
  assert found.high == 100.0 and 98.0 < found.low < 99.0
  with pytest.raises(ValueError, match="value 1 is 101, expected 0 to 100"):
    estimates.bounded([99.0, 101.0], 0.0, 100.0)


def test_correlations_stay_within_one_and_are_fishers():
  values = [-0.95, -0.99, -0.9, -0.97]
  found = estimates.correlation(values)
  z = np.arctanh(values)
  half = scipy.stats.t.ppf(0.975, 3) * z.std(ddof=1) / 2
  np.testing.assert_allclose(found.low, np.tanh(z.mean() - half))
  np.testing.assert_allclose(found.high, np.tanh(z.mean() + half))
  assert estimates.correlation([1.0, 1.0]).high <= 1.0
  with pytest.raises(ValueError, match=r"value 0 is 1\.5, expected -1 to 1"):
    estimates.correlation([1.5])


def test_fiellers_ends_are_where_a_t_test_turns():
  whole = RANDOM.normal(10.0, 1.0, 8)
  part = 0.7 * whole + RANDOM.normal(0.0, 0.5, 8)
  found = estimates.ratio(part, whole)
  for end in (found.low, found.high):
    p = scipy.stats.ttest_1samp(part - end * whole, 0.0).pvalue
    assert p == pytest.approx(0.05, abs=1e-9)
  assert found.mean == pytest.approx(part.mean() / whole.mean())


def test_a_whole_that_may_be_zero_bounds_nothing():
  found = estimates.ratio([1.0, 1.1, 0.9], [1.0, -1.0, 0.5])
  assert (found.low, found.high) == (-np.inf, np.inf)
  with pytest.raises(ValueError, match="expected 2 as in a"):
    estimates.ratio([1.0, 2.0], [1.0])


def test_fieller_covers_95_percent():
  draws = RANDOM.normal(size=(2000, 2, 6)) + np.array([[2.0], [4.0]])
  inside = [
    found.low <= 0.5 <= found.high
    for found in (estimates.ratio(*pair) for pair in draws)
  ]
  assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 2000)


NOISE = np.array([-0.02, 0.01, 0.0, 0.02, -0.01])
CASES = [  # judge, mean of what it judges, the word
  (verdicts.above, 1.0, HOLDS),
  (verdicts.above, -1.0, FAILS),
  (verdicts.above, 0.0, OPEN),
  (verdicts.below, -1.0, HOLDS),
  (verdicts.below, 1.0, FAILS),
  (verdicts.below, 0.0, OPEN),
  (lambda x: verdicts.above(x, 0.5), 1.0, HOLDS),
  (lambda x: verdicts.above(x, effect=1.0), 0.0, FAILS),  # far from the paper's
  (lambda x: verdicts.below(x, effect=-1.0), 0.0, FAILS),
  (lambda x: verdicts.not_below(x, 0.5), -0.2, HOLDS),
  (lambda x: verdicts.not_below(x, 0.5), -0.9, FAILS),
  (lambda x: verdicts.not_below(x, 0.5), -0.5, OPEN),
  (lambda x: verdicts.within(x, -0.1, 0.1), 0.0, HOLDS),
  (lambda x: verdicts.within(x, -0.1, 0.1), 0.1, OPEN),
  (lambda x: verdicts.within(x, -0.1, 0.1), 0.3, FAILS),
  (lambda x: verdicts.correlated(x, 0.5), 0.8, HOLDS),
  (lambda x: verdicts.correlated(x, 0.5), 0.5, OPEN),
  (lambda x: verdicts.correlated(x, 0.5), 0.2, FAILS),
  (lambda x: verdicts.share(x, 1 + 0 * x, 0.8), 0.9, HOLDS),
  (lambda x: verdicts.share(x, 1 + 0 * x, 0.8), 0.8, OPEN),
  (lambda x: verdicts.share(x, 1 + 0 * x, 0.8), 0.7, FAILS),
]


@pytest.mark.parametrize("judge, mean, word", CASES)
def test_a_verdict_is_one_of_three(judge, mean, word):
  verdict = judge(mean + NOISE)
  assert verdict.word == word and bool(verdict) == (word == HOLDS)
  assert 0.0 <= verdict.p <= 1.0


def test_the_p_value_is_students():
  values = RANDOM.normal(0.3, 1.0, 7)
  expected = scipy.stats.ttest_1samp(values, 0.1, alternative="greater").pvalue
  assert verdicts.above(values, 0.1).p == pytest.approx(expected)
  assert verdicts.below(values, 0.1).p == pytest.approx(1 - expected)


def test_a_conjunction_is_its_weakest_part():
  good, bad, none = (verdicts.above(m + NOISE) for m in (1.0, -1.0, 0.0))
  assert verdicts.every(good, none).word == OPEN
  assert verdicts.every(good, none, bad).word == FAILS
  assert verdicts.every(good, none).p == none.p


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_at_the_null_few_hold(seeds):
  """At most 2.5 % of 4000, within three standard errors."""
  draws = RANDOM.normal(size=(4000, seeds))
  share = np.mean([bool(verdicts.above(x)) for x in draws])
  assert abs(share - 0.025) < 3 * np.sqrt(0.025 * 0.975 / 4000)


def test_one_value_decides_nothing():
  for judge in (verdicts.above, verdicts.below, verdicts.not_below):
    assert judge([5.0]).word == OPEN
