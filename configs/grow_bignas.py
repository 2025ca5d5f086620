"""BigNAS: slices of a supernet are as good as networks trained alone.

Yu et al. 2020, https://arxiv.org/abs/2003.11142: the largest child learns the
labels, the smallest and others follow its outputs, all in one set of weights.
In small: a perceptron on MNIST at 14 x 14, at 25, 50 and 100 % of the width.
The numbers aimed at: slices without further training no more than 1.5 points
below networks of their width alone, and slices of a network trained plainly
more than 20 points below at 25 %. Hard labels in place of distillation are
reported.

python -m experiments.grow --config=configs/grow_bignas.py --data_dir=DIR

Measured: +0.27, +0.08 and -0.14 points at 100, 50 and 25 % [-0.97, +0.69];
with hard labels +0.25, -0.27 and -0.73; a plain network's slice -62.5.

Data: MNIST in DIR.  Time: six minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "bignas"
REGISTERED = {
  "statement": "Slices of a supernet without further training are no more"
  " than 1.5 points below networks trained alone at 25, 50 and 100 % of the"
  " width, where a slice of 25 % of a network trained plainly is more than 20"
  " points below.",
  "paper": "Yu et al. 2020, BigNAS: Scaling Up Neural Architecture Search"
  " with Big Single-Stage Models, https://arxiv.org/abs/2003.11142",
  "paper_number": "76.5 to 80.9 % on ImageNet without retraining",
  "kind": "part of the paper",
  "statistic": "accuracy, slice less network alone, points, at each width",
  "threshold": -1.5,
  "threshold_by": "ours",
  "controls": (
    "networks of each width alone",
    "slices of a plain network",
    "hard labels",
  ),
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
      "title": "Slices of a supernet, beside networks of their width",
      "paper": REGISTERED["paper"],
      "claim": "bignas",
      "study": "bignas",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": 1 if tiny else 2,
      "examples": 240 if tiny else 20_000,
      "test": 100 if tiny else 5_000,
      "widths": (8, 8) if tiny else (128, 128),
      "shares": (1.0, 0.5, 0.25),
      "fit": {
        "epochs": 1 if tiny else 15,
        "batch_size": 40 if tiny else 100,
        "learning_rate": 1e-3,
      },
      "heading": "Accuracy without further training",
    }
  )
