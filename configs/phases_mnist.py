"""Phases of MLPs on MNIST, 15 % of whose labels are drawn anew: a larger grid.

A Model Zoo on Phase Transitions in Neural Networks, 2025,
https://arxiv.org/abs/2504.18072; see `configs/phases_digits.py` for what is
claimed and aimed at.

python -m experiments.phases --config=configs/phases_mnist.py --data_dir=DIR

Data: MNIST in DIR, 10,000 images to train on.  Time: an hour on two CPU cores.
"""

import ml_collections

from configs import common, phases_digits

EXPERIMENT = "phases"
CLAIM = "phases"
REGISTERED = {
  "statement": "Over width and batch size: mode connectivity rises and the"
  " trace of the Hessian falls with width; phases with and without barriers"
  " are found; and averaging two networks from one start does no harm where"
  " their barrier is low, within half a point, and costs accuracy where it is"
  " high.",
  "paper": "A Model Zoo on Phase Transitions in Neural Networks, 2025,"
  " https://arxiv.org/abs/2504.18072",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "rank correlation of width with connectivity and with the"
  " Hessian's trace, mean over batch sizes, by permutations of cells; points"
  " gained by averages of low (above -0.5) and of high barrier (below 0), over"
  " cells",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": ("two networks of one start, told apart by their batches",),
  "seeds": 3,
}
PAPER_SIZE = {
  "ran": "ResNets on CIFAR-10, eight widths by eight batch sizes (as"
  " configs/phases_pod.py)",
  "settings": {
    "data": "cifar10",
    "examples": 0,
    "label_noise": 0.0,
    "model": {"name": "resnet", "depth": 20, "norm": "layer"},
    "widths": (0.125, 0.25, 0.5, 1, 2, 4, 8, 16),
    "train.epochs": 150,
    "train.learning_rate": 0.1,
    "curve.steps": 4000,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  config = phases_digits.get_config(arg)
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode
  if mode == "paper":
    config.title = "Phases of MLPs on MNIST"
    config.update({"data": "mnist", "examples": 10_000, "seeds": 3})
    config.widths = (2, 4, 8, 16, 32, 64, 128, 256)
    config.batches = (8, 16, 32, 64, 128, 256, 512, 1024)
    config.label_noise = 0.15
    config.train.epochs = 30
    config.curve.update({"steps": 1000})
  config.registered = REGISTERED
  return config
