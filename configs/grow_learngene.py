"""Learngene: blocks that stages share make networks of any depth.

Xia et al. 2024, "Exploring Learngene via Stage-wise Weight Sharing",
https://arxiv.org/abs/2404.16897: a network whose stages each repeat one block
is distilled from a teacher; networks of other depths repeat the blocks as often
as they need. In small: residual networks on MNIST at 14 x 14, three stages of
two. The numbers aimed at: accuracy after equal short tuning above networks from
scratch at depths 3, 6, 9 and 12, and above 80 % before any tuning.

python -m experiments.grow --config=configs/grow_learngene.py --data_dir=DIR

Measured: +3.57, +3.30, +3.22 and +3.55 points over scratch at depths 3, 6, 9
and 12, each interval above 2.2; untuned 87.1 % or more.

Data: MNIST in DIR.  Time: eight minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "learngene"
REGISTERED = {
  "statement": "Networks expanded from shared stages are above 80 % before"
  " tuning and, after equal short tuning, above networks from scratch, at"
  " depths 3, 6, 9 and 12.",
  "paper": "Xia et al. 2024, Exploring Learngene via Stage-wise Weight"
  " Sharing for Initializing Variable-sized Models,"
  " https://arxiv.org/abs/2404.16897",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy after tuning, expanded less scratch, points, and"
  " accuracy before it, at each depth",
  "threshold": 0.0,
  "threshold_by": "ours",
  "controls": ("networks from scratch, tuned alike",),
  "seeds": 5,
  "data": "images, networks and batches drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Stages that share their blocks, expanded to other depths",
      "paper": REGISTERED["paper"],
      "claim": "learngene",
      "study": "learngene",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": 1 if tiny else 2,
      "examples": 240 if tiny else 12_000,
      "test": 100 if tiny else 5_000,
      "teacher": {
        "width": 8 if tiny else 48,
        "hidden": 16 if tiny else 96,
        "blocks": 2 if tiny else 8,
      },
      "stages": 1 if tiny else 3,
      "shared": 2 if tiny else 6,  # blocks of the distilled network
      "depths": (1, 3) if tiny else (3, 6, 9, 12),
      "taught": {
        "epochs": 1 if tiny else 8,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "distilled": {
        "epochs": 1 if tiny else 8,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "tuned": {
        "epochs": 1,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "heading": "Accuracy after short tuning",
    }
  )
