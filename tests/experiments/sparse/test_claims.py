"""Judges of masks: each grants, refuses and leaves open what it should."""

import types

import jax
import ml_collections
import numpy as np
import pytest

from experiments.sparse import bed, claims, tasks, tickets, tuning
from weightspace import models, sparse

SEEDS = 6
NOISE = np.array([-1.0, 0.5, 1.0, -0.5, 0.2, -0.2])
CONFIG = {
  "seeds": SEEDS,
  "targets": (0.8,),
  "density": 0.1,
  "densities": (0.05,),
  "early": 5,
  "steps": 50,
  "tasks": 2,
}


def judged(name, methods, **noise):
  """Return what a judge says of {method: {number: mean}}."""
  lines = {}
  for place, (method, numbers) in enumerate(methods.items()):
    for seed in range(SEEDS):
      line = {"seed": seed, "method": method}
      for number, mean in numbers.items():
        # Noise of its own for every method, so that differences vary.
        shift = NOISE[(seed + place) % SEEDS] * noise.get(number, 0.0)
        line[number] = float(mean + shift)
      lines[f"{method}-{seed}"] = line
  run = types.SimpleNamespace(
    lines=lines, config=ml_collections.ConfigDict(CONFIG)
  )
  measured, verdict = claims.CLAIMS[name].judge(run)
  assert "over 6 seeds" in measured
  return verdict.word


@pytest.mark.parametrize(
  ("gap", "points", "word"),
  [
    (-1.0, 3.0, "holds"),
    (1.0, 3.0, "does not hold"),
    (-1.0, -3.0, "does not hold"),
    (0.0, 0.0, "undecided"),
  ],
)
def test_rate_distortion(gap, points, word):
  methods = {"RD, 80%": {"distortion": 5 + gap, "accuracy (%)": 70 + points}}
  methods["RD, 80%"]["joint over sum"] = 1.1
  for name in ("uniform, 80%", "global magnitude, 80%"):
    methods[name] = {"distortion": 5.0, "accuracy (%)": 70.0}
  noise = {"distortion": 0.1, "accuracy (%)": 0.5}
  assert judged("rate_distortion", methods, **noise) == word


@pytest.mark.parametrize(
  ("gain", "near", "word"),
  [
    (40.0, 0.2, "holds"),
    (10.0, 0.2, "does not hold"),
    (40.0, -0.2, "does not hold"),
    (20.0, 0.2, "undecided"),
    (40.0, 0.0, "undecided"),
  ],
)
def test_jackpots(gain, near, word):
  right, both = "accuracy (%)", "overlap with magnitude"
  methods = {
    "magnitude": {right: 50.0, both: 1.0},
    "random": {right: 10.0, both: 0.05},
    "from magnitude, 5 steps": {right: 60.0, both: 0.9},
    "from random, 5 steps": {right: 55.0, both: 0.1},
    "from magnitude, 50 steps": {right: 50 + gain, both: 0.5},
    "from random, 50 steps": {right: 80.0, both: 0.05 + near},
  }
  noise = {right: 1.0, both: 0.01}
  assert judged("jackpots", methods, **noise) == word


@pytest.mark.parametrize(
  ("gain", "moved", "word"),
  [
    (2.0, 0.0, "holds"),
    (-2.0, 0.0, "does not hold"),
    (2.0, 1e-6, "does not hold"),
    (0.0, 0.0, "undecided"),
  ],
)
def test_exclusive(gain, moved, word):
  right, change = "accuracy (%)", "largest change of a logit"
  methods = {
    "ExSSNeT, 5%": {right: 88 + gain, change: moved},
    "SupSup, 5%": {right: 88.0, change: 0.0},
  }
  assert judged("exclusive", methods, **{right: 0.5}) == word


@pytest.mark.parametrize(
  ("ratio", "rival", "word"),
  [
    (-1.5, 1.0, "holds"),
    (0.5, 1.0, "does not hold"),
    (-1.5, -3.0, "does not hold"),
    (np.log(0.5), 1.0, "undecided"),
  ],
)
def test_tickets(ratio, rival, word):
  log, reached = "log steps over dense", "reached (%)"
  methods = {
    "dense": {log: 0.0, reached: 100.0},
    "generalised": {log: ratio, reached: 100.0},
    "memorised": {log: rival, reached: 0.0},
    "random": {log: rival, reached: 0.0},
  }
  assert judged("tickets", methods, **{log: 0.1}) == word


def test_tickets_of_a_network_that_never_generalises_are_not_judged():
  log, reached = "log steps over dense", "reached (%)"
  names = ("dense", "generalised", "memorised", "random")
  methods = {name: {log: 0.0, reached: 0.0} for name in names}
  assert judged("tickets", methods) == "undecided"


@pytest.mark.parametrize(
  ("gain", "moves", "word"),
  [
    (2.0, 2.0, "holds"),
    (-2.0, 2.0, "does not hold"),
    (2.0, -2.0, "does not hold"),
    (0.0, 2.0, "undecided"),
  ],
)
def test_iso_flop(gain, moves, word):
  right, cost = "accuracy (%)", "MFLOP an image"
  methods = {
    "dense": {right: 60.0, cost: 1.0},
    "static": {right: 60 + gain - moves, cost: 1.1},
    "RigL": {right: 60 + gain, cost: 1.1},
  }
  assert judged("iso_flop", methods, **{right: 0.5}) == word


@pytest.mark.parametrize(
  ("full", "lora", "word"),
  [
    (40.0, 30.0, "holds"),
    (5.0, 30.0, "does not hold"),
    (40.0, 1.0, "does not hold"),
    (20.0, 30.0, "undecided"),
  ],
)
def test_principal(full, lora, word):
  kept, there = "source at equal target (%)", "target there (%)"
  methods = {
    "LIFT": {kept: 90.0, there: 85.0},
    "full": {kept: 90 - full, there: 85.0},
    "LoRA": {kept: 90 - lora, there: 85.0},
  }
  assert judged("principal", methods, **{kept: 1.0}) == word


@pytest.mark.parametrize(
  ("equal", "overall", "word"),
  [
    (2.0, 3.0, "holds"),
    (2.0, -3.0, "does not hold"),
    (-2.0, 3.0, "does not hold"),
    (0.0, 3.0, "undecided"),
  ],
)
def test_merging(equal, overall, word):
  right = "accuracy (%)"
  methods = {}
  for method in ("TIES", "DARE"):
    methods |= {
      f"{method}, allocated, 5%": {right: 60.0},
      f"{method}, equal, 5%": {right: 60 - equal},
      f"{method}, global, 5%": {right: 60 - overall},
    }
  assert judged("merging", methods, **{right: 0.5}) == word


def test_each_seed_draws_other_images():
  digits = {"x": np.arange(20.0).reshape(20, 1, 1, 1), "y": np.arange(20)}
  drawn = bed.draw(digits, jax.random.key(0), seeds=3, count=8)
  assert all(len(set(row)) == 8 for row in drawn["y"].tolist())
  assert len({tuple(row) for row in drawn["y"].tolist()}) == 3
  np.testing.assert_array_equal(drawn["x"][..., 0, 0, 0], drawn["y"])
  with pytest.raises(ValueError, match="examples: 21"):
    bed.draw(digits, jax.random.key(0), seeds=1, count=21)


def test_tasks_are_orders_of_pixels_and_weights_one_magnitude():
  data = {"x": np.arange(12.0).reshape(1, 2, 3, 2, 1), "y": np.zeros((1, 2))}
  first, again, other = (
    tasks._task(data, number, jax.random.key(0)) for number in (0, 0, 1)
  )
  np.testing.assert_array_equal(first["x"], again["x"])
  assert (first["x"] != other["x"]).any()
  np.testing.assert_array_equal(np.sort(first["x"]), data["x"].reshape(1, 2, 6))
  model = models.build("mlp", hidden=(8,), classes=3)
  params = model.init(jax.random.key(0), np.zeros((1, 5)))
  signed = tasks._signed(jax.random.key(1), params)
  np.testing.assert_allclose(
    np.abs(signed["Dense_0"]["kernel"]), np.sqrt(2 / 5), rtol=1e-6
  )
  assert not np.asarray(signed["Dense_0"]["bias"]).any()


def test_a_small_start_has_the_norm_of_its_ticket():
  params = {"w": np.arange(1.0, 7.0, dtype=np.float32).reshape(2, 3)}
  mask = sparse.magnitude_mask(params, 0.5)
  small = tickets._as_small(params, mask)["w"]
  ticket = sparse.apply(params, mask)["w"]
  np.testing.assert_allclose(
    np.linalg.norm(small), np.linalg.norm(ticket), rtol=1e-6
  )


def test_who_never_is_as_good_is_taken_at_its_best():
  values = np.array([[1.0, 5.0, 2.0], [4.0, 6.0, 3.0], [2.0, 7.0, 1.0]])
  goal = np.array([4.0, 5.5, 9.0])
  assert tuning.reached(values, goal).tolist() == [1, 1, 1]
