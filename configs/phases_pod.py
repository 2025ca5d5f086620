"""Phases of ResNets on CIFAR-10 at the size of the paper: for a pod.

A Model Zoo on Phase Transitions in Neural Networks, 2025,
https://arxiv.org/abs/2504.18072; see `configs/phases_digits.py` for what is
claimed and aimed at.

python -m experiments.phases --config=configs/phases_pod.py --data_dir=DIR
python -m experiments.sweep --config=configs/phases_pod.py --workdir=DIR

Data: CIFAR-10 in DIR.  Time: a unit is one cell of the grid; docs/pods.md has
the commands for pods, and what the whole costs.
"""

from collections.abc import Callable
from typing import Any

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
  "seeds": 5,
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  config = phases_digits.get_config(arg)
  config.mesh = {"population": -1}
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode
  if mode == "paper":
    config.title = "Phases of ResNets on CIFAR-10"
    config.update({"data": "cifar10", "examples": 0, "seeds": 5})
    config.update({"label_noise": 0.0})
    config.model = {"name": "resnet", "depth": 20, "norm": "layer"}
    config.widths = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)
    config.batches = (8, 16, 32, 64, 128, 256, 512, 1024)
    config.train.update({"epochs": 150, "learning_rate": 0.1})
    config.curve.update({"steps": 4000, "learning_rate": 0.1})
    config.hessian.update({"examples": 10_000, "steps": 30, "probes": 100})
  config.registered = REGISTERED
  return config


def sweep(add: Callable[..., Any]) -> None:
  """Add each cell of the grid as a unit, the dear ones first."""
  config = get_config()
  for width in sorted(config.widths, reverse=True):
    for batch in config.batches:
      add(widths=(width,), batches=(batch,))
