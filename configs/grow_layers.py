"""When Layers Play the Lottery: networks without some blocks train as well.

Jordao et al. 2023, https://arxiv.org/abs/2301.10835: blocks of lowest score at
initialisation are removed, the rest begins where it began and trains. In small:
a ResNet20 of half the width, 10,000 images of CIFAR-10, without two and four of
its nine blocks; scores by GraSP. The numbers aimed at: no more than a point
below the dense network, and above networks cut in width to as many parameters.

python -m experiments.grow --config=configs/grow_layers.py --data_dir=DIR

Data: CIFAR-10 in DIR. Time: not yet measured; about twelve minutes on two CPU
cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "layer-tickets"
REGISTERED = {
  "statement": "Without two and without four of nine blocks, chosen by score"
  " at initialisation, a ResNet20 is no more than a point below the dense"
  " one, and above networks with as many parameters cut in width.",
  "paper": "Jordao et al. 2023, When Layers Play the Lottery, all Tickets Win"
  " at Initialization, https://arxiv.org/abs/2301.10835",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy, without blocks less dense, and less narrow, points",
  "threshold": -1.0,
  "threshold_by": "ours",
  "controls": ("dense", "inner channels cut to as many parameters"),
  "seeds": 3,
  "data": "images, networks and batches drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Blocks left out at the start, beside narrow networks",
      "paper": REGISTERED["paper"],
      "claim": "layer_tickets",
      "study": "layer_tickets",
      "seed": mode.seed,
      "seeds": 2 if tiny else 3,
      "data": "digits" if tiny else "cifar10",
      "pool": 1,
      "examples": 120 if tiny else 10_000,
      "test": 60 if tiny else 2_000,
      "depth": 8 if tiny else 20,
      "width": 0.25 if tiny else 0.5,
      "kind": "snip" if tiny else "grasp",
      "scored": 20 if tiny else 500,
      "removed": (1,) if tiny else (2, 4),
      "fit": {
        "epochs": 1 if tiny else 10,
        "batch_size": 30 if tiny else 100,
        "learning_rate": 0.1,
      },
      "heading": "Accuracy",
    }
  )
