"""Judges of weights as data say each verdict; the pieces of their studies."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.generate import claims, diverse, radial, studies, teachers, zoo
from experiments.run.verdicts import FAILS, HOLDS, OPEN
from tests.experiments import judges
from weightspace import models

CONFIGS = (
  "adamp",
  "consistency",
  "d2nwg",
  "dwa",
  "trajectories",
  "weights_tell",
)
EXACT = judges.EXACT | {"error of the law"}
PLAIN, SMOOTH, REAL = "plain experts", "smooth experts", "as many real images"


def lines(name, k, config):
  """Return lines that grant a claim (k = 1), lie on its bounds, or deny it."""
  if name == "adamp":
    growth = {"AdamP": 0.3 - 0.1 * k, "Adam": 0.3, "SGDP": 0.3, "SGD": 0.3}
    right = {"AdamP": 89.7 + k, "Adam": 90, "SGDP": 90, "SGD": 90}
    return judges.methods(**{"log growth": growth, "test (%)": right})
  if name == "consistency":
    far = {f"teacher's rate {rate:g}": 1.0 for rate in config.teachers}
    far |= {"teacher's rate 0": 1 - 0.1 * k}
    law = dict.fromkeys(far, 1e-8)
    return judges.methods(**{"energy distance": far, "error of the law": law})
  if name == "d2nwg":
    kinds = zoo.SHARED, zoo.APART, zoo.MATCHED
    means = {
      "round trip": -0.5 + k,
      "sampled (%)": 30 + k,
      "untrained (%)": 10,
      "zoo (%)": 80,
      "best (%)": 80 + k,
    }
    return judges.methods(
      **{n: dict.fromkeys(kinds, v) for n, v in means.items()}
    )
  if name == "dwa":
    moved, still = f"ascent of length {config.judged:g}", "teacher as it is"
    wide, right = {moved: 1 + 0.1 * k, still: 1}, {moved: 50, still: 50}
    named = {"variance of features": wide, "student's test (%)": right}
    return judges.methods(**named)
  if name == "trajectories":
    named = {
      "largest step": {PLAIN: 1, SMOOTH: 1 - 0.1 * k},
      "expert's test (%)": {PLAIN: 90, SMOOTH: 89 + k},
      "student's test (%)": {PLAIN: 60, SMOOTH: 60 + k, REAL: 60},
    }
    return judges.methods(**named)
  told = {"all features": 0.5 + 0.2 * k, "norms and spectra": 0.5}
  told |= {"equivariant layers": 0.5}
  parts = "held out", "wider"
  return judges.methods(**{f"rank correlation, {p}": told for p in parts})


def judged(name, k, random):
  config = importlib.import_module(f"configs.{name}").get_config()
  run = judges.run(lines(name, k, config), config, random, 0.01, EXACT)
  return claims.CLAIMS[config.claim].judge(run)


@pytest.mark.parametrize("k", [1, -1])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_judge_tells_an_effect_from_its_reverse(name, k):
  measured, verdict = judged(name, k, np.random.default_rng(3))
  assert verdict.word == (HOLDS if k > 0 else FAILS), measured
  assert 0.0 <= verdict.p <= 1.0 and "[" in measured


@pytest.mark.parametrize("name", CONFIGS)
def test_a_judge_leaves_the_null_undecided(name):
  random = np.random.default_rng(3)
  words = [judged(name, 0, random)[1].word for _ in range(9)]
  assert words.count(OPEN) > 4, words


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_at_the_null_few_hold(name):
  random = np.random.default_rng(0)
  held = [bool(judged(name, 0, random)[1]) for _ in range(400)]
  assert np.mean(held) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)


def test_every_config_has_a_study_and_a_judge():
  for name in CONFIGS:
    config = importlib.import_module(f"configs.{name}").get_config()
    assert config.study in studies.STUDIES and config.claim in claims.CLAIMS


def test_hidden_kernels_of_the_radial_bed_have_no_length():
  model = models.build("mlp", hidden=(6, 5), classes=3)
  x = jax.random.normal(jax.random.key(0), (32, 4))
  params = model.init(jax.random.key(1), x)
  kernel = params["Dense_0"]["kernel"] * jnp.linspace(0.5, 3.0, 6)[None]
  longer = params | {"Dense_0": params["Dense_0"] | {"kernel": kernel}}
  same = radial.apply(params, x), radial.apply(longer, x)
  assert np.allclose(*same, atol=1e-3)
  stack = jax.tree.map(lambda x: x[None], params)
  hidden = [params[f"Dense_{i}"]["kernel"] for i in (0, 1)]
  norm = np.sqrt(sum(float((k**2).sum()) for k in hidden))
  assert np.isclose(radial.lengths(stack)[0], norm, rtol=1e-5)


def test_the_law_is_exact():
  assert teachers.law() <= claims.LAW


def test_a_consistent_network_leaves_data_at_the_lowest_level():
  model = models.build("mlp", hidden=(4,), classes=2)
  params = model.init(jax.random.key(0), jnp.zeros((1, 9)))
  x = jax.random.normal(jax.random.key(1), (5, 2))
  found = teachers.consistent(
    model.apply, params, x, jnp.full((5, 1), teachers.LOW)
  )
  assert np.allclose(found, x, atol=1e-6)


def test_the_energy_distance_tells_samples_apart():
  one, two = (teachers.gaussians(jax.random.key(s), 500) for s in (0, 1))
  assert abs(float(teachers.energy(one, two))) < 0.03
  x, y = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[3.0, 0.0], [3.0, 4.0]])
  cross = np.mean([np.linalg.norm(a - b) for a in x for b in y])
  expected = 2 * cross - 1.0 - 4.0
  found = teachers.energy(jnp.asarray(x), jnp.asarray(y))
  assert np.isclose(found, expected, atol=1e-4)


def test_features_are_what_the_head_reads():
  model = models.build("vgg", widths=(3,), depths=(1,), norm="batch")
  x = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
  params = model.init(jax.random.key(1), x)
  stats = models.population(model, params, [x])
  rows = diverse.features(model, params, stats, x)
  head = params["head"]
  logits = rows @ head["kernel"] + head["bias"][None]
  assert np.allclose(logits, model.apply(params, x, stats), atol=1e-4)
