"""The judges of re-basin: what they grant, and what they do not."""

import types

import ml_collections
import pytest

from experiments.rebasin import claims

SPREAD = (-0.01, 0.0, 0.01)  # of the seeds


def run(lines):
  config = {"cases": {"mlp": {}}, "methods": ("naive", "activations")}
  return types.SimpleNamespace(
    config=ml_collections.ConfigDict(config), lines=dict(enumerate(lines))
  )


def barriers(**means):
  return run(
    {"case": "mlp", "seed": seed, "method": name, "split": "train"}
    | {"mean": mean + noise}
    for name, mean in means.items()
    for seed, noise in enumerate(SPREAD)
  )


def accuracies(**means):
  return run(
    {"case": "mlp", "seed": seed, "merged": name, "accuracy": mean + noise}
    for name, mean in means.items()
    for seed, noise in enumerate(SPREAD)
  )


@pytest.mark.parametrize(
  "matched, random, holds",
  [(0.1, 1.0, True), (1.0, 1.0, False), (0.1, 0.1, False)],
)
def test_matching_against_a_random_permutation(matched, random, holds):
  found = barriers(naive=1.0, activations=matched, weights=0.7, random=random)
  measured, granted = claims.CLAIMS["control"].judge(found)
  assert bool(granted) is holds
  assert f"by activations {1 - matched:.2f} [" in measured
  assert "by weights 0.30 [" in measured


@pytest.mark.parametrize("gap, holds", [(0.5, True), (0.0, False)])
def test_the_barrier_between_two_that_were_matched_to_a_third(gap, holds):
  means = {"naive": 1.0, "weights": 0.1, "straight-through": 0.1}
  means |= {"naive, others": 1.0, "weights, others": 0.2}
  means |= {"straight-through, others": 0.2 + gap}
  measured, granted = claims.CLAIMS["others"].judge(barriers(**means))
  assert bool(granted) is holds
  assert f"difference {gap:.2f} [" in measured


@pytest.mark.parametrize("anew, holds", [(60.0, True), (10.0, False)])
def test_new_statistics(anew, holds):
  means = {"ends": 90.0, "naive": 10.0, "naive + reset": 20.0}
  means |= {"activations": 10.0, "activations + reset": anew}
  measured, granted = claims.CLAIMS["reset"].judge(accuracies(**means))
  assert bool(granted) is holds
  assert f"10.0 to {anew:.1f}" in measured


@pytest.mark.parametrize(
  "left, random, midpoint, holds",
  [
    (0.05, 1.0, 95.0, True),
    (0.2, 1.0, 95.0, False),
    (0.05, 0.3, 95.0, False),
    (0.05, 1.0, 94.0, False),
  ],
)
def test_git_rebasin(left, random, midpoint, holds):
  lines = []
  for split in ("train", "test"):
    found = barriers(naive=1.0, weights=left, random=random).lines.values()
    lines += [line | {"split": split} for line in found]
  lines += accuracies(ends=95.0, weights=midpoint).lines.values()
  measured, granted = claims.CLAIMS["rebasin"].judge(run(lines))
  assert bool(granted) is holds
  assert f"accuracy: {midpoint - 95.0:.2f} [" in measured
