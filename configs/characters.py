"""A character model on tinyshakespeare: what its experiments have in common.

Each of them is this config with a claim, a study and its own training.

Data: tinyshakespeare in DIR; `mode=tiny` reads a frozen text of our own.
"""

import ml_collections

from configs import common


def bed(arg: str) -> ml_collections.ConfigDict:
  """Return the bed; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "source" if tiny else "text",
      "model": {
        "name": "lm",
        "layers": 1,
        "width": 16 if tiny else 48,
        "heads": 2,
        "kv_heads": 1,
      },
      "length": 16 if tiny else 32,
      "rate": 0.01,
    }
  )


def tuned(arg: str) -> ml_collections.ConfigDict:
  """Return the bed of models of three layers, tuned for one epoch."""
  config = bed(arg)
  tiny = config.data == "source"
  size = 40 if tiny else 64
  config.update(
    {
      "examples": 400 if tiny else 4_800,
      "validation": 50 if tiny else 500,
      "test": 50 if tiny else 1_000,
      "base": {"epochs": 2 if tiny else 6, "batch_size": size},
      "fine": {"epochs": 1, "batch_size": size, "rate": 3e-3},
    }
  )
  config.model.layers = 3
  return config
