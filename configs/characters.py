"""A character model on tinyshakespeare: what its experiments have in common.

Each of them is this config with a claim, a study and its own training.

Data: tinyshakespeare in DIR; `mode=tiny` reads the package's own source.
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
