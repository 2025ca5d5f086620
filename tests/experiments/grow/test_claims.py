"""Judges of the claims about sizes: an effect, its reverse, and none."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from experiments.grow import bed, blocks, inheritance
from experiments.grow.claims import CLAIMS
from weightspace import grow

SEEDS = 5


def run(rows, noise=0.01, seed=0):
  """Return a run whose lines are {method: {metric: value}}, a little noisy."""
  random = np.random.default_rng(seed)
  lines = [
    {"seed": seed, "method": method}
    | {m: value * (1 + noise * random.normal()) for m, value in numbers.items()}
    for seed in range(SEEDS)
    for method, numbers in rows.items()
  ]
  config = types.SimpleNamespace(seeds=SEEDS)
  return types.SimpleNamespace(config=config, lines=dict(enumerate(lines)))


def steps(ratio):
  names = {"scratch": 100.0, "inherited": 100.0 / ratio}
  names["inherited and aligned"] = 90.0 / ratio
  return {name: {"steps to the loss": value} for name, value in names.items()}


def depths(tuned, raw):
  found = {}
  for depth in (3, 6):
    numbers = {"accuracy (%)": tuned, "untuned (%)": raw}
    found[f"expanded, {depth} blocks"] = numbers
    numbers = {"accuracy (%)": 87.0, "untuned (%)": 10.0}
    found[f"scratch, {depth} blocks"] = numbers
  return found


def shares(sliced, plain):
  found = {}
  for share in ("100%", "25%"):
    right = {"alone": 95.0, "sandwich": sliced, "plain": plain}
    right["sandwich, hard labels"] = sliced
    for name, value in right.items():
      found[f"{name}, {share}"] = {"accuracy (%)": value}
  return found


def searches(better, error=1e-7, wide=0.9):
  numbers = {"percentile": better, "error of the mixture": error}
  found = {n: dict(numbers) for n in ("DrNAS", "DARTS")}
  for row in found.values():
    row["widest value"] = wide
  return found


def grown(recombined):
  names = {"recombined": recombined, "random": 90.0, "zero": 89.0}
  return {
    name: {"mean of the curve (%)": value, "in the end (%)": value}
    for name, value in names.items()
  }


def assembled(raw, tuned):
  names = {"shared, untuned": raw, "unrelated, untuned": 10.0}
  names |= {"shared, tuned": tuned, "unrelated, tuned": 80.0}
  names |= {"end to end": 91.0, "end to end, all steps": 94.0}
  return {name: {"accuracy (%)": value} for name, value in names.items()}


def tickets(layers, narrow):
  names = {"dense": 70.0, "2 blocks": layers, "width like 2": narrow}
  return {name: {"accuracy (%)": value} for name, value in names.items()}


def ranks(one, four):
  return {
    "M = 1": {"rank correlation": one},
    "M = 4": {"rank correlation": four},
  }


# For each claim an effect, its reverse, and the noise at which it is open.
CASES = {
  "tinyclip": (steps(3.0), steps(1.1), steps(1.4)),
  "learngene": (depths(92.0, 90.0), depths(80.0, 90.0), depths(87.0, 90.0)),
  "bignas": (shares(95.0, 30.0), shares(85.0, 30.0), shares(93.5, 30.0)),
  "tanglenas": (searches(80.0), searches(20.0), searches(50.0)),
  "mixture_growth": (grown(92.0), grown(85.0), grown(90.0)),
  "assembling": (
    assembled(70.0, 92.0), assembled(20.0, 92.0), assembled(40.0, 92.0)
  ),
  "layer_tickets": (
    tickets(70.5, 65.0), tickets(70.5, 75.0), tickets(70.5, 70.5)
  ),
  "supernets": (ranks(0.2, 0.8), ranks(0.8, 0.2), ranks(0.5, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_judge_says_each_of_its_verdicts(name):
  good, bad, even = CASES[name]
  measured, holds = CLAIMS[name].judge(run(good))
  assert holds.word == "holds", measured
  assert f"over {SEEDS} seeds" in measured and "[" in measured
  assert CLAIMS[name].judge(run(bad))[1].word == "does not hold"
  words = [
    CLAIMS[name].judge(run(even, 0.02, seed))[1].word for seed in range(20)
  ]
  assert "undecided" in words


@pytest.mark.parametrize("name", CLAIMS)
def test_at_the_threshold_a_judge_seldom_says_holds(name):
  _, _, even = CASES[name]
  words = [
    CLAIMS[name].judge(run(even, 0.02, seed))[1].word for seed in range(400)
  ]
  assert words.count("holds") <= 20  # 2.5 % of 400, and three sigma


def test_a_mixture_that_is_not_exact_does_not_hold():
  for case in (searches(80.0, error=1e-3), searches(80.0, wide=1.5)):
    assert CLAIMS["tanglenas"].judge(run(case))[1].word == "does not hold"


def test_losses_are_smoothed_over_steps():
  losses = np.arange(12.0).reshape(2, 3, 2)
  smooth = inheritance.smoothed(losses, 3)
  steps_ = losses.reshape(6, 2).T
  expected = [[row[k : k + 3].mean() for k in range(4)] for row in steps_]
  np.testing.assert_allclose(smooth, expected)


def test_the_beds_networks_are_of_any_size():
  x = jnp.ones((3, 6))
  params = bed.residual(jax.random.key(0), 6, width=4, hidden=8, blocks=3)
  axes = ws.symmetry.trace_axes(bed.apply_residual, params, x)
  student = grow.inherit(
    axes, params, grow.sizes(axes, 0.5), bed.PATTERN, [0, 2]
  )
  wanted = bed.residual(jax.random.key(0), 6, width=2, hidden=4, blocks=2)
  assert jax.tree.map(jnp.shape, student) == jax.tree.map(jnp.shape, wanted)
  assert bed.apply_residual(student, x).shape == (3, 10)


def test_the_resnet_is_the_librarys():
  x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  model = ws.models.build("resnet", depth=14, width=0.25, norm="batch")
  params = model.init(jax.random.key(0), x)
  np.testing.assert_allclose(
    blocks.apply_resnet(params, x), model.apply(params, x), 1e-4, 1e-4
  )
  without = grow.restack(params, "block_*", [0, 2, 4], check=False)
  assert blocks.apply_resnet(without, x).shape == (4, 10)


def test_images_are_pooled_where_a_path_says():
  params = blocks.pooled_net(jax.random.key(0), 4, 3)
  x = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
  logits = [blocks.apply_pooled(params, x, path) for path in grow.pooling(3, 1)]
  assert len({float(y[0, 0]) for y in logits}) == 3
