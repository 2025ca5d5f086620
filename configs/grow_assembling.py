"""Deep Incubation: modules trained apart in one meta network fit each other.

Ni et al. 2023, https://arxiv.org/abs/2212.04129: a shallow meta network is
trained, each module of a deep network takes the place of one of its blocks and
trains there alone, and the modules are put together. In small: four modules of
two residual blocks, MNIST at 14 x 14. The numbers aimed at: put together
without tuning 30 points above modules of unrelated meta networks; tuned, no
more than half a point below a network trained end to end for the steps of the
tuning. The same at the steps of meta network, module and tuning is reported.

python -m experiments.grow --config=configs/grow_assembling.py --data_dir=DIR

Measured: +54.5 points [+45.2, +63.9] before tuning, +0.69 [+0.07, +1.31] after
it, and -1.45 [-2.18, -0.73] against all steps.  Tuned, modules of unrelated
meta networks are as good (93.8 and 93.7 %).

Data: MNIST in DIR.  Time: three minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "assembling"
REGISTERED = {
  "statement": "Modules trained in one shared meta network are, put together"
  " without tuning, more than 30 points above those of unrelated ones, and"
  " after tuning within half a point of training end to end for as many steps"
  " as the tuning.",
  "paper": "Ni et al. 2023, Deep Incubation: Training Large Models by"
  " Divide-and-Conquering, https://arxiv.org/abs/2212.04129",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy untuned, shared less unrelated, and tuned less end"
  " to end, points",
  "threshold": 30.0,
  "threshold_by": "ours",
  "controls": (
    "modules of unrelated meta networks",
    "end to end at the steps of tuning",
    "end to end at all steps",
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
      "title": "Modules trained in a meta network, and put together",
      "paper": REGISTERED["paper"],
      "claim": "assembling",
      "study": "assembling",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": 1 if tiny else 2,
      "examples": 240 if tiny else 12_000,
      "test": 100 if tiny else 5_000,
      "width": 8 if tiny else 48,
      "hidden": 16 if tiny else 96,
      "modules": 2 if tiny else 4,
      "each": 2,  # blocks of a module
      "meta": {
        "epochs": 1 if tiny else 4,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "module": {
        "epochs": 1 if tiny else 2,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "tuned": {
        "epochs": 1 if tiny else 2,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "heading": "Accuracy before and after tuning",
    }
  )
