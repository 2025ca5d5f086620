"""Lottery Jackpots: a trained network holds sparse ones that need no training.

Zhang et al. 2021, "Lottery jackpots exist in pre-trained models",
https://arxiv.org/abs/2104.08700: with all weights frozen, a search over masks
finds subnetworks of a tenth of the weights that are as good as trained ones
(ResNet-32, CIFAR-10, 90 % zeros: 93.70 % in 30 epochs, 94.39 % in 160), and
what it finds overlaps with the magnitude mask, which is a good start.

In small: an MLP on MNIST at 14 x 14 pixels; the classifier stays whole, as in
the paper's code.  The search starts from the magnitude mask, or from a random
one of the same counts; masks change by the restricted rate.  The numbers aimed
at: 20 points or more above the magnitude mask; the search from a random mask
ends with more overlap with the magnitude mask than a random mask has.  A first
look at seed 1: +38 points [+30, +46], overlap +0.20 [+0.19, +0.22], and after
60 steps the start from magnitude was 5.7 points [4.5, 6.9] ahead.

python -m experiments.sparse --config=configs/sparse_jackpots.py --data_dir=DIR

Data: MNIST in DIR.  Time: two minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "sparse"
CLAIM = "sparse-jackpots"
REGISTERED = {
  "statement": "With 90 % of the hidden weights of a trained network at"
  " zero and no weight changed, a searched mask is at least 20"
  " points more accurate than the magnitude mask, and a search"
  " from a random mask ends nearer to the magnitude mask than a"
  " random mask is.",
  "paper": "Zhang et al. 2021, Lottery jackpots exist in pre-trained"
  " models, https://arxiv.org/abs/2104.08700",
  "paper_number": "93.70 % (ResNet-32, CIFAR-10, 90 % zeros, 30 epochs)",
  "kind": "paper",
  "statistic": "test accuracy, searched less magnitude mask, points;"
  " overlap with the magnitude mask, searched from random less"
  " random",
  "threshold": 20.0,
  "threshold_by": "ours",
  "controls": (
    "the magnitude mask without a search",
    "a random mask",
    "a search from a random mask",
  ),
  "seeds": 5,
  "data": "training and test images drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "paper": REGISTERED["paper"],
      "seed": mode.seed,
      "title": "Lottery jackpots in a digit network",
      "claim": "jackpots",
      "study": "jackpots",
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": not tiny,
      "model": {"name": "mlp", "hidden": (16, 16) if tiny else (128, 128)},
      "examples": 300 if tiny else 12_000,
      "test": 100 if tiny else 4_000,
      "base": {
        "epochs": 2 if tiny else 10,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 1e-3,
      },
      "density": 0.1,
      "only": ("Dense_0/kernel", "Dense_1/kernel"),
      "rate": 0.1,
      "restriction": "cosine",
      "early": 4 if tiny else 60,
      "steps": 8 if tiny else 600,
      "batch_size": 50 if tiny else 100,
      "heading": "Accuracy with the weights as they were trained",
    }
  )
