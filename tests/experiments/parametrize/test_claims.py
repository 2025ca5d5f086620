"""Judges of parametrizations say each of their verdicts; configs add up."""

import importlib
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from experiments.parametrize import claims, planted, transfer
from experiments.run import registration, runs
from weightspace import parametrize as p

CONFIGS = (
  "adalora",
  "bone",
  "compacter",
  "compander",
  "eva",
  "glm_levels",
  "nupes",
  "ofq",
)


def run_of(config, table):
  """Return a run with the lines of {method: {number: mean}}, a little apart."""
  lines = {}
  for method, numbers in table.items():
    for seed in range(config.seeds):
      noise = np.random.default_rng(seed).normal()
      values = {n: m + s * noise for n, (m, s) in numbers.items()}
      line = {"seed": seed, "method": method, **values}
      lines[f"{method} {seed}"] = line
  return types.SimpleNamespace(config=config, lines=lines)


def config_of(name, arg=""):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def tables(name, good):
  """Return the table of a judge; `good` is 1 as claimed, -1 reversed."""
  spread = 0.01

  def one(**numbers):
    return {n.replace("_", " "): (m, spread) for n, m in numbers.items()}

  loss = {
    "eva": ("EVA", "random"),
    "bone": ("Bone", "LoRA"),
  }
  if name in loss:
    mine, other = loss[name]
    low = {"loss at a quarter": (1 - good, 0), "loss at the end": (1 - good, 0)}
    high = {n: (1.0, spread) for n in low}
    rest = {"accuracy (%)": (80.0, 1.0)}
    table = {mine: low | rest, other: high | rest}
    return table | ({"MiSS": high | rest} if name == "bone" else {})
  if name == "adalora":
    first = {"test loss": (np.exp(-good), spread)}
    first["rank correlation"] = (0.8 + 0.15 * good, spread)
    return {"AdaLoRA": first, "equal ranks": {"test loss": (1.0, 0.0)}}
  if name == "ofq":
    jumps = "jumps per 10,000"
    table = {
      "StatsQ": 2 - good,
      "learned scale": 2.0,
      "StatsQ, annealed": 1 - 0.5 * good,
      "StatsQ, more steps": 1.0,
    }
    same = {"accuracy (%)": (90.0, 1.0)}
    return {
      n: {jumps: (m, spread * ("StatsQ" == n or "ann" in n))} | same
      for n, m in table.items()
    }
  if name == "compander":
    mine = {"kurtosis": (1 - good, 0.1), "test loss": (1 - good, 0.1)}
    plain = {"kurtosis": (1.0, 0.0), "test loss": (1.0, 0.0)}
    same = {"accuracy (%)": (90.0, 1.0)}
    return {"companded": mine | same, "plain": plain | same}
  rise = "rise of the loss (%)"
  if name == "glm_levels":
    return {
      "INT8": {rise: (0.1 - 0.05 * good, 0.01)},
      "INT4": {rise: (3 - good, 0.1)},
      "INT4, merged then rounded": {rise: (1.0, 0.1)},
    }
  if name == "nupes":
    error = "weight error (%)"
    first = {"power": (1 - 0.3 * good, 0.01), error: (9 - 2 * good, 0.1)}
    table = {"INT4": {rise: (2.0, 0.0), error: (10.0, 0.0)}}
    for way in ("weights", "loss", "learned"):
      gain = {rise: (2 - good, 0.1)}
      table[f"INT4, power by {way}"] = gain | first
    return table
  head = config_of("compacter").head
  size = {"trained numbers": (head + 1_000.0, 0.0)}
  table = {}
  for count in (200, 2_000):
    full = {"accuracy (%)": (80.0, 0.0), "trained numbers": (head + 1e5, 0.0)}
    mine = {"accuracy (%)": (79.0 + good, 0.1)}
    table |= {f"full, {count} examples": full}
    table |= {f"Compacter, {count} examples": mine | size}
  return table


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
  ("good", "word"), [(1, "holds"), (-1, "does not hold"), (0, "undecided")]
)
def test_a_judge_says_each_verdict(name, good, word):
  run = run_of(config_of(name), tables(name, good))
  measured, verdict = claims.CLAIMS[name].judge(run)
  assert verdict.word == word, measured
  assert f"over {run.config.seeds} seeds" in measured


@pytest.mark.parametrize("name", CONFIGS)
def test_a_registration_says_all_that_it_should(name):
  registered = config_of(name).registered
  known = {"statement", "paper", "paper_number", "kind", "statistic", "seeds"}
  assert known < set(registered)
  registration.check(runs.plain(registered.to_dict(), "registered"))
  assert registered.seeds == config_of(name).seeds


MLP = [(48, 128), (48, 128), (128, 48)]


def numbers_of(settings, params):
  tree = p.attach(params, "*", transfer.maker(settings), jax.random.key(0))
  return p.count(tree)


@pytest.mark.parametrize("bed", ["letters", "spellings"])
def test_parametrizations_have_about_equal_numbers(bed):
  config = config_of("parametrizations", f"bed={bed}")
  shapes = {
    "letters": [(784, 256), (256, 256)],
    "spellings": [(48, 48), (48, 24), (48, 24), (48, 48), *MLP],
  }[bed]
  params = {str(n): jnp.zeros(shape) for n, shape in enumerate(shapes)}
  sizes = {n: numbers_of(s, params) for n, s in config.methods.items()}
  middle = np.median(list(sizes.values()))
  assert all(0.6 < size / middle < 1.67 for size in sizes.values()), sizes


def test_bone_and_lora_have_about_equal_numbers():
  config = config_of("bone")
  shapes = [(48, 48), (48, 24), (48, 128), (128, 48)]
  params = {str(n): jnp.zeros(shape) for n, shape in enumerate(shapes)}
  sizes = [numbers_of(config.methods[n], params) for n in ("LoRA", "Bone")]
  assert abs(sizes[1] / sizes[0] - 1) < 0.1


def test_a_teacher_differs_by_its_ranks():
  config = ml_collections.ConfigDict(
    {"seed": 0, "width": 12, "ranks": (3, 1, 0), "size": 1.0}
  )
  run = types.SimpleNamespace(config=config, key=jax.random.key(0))
  base, teacher = planted._base(run, 0), planted._teacher(run, 0)
  ranks = [
    np.linalg.matrix_rank(np.asarray(teacher[n] - base[n]), tol=1e-3)
    for n in base
  ]
  assert ranks == [3, 1, 0]
