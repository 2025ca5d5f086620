"""Judges of the data-aware claims: lines that hold, and lines that do not."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from experiments.data_aware import images, mixtures
from experiments.data_aware.claims import CLAIMS

SEEDS = 5
CONFIG = {"seeds": SEEDS}


def run(rows):
  """Return a run whose lines are {method: {metric: value}}, a little noisy."""
  random = np.random.default_rng(0)
  lines = [
    {"seed": seed, "method": method}
    | {m: value + 0.001 * random.normal() for m, value in metrics.items()}
    for seed in range(SEEDS)
    for method, metrics in rows.items()
  ]
  held = types.SimpleNamespace(**CONFIG)
  return types.SimpleNamespace(config=held, lines=dict(enumerate(lines)))


def bed(**values):
  return {
    name: {"tuned (%)": value, "untuned (%)": value}
    for name, value in values.items()
  }


def mixes(aligned, weighed):
  return {
    "all experts": {"test loss": 1.0, "stable rank": 9.0},
    "mean, as they are": {"test loss": 3.0, "stable rank": 8.0},
    "by frequency, as they are": {"test loss": 2.5, "stable rank": 8.0},
    "mean, aligned": {"test loss": weighed, "stable rank": 8.0},
    "by frequency, aligned": {"test loss": aligned, "stable rank": 8.0},
  }


def ratios(kept):
  """One ratio goes from (20, -2) to (60, -4); AMA lies off that line."""
  found = {
    f"one ratio, {t:.2f}": {
      "reward (%)": 20.0 + 40.0 * t,
      "log-likelihood": -2.0 - 2.0 * t,
    }
    for t in np.linspace(0, 1, 5)
  }
  for mean in (0.2, 0.6):
    found[f"AMA, {mean:.2f}"] = {
      "reward (%)": 40.0,
      "log-likelihood": -3.0 + kept,
    }
  return found


def learned(leaf, task):
  names = {"base": 30.0, "aTLAS, by task": task, "aTLAS, by leaf": leaf}
  return {
    name: {"new task (%)": value, "log-likelihood of the few": value}
    for name, value in names.items()
  }


def volumes(value):
  return {
    name: {
      "hypervolume over the grid's (%)": v,
      "on test (%)": v,
      "least R2": v / 100 - 0.02,
    }
    for name, v in (("MAP, 45", value), ("random, 45", 90.0))
  }


def chord(least):
  random = {"above the chord": 0.0, "least interior": -0.1}
  bent = {"above the chord": 0.1, "least interior": least}
  return {"interpolated": bent, "random direction": random}


CASES = {
  "regmean": (
    bed(RegMean=80.0, Fisher=70.0, average=60.0),
    bed(RegMean=80.0, Fisher=60.0, average=70.0),
  ),
  "regmean_pp": (
    bed(**{"RegMean++": 81.0, "RegMean": 80.0}),
    bed(**{"RegMean++": 80.0, "RegMean": 81.0}),
  ),
  "bench": (
    bed(**{"task arithmetic": 70.0, "Fisher": 69.0, "RegMean": 75.0}),
    bed(**{"task arithmetic": 70.0, "Fisher": 65.0, "RegMean": 72.0}),
  ),
  "atlas": (learned(60.0, 50.0), learned(45.0, 50.0)),
  "map": (volumes(99.0), volumes(89.0)),
  "ama": (ratios(0.1), ratios(-0.1)),
  "cfg": (chord(0.05), chord(-0.05)),
  "moe": (mixes(1.5, 2.0), mixes(2.0, 1.5)),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_judge_tells_what_holds_from_what_does_not(name):
  good, bad = CASES[name]
  measured, holds = CLAIMS[name].judge(run(good))
  assert holds, measured
  assert f"over {SEEDS} seeds" in measured and "[" in measured
  assert not CLAIMS[name].judge(run(bad))[1]


def test_a_few_of_every_class():
  data = {"x": np.arange(12.0), "y": np.tile([0, 1, 2], 4)}
  few = images._few(data, 2)
  np.testing.assert_array_equal(few["y"], [0, 1, 2, 0, 1, 2])
  np.testing.assert_array_equal(few["x"], np.arange(6.0))


def test_alignment_finds_the_order_of_copies():
  random = np.random.default_rng(0)
  shapes = {"gate": (4, 6), "up": (4, 6), "down": (6, 4)}
  one = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
  order = random.permutation(6)
  other = {"gate": one["gate"][:, order], "up": one["up"][:, order]}
  other["down"] = one["down"][order]
  stack = ws.stack([jax.tree.map(jnp.asarray, m) for m in (one, other)])
  params = {"block": {"experts": stack}}
  found = mixtures.alignment(params, "block", np.zeros(2, int))
  np.testing.assert_array_equal(found[0], np.arange(6))
  np.testing.assert_array_equal(order[found[1]], np.arange(6))
