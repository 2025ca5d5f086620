"""Sparse model soups: prune, retrain copies, average, prune again.

Zimmer et al. 2024, "Sparse model soups: a recipe for improved pruning via model
averaging", https://arxiv.org/abs/2306.16788: copies of one pruned network,
retrained apart, have one mask, so their average is as sparse as they are and
better than each; pruning it again goes further than iterative magnitude pruning
(IMP). Three phases to 97 % zeros, three copies each, which are retrained as in
the paper's code: at a rate that falls linearly to zero, with weight decay. The
number aimed at: test loss of the soup below that of its members and of IMP,
paired over seeds; at lower sparsity the difference is small. At a constant rate
the soup was below its members by more, and level with IMP.

python -m experiments.average --config=configs/sparse_soups.py --data_dir=DIR

Data: MNIST in DIR.  Time: 6 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "average"
CLAIM = "sparse-soups"
REGISTERED = {
  "statement": "The average of retrained copies of a pruned network keeps the"
  " mask and has a lower loss than the copies and than iterative magnitude"
  " pruning.",
  "paper": "Zimmer et al. 2024, Sparse model soups,"
  " https://arxiv.org/abs/2306.16788",
  "paper_number": None,
  "kind": "paper",
  "statistic": "test loss at 97 % zeros, soup less mean member and less IMP,"
  " nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("IMP with as much retraining as a member",),
  "seeds": 10,
}
PAPER_SIZE = {
  "ran": "ResNets on CIFAR-10, CIFAR-100 and ImageNet",
  "settings": {
    "data": "cifar10",
    "examples": 0,
    "model": {"name": "resnet", "depth": 20, "norm": "layer", "width": 4},
    "base.epochs": 60,
    "fine.epochs": 30,
    "sparsity": 0.98,
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
      "title": "Sparse model soups on digits",
      "paper": REGISTERED["paper"],
      "claim": "sparse_soups",
      "study": "sparse_soups",
      "seed": mode.seed,
      "seeds": 2 if tiny else 10,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (256, 256)},
      "examples": 200 if tiny else 6_000,
      "test": 100 if tiny else 5_000,
      "sparsity": 0.97,
      "phases": 2 if tiny else 3,
      "copies": 3,
      "rate": 0.1,
      "weight_decay": 1e-4,
      "base": {"epochs": 2 if tiny else 6, "batch_size": 50 if tiny else 100},
      "fine": {"epochs": 2 if tiny else 6, "batch_size": 50 if tiny else 100},
      "heading": "Test loss at the last phase",
      "curve": ("zeros (%)", "loss by phase", "Loss by sparsity"),
    }
  )
