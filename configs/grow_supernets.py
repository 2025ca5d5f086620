"""Balanced Mixture of SuperNets: several supernets rank pooling better.

Javan et al. 2023, https://arxiv.org/abs/2306.11982: configurations of pooling
share M sets of weights, each routed to those that suit it, all used alike. In
small: five convolutions on MNIST at 14 x 14, pooled twice, ten configurations.
The number aimed at: the rank correlation of supernet and training alone, M = 4
less M = 1, above zero. The authors' own table of 36 configurations of ResNet20
on CIFAR-10 gives Spearman 0.23 for M = 1 and 0.76 for M = 4 (computed by us).

python -m experiments.grow --config=configs/grow_supernets.py --data_dir=DIR

Data: MNIST in DIR. Time: not yet measured; about fifteen minutes on two CPU
cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "supernets"
REGISTERED = {
  "statement": "Four supernets with balanced routing rank pooling"
  " configurations closer to training alone than one does.",
  "paper": "Javan et al. 2023, Balanced Mixture of SuperNets for Learning the"
  " CNN Pooling Architecture, https://arxiv.org/abs/2306.11982",
  "paper_number": "Spearman 0.23 for M = 1, 0.76 for M = 4 (from their"
  " published table)",
  "kind": "part of the paper",
  "statistic": "Spearman correlation with accuracy alone, M = 4 less M = 1",
  "threshold": 0.0,
  "threshold_by": "ours",
  "controls": ("one supernet",),
  "seeds": 3,
  "data": "images, networks and batches drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Pooling ranked by one supernet, and by several",
      "paper": REGISTERED["paper"],
      "claim": "supernets",
      "study": "supernets",
      "seed": mode.seed,
      "seeds": 2 if tiny else 3,
      "data": "digits" if tiny else "mnist",
      "pool": 1 if tiny else 2,
      "examples": 240 if tiny else 6_000,
      "test": 60 if tiny else 2_000,
      "layers": 3 if tiny else 5,
      "pools": 1 if tiny else 2,
      "channels": 4 if tiny else 12,
      "models": (1, 2) if tiny else (1, 4),
      "steps": 20 if tiny else 1_500,  # of each supernet
      "hottest": 100.0,  # the last temperature of routing
      "fit": {
        "epochs": 1 if tiny else 8,
        "batch_size": 40 if tiny else 100,
        "learning_rate": 2e-3,
      },
      "heading": "Rank correlation with training alone",
    }
  )
