"""Phases of MLPs on digits, over width and batch size, in minutes.

A Model Zoo on Phase Transitions in Neural Networks, 2025,
https://arxiv.org/abs/2504.18072, after Yang et al. 2021, "Taxonomizing local
versus global structure in neural network loss landscapes",
https://arxiv.org/abs/2107.11228: over load and temperature networks fall into
phases by training loss, Hessian, mode connectivity and similarity; averaging
helps where they are connected.  The numbers aimed at: rank correlation of width
with connectivity above zero and with the Hessian's trace below; averages of two
networks from one start gain where their barrier is below a point of error, and
not elsewhere.  Chosen at seed 7: epochs, steps of the curves (of 300 even wide
networks show a barrier), and labels as they are.

python -m experiments.phases --config=configs/phases_digits.py

Data: scikit-learn's bundled digits.  Time: not measured yet.
"""

import ml_collections

from configs import common

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
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Phases of MLPs on digits",
      "paper": REGISTERED["paper"],
      "seed": mode.seed,
      "seeds": 2 if tiny else 3,
      "data": "digits",
      "examples": 100 if tiny else 0,
      "classes": 10,
      "label_noise": 0.0,
      "model": {"name": "mlp"},
      "depth": 1 if tiny else 2,
      "widths": (2, 8) if tiny else (4, 8, 16, 32, 64, 128),
      "batches": (20, 50) if tiny else (8, 32, 128, 256),
      "inputs": 50 if tiny else 300,
      "train": {
        "epochs": 2 if tiny else 150,
        "batch_size": 0,
        "learning_rate": 0.05,
        "weight_decay": 5e-4,
      },
      "curve": {
        "steps": 5 if tiny else 3000,
        "learning_rate": 0.05,
        "batch_size": 50 if tiny else 128,
      },
      "hessian": {
        "examples": 50 if tiny else 1000,
        "steps": 4 if tiny else 15,
        "probes": 2 if tiny else 30,
      },
    }
  )
