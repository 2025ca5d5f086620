"""Phases of small ResNets on a part of CIFAR-10.

A Model Zoo on Phase Transitions in Neural Networks, 2025,
https://arxiv.org/abs/2504.18072; see `configs/phases_digits.py` for what is
claimed and aimed at.

python -m experiments.phases --config=configs/phases_cifar10.py --data_dir=DIR

Data: CIFAR-10 in DIR, 5,000 images to train on.  Time: hours on two CPU
cores, or minutes on an accelerator.
"""

import ml_collections

from configs import common, phases_digits

EXPERIMENT = "phases"
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


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  config = phases_digits.get_config(arg)
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode
  if mode == "paper":
    config.title = "Phases of ResNets on a part of CIFAR-10"
    config.update({"data": "cifar10", "examples": 5_000, "seeds": 3})
    config.model = {"name": "resnet", "depth": 8, "norm": "layer"}
    config.widths = (0.25, 0.5, 1, 2)
    config.batches = (16, 64, 256, 1024)
    config.train.update({"epochs": 30, "learning_rate": 0.1})
    config.curve.update({"steps": 400, "learning_rate": 0.1})
    config.hessian.update({"examples": 500, "steps": 12, "probes": 10})
  config.registered = REGISTERED
  return config
