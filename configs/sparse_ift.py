"""Sparse-IFT: wide and sparse layers in place of dense ones, at equal cost.

Thangarasa et al. 2023, "Sparse-IFT: sparse iso-FLOP transformations for
maximizing training efficiency", https://arxiv.org/abs/2303.11525: at the cost
of a dense layer, one that is twice as wide with a quarter of its weights, which
move (RigL), is more accurate (ResNet-18 on ImageNet, by up to 3.5 points).

In small: three stages of convolutions on CIFAR-10; all but the first
convolution and the head are sparse, so that the cost of the whole network grows
by these two.  Masks begin uniform at random and move until three quarters of
training.  The numbers aimed at: RigL above dense, and above a static mask.

python -m experiments.sparse --config=configs/sparse_ift.py --data_dir=DIR

Data: CIFAR-10 in DIR.  Time: an hour on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "sparse"
CLAIM = "sparse-ift"
REGISTERED = {
  "statement": "A convolutional network twice as wide, with a quarter of"
  " its inner weights that move by RigL, is more accurate than"
  " the dense network whose inner layers cost the same, and"
  " than with a static mask.",
  "paper": "Thangarasa et al. 2023, Sparse-IFT: sparse iso-FLOP"
  " transformations for maximizing training efficiency,"
  " https://arxiv.org/abs/2303.11525",
  "paper_number": "up to +3.5 points (ResNet-18, ImageNet)",
  "kind": "paper",
  "statistic": "test accuracy, RigL less dense and less static, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("dense at equal cost", "static mask", "SET"),
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
      "title": "Wide and sparse at equal cost",
      "claim": "iso_flop",
      "study": "iso_flop",
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "cifar10",
      "pool": False,
      "model": {
        "name": "vgg",
        "widths": (2, 4) if tiny else (16, 32, 32),
        "depths": (1, 1) if tiny else (1, 1, 1),
      },
      "examples": 200 if tiny else 20_000,
      "test": 100 if tiny else 5_000,
      "sparsity": 0.75,
      "drop": 0.3,
      "every": 2 if tiny else 100,
      "base": {
        "epochs": 2 if tiny else 10,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 0.05,
      },
      "heading": "Test accuracy",
    }
  )
