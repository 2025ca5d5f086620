"""A config whose sweep squares numbers: what the tests of sweeps run."""

import ml_collections

from configs import common

EXPERIMENT = "tests.sweeps.quick"


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `units` is how many, `kind` and `seconds` for all."""
  values = common.parse_arg(arg, kind="well", seconds=0.0, units=4)
  return ml_collections.ConfigDict(
    {"seed": 0, "rate": 0.1, "model": {"hidden": (8,), "bias": True}, **values}
  )


def sweep(add):
  """Add a unit for each of four seeds, one with a rate of its own."""
  for seed in range(4):
    rate = {"rate": 0.5} if seed == 3 else {}
    add({"seed": seed}, **rate)
