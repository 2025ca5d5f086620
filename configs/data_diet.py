"""Data diet: barriers between children are built by the hard examples.

Paul et al. 2021, "Deep learning on a data diet: finding important examples
early in training", https://arxiv.org/abs/2107.07075, section 5: two children of
one parent, trained on in other orders, are linearly connected on easy examples
(low EL2N) sooner than on hard ones. The number aimed at: the error barrier on
the tenth of hardest examples minus that on the easiest, above zero, over
parents of several ages.

python -m experiments.average --config=configs/data_diet.py --data_dir=DIR

Data: MNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "average"
CLAIM = "data-diet"
REGISTERED = {
  "statement": "The barrier between children of one parent is larger on"
  " examples of high EL2N, and falls the later they are spawned.",
  "paper": "Paul et al. 2021, Deep learning on a data diet,"
  " https://arxiv.org/abs/2107.07075",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "error barrier between children, hard less easy examples, and"
  " last parent less first, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("the easiest examples",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "ResNet-18 on CIFAR-10 and CIFAR-100",
  "settings": {
    "data": "cifar10",
    "examples": 0,
    "model": {"name": "resnet", "depth": 20, "norm": "layer", "width": 4},
    "early.epochs": 20,
    "parent.epochs": 16,
    "child.epochs": 100,
    "spawn": (0, 1, 2, 4, 8, 16),
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
      "title": "Barriers by example difficulty",
      "paper": REGISTERED["paper"],
      "claim": "data_diet",
      "study": "data_diet",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (128, 128)},
      "examples": 200 if tiny else 5_000,
      "test": 100 if tiny else 1_000,
      "rate": 0.1,
      "share": 0.1,
      "scorers": 2 if tiny else 5,
      "spawn": (0, 1) if tiny else (0, 1, 2, 4),
      "early": {"epochs": 1 if tiny else 2, "batch_size": 50 if tiny else 100},
      "parent": {"epochs": 1 if tiny else 4, "batch_size": 50 if tiny else 100},
      "child": {"epochs": 2 if tiny else 8, "batch_size": 50 if tiny else 100},
      "heading": "Error barrier between two children",
      "curve": (
        "parent's epochs",
        "error barrier by start",
        "By the parent's age",
      ),
    }
  )
