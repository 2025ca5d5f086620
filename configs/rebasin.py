"""Git Re-Basin on MNIST: matching takes the barrier between MLPs away.

Ainsworth et al. 2023, "Git Re-Basin", https://arxiv.org/abs/2209.04836, section
5: two MLPs 784-512-512-512-10 trained from independent starts are connected
linearly, with no barrier, once one of them is permuted (100 epochs of 60,000
images there).  Here five epochs of 50,000 images.  The number aimed at: less
than a tenth of the naive loss barrier (the maximum over the line less the mean
of its ends, on training data) is left after weight matching, a random
permutation leaves all of it, and the midpoint is no worse than the ends by half
a point of test accuracy (a margin of ours, set after the first results).

python -m experiments.rebasin --config=configs/rebasin.py --data_dir=DIR

It takes long training: of models that saw a fifth of these images as often
(10,000, 94 % right on test images) 0.13 [0.12, 0.15] was left, after 25 epochs
of them 0.05.  MLPs of two layers of 256 units leave 0.06 (`lmc_singular`).

Data: MNIST in DIR.  Time: 9 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "rebasin"
CLAIM = "rebasin"
REGISTERED = {
  "statement": "After weight matching less than a tenth of the loss barrier"
  " between independently trained MLPs is left, and their mean is no worse"
  " than they are; a random permutation removes none of it.",
  "paper": "Ainsworth et al. 2023, Git Re-Basin,"
  " https://arxiv.org/abs/2209.04836",
  "paper_number": "barrier 0 (MLP of 784-512x3-10, 60,000 images, 100 epochs)",
  "kind": "part of the paper",
  "statistic": "share of the training barrier left by weight matching below"
  " 0.1; midpoint above its ends less half a point",
  "threshold": 0.1,
  "threshold_by": "ours",
  "controls": ("a random permutation leaves more than half",),
  "seeds": 5,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "MLPs of 784-512x3-10 on 60,000 images of MNIST, 100 epochs",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  hidden = (16, 16) if tiny else (512, 512, 512)
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Git Re-Basin on MNIST MLPs",
      "paper": PAPER,
      "claim": REGISTERED["statement"],
      "judge": "rebasin",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "examples": 200 if tiny else 50_000,
      "model": {"name": "mlp", "hidden": hidden},
      "cases": {"mlp": {"name": "mlp", "hidden": hidden}},
      "members": {
        "count": 2,
        "epochs": 2 if tiny else 5,
        "batch_size": 50 if tiny else 100,
        "hyper": {
          "learning_rate": (0.1, 0.1) if tiny else (0.05, 0.05),
          "weight_decay": (0.0, 0.0),
          "noise": (0.0, 0.0),
        },
      },
      "methods": ("naive", "random", "weights", "activations"),
      "merges": ("mean", "REPAIR"),
      "singular": False,
      "statistics": 100 if tiny else 1_000,
      "examples_of": 100 if tiny else 2_000,
      "points": 5 if tiny else 11,
    }
  )


def sweep(
  config: ml_collections.ConfigDict, axis: str, cases: dict[int, tuple]
) -> ml_collections.ConfigDict:
  """Give a config one case for each size, MLPs of these hidden layers."""
  named = {f"{axis} {size}": hidden for size, hidden in cases.items()}
  config.cases = {
    name: {"name": "mlp", "hidden": hidden} for name, hidden in named.items()
  }
  config.sizes = dict(zip(named, cases))
  config.axis = axis
  return config
