"""MC-SMoE: half the experts of a mixture.

Li et al. 2024, "Merge, then compress: demystify efficient SMoE with hints from
its routing policy", https://arxiv.org/abs/2310.01334: experts are merged around
the most used ones, aligned and weighed by how often they are used, and what
comes out is of lower rank.  Here a character model with eight experts in each
of two layers, two for each token, keeps half of them.  The numbers aimed at:
test loss by frequency minus mean, and aligned minus as they are, both below
zero, and a lower stable rank of what was merged.

python -m experiments.data_aware --config=configs/mc_smoe.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: not measured yet.
"""

import ml_collections

from configs import common

EXPERIMENT = "data_aware"
CLAIM = "mc-smoe"
REGISTERED = {
  "statement": "Without tuning afterwards, aligning experts and weighing them"
  " by frequency each lower the loss of the merged mixture; merged experts"
  " have a lower stable rank.",
  "paper": "Li et al. 2024, Merge, then compress,"
  " https://arxiv.org/abs/2310.01334",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "test loss: by frequency less mean, aligned less as they are,"
  " nats; stable rank of merged less members",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": ("all experts",),
  "seeds": 20,
}
PAPER_SIZE = {
  "ran": "switch transformers of 32 experts",
  "settings": {
    "model.experts": 32,
    "model.width": 384,
    "model.hidden": 768,
    "model.heads": 6,
    "model.layers": 6,
    "examples": 13000,
    "fine.epochs": 20,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "MC-SMoE: half the experts of a mixture",
      "paper": REGISTERED["paper"],
      "claim": "moe",
      "study": "mixtures",
      "seed": mode.seed,
      "seeds": 2 if tiny else 20,
      "data": "source" if tiny else "text",
      "model": {
        "name": "moe",
        "layers": 2,
        "width": 16 if tiny else 32,
        "hidden": 16 if tiny else 32,
        "heads": 2,
        "kv_heads": 1,
        "experts": 4 if tiny else 8,
      },
      "length": 16 if tiny else 32,
      "examples": 400 if tiny else 9_600,
      "validation": 50 if tiny else 500,
      "test": 50 if tiny else 1_000,
      "rate": 0.01,
      "fine": {"epochs": 2 if tiny else 5, "batch_size": 40 if tiny else 64},
      "balance": 0.01,
      "share": 0.5,
      "rank": 0.5,
      "keep": 0.1,
      "trade": ("KiB", "test loss"),
      "heading": "Loss on test text",
    }
  )
