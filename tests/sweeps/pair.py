"""A config of two units, each of which spans hosts."""

import ml_collections

from configs import common

EXPERIMENT = "tests.sweeps.gang"


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `seconds` is for both."""
  values = common.parse_arg(arg, seconds=0.0)
  return ml_collections.ConfigDict({"seed": 0, **values})


def sweep(add):
  """Add two seeds."""
  for seed in (1, 2):
    add(seed=seed)
