"""Runs that were never run: lines with a known effect, for the judges.

A case is a function `case(k, config)` that returns lines without seeds: with k
= 1 the claim is true, with k = 0 every comparison lies on its bound, and with k
= -1 it is reversed.  Numbers of the lines are means; each seed adds its noise,
but for those in EXACT.
"""

import importlib
import types

import numpy as np

from experiments.run import discovery

EXACT = {  # numbers that have no noise, since judges compare them exactly
  *("zeros (%)", "frozen leaves changed", "wrong", "bytes", "overlap"),
  *("length", "interaction", "moved", "mismatch", "error", "stored", "ratio"),
  "norms",
  *("corrected", "train accuracy"),
}


def methods(**metrics):
  """Return lines of {metric: {method: mean}}, one for each method."""
  names = dict.fromkeys(n for rows in metrics.values() for n in rows)
  return [
    {"method": name}
    | {m: float(rows[name]) for m, rows in metrics.items() if name in rows}
    for name in names
  ]


def run(lines, config, random, noise=0.01, exact=EXACT):
  """Return what a judge is given: the lines of each seed, and the config."""
  logged = []
  for seed in range(config.seeds):
    for line in lines:
      logged.append(
        {"seed": seed}
        | {
          name: value + noise * random.normal()
          if isinstance(value, float) and name not in exact
          else value
          for name, value in line.items()
        }
      )
  return types.SimpleNamespace(config=config, lines=dict(enumerate(logged)))


def judge(claim):
  """Return the judge of a claim, and its config."""
  config = discovery.module(claim).get_config()
  if claim.experiment in ("merge_transfer", "merge_variance"):
    package = f"experiments.{claim.experiment}.results"
    return importlib.import_module(package).CLAIM.judge, config
  if claim.experiment == "landscape":
    package = f"experiments.landscape.{config.study}"
    return importlib.import_module(package).judge, config
  if claim.experiment == "phases":
    return importlib.import_module("experiments.phases.results").judge, config
  module = importlib.import_module(f"experiments.{claim.experiment}.claims")
  known = module.CLAIMS
  name = config.claim if config.claim in known else config.judge
  return known[name].judge, config


def spread(count):
  """Return numbers whose standard deviation (n - 1) is one."""
  x = np.arange(count) - (count - 1) / 2
  return x / x.std(ddof=1)
