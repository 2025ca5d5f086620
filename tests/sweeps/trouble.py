"""A config two of whose units always fail, the first ones."""

import ml_collections

from configs import common

EXPERIMENT = "tests.sweeps.steps"


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `seconds` is for all."""
  values = common.parse_arg(arg, seconds=0.0)
  return ml_collections.ConfigDict({"seed": 0, "kind": "well", **values})


def sweep(add):
  """Add a NaN, a wrong setting, and two units that do well."""
  for seed, kind in enumerate(("nan", "bad", "well", "well")):
    add(seed=seed, kind=kind)
