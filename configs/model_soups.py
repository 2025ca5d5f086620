"""Model soups on handwritten digits: members of equal quality, averaged.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482: averaging
the weights of models fine-tuned from one start can raise accuracy at no cost at
inference (ImageNet, 72 CLIP models: the greedy soup 0.6 points above the best
of them, the uniform soup 0.4 below).  Here members differ little in quality and
are trained at a constant high rate, which is where a uniform soup gains; rates
and noise were chosen on the validation set.  The number aimed at, test accuracy
of the uniform soup less that of the best member, is above zero, paired over
seeds.

python -m experiments.soup --config=configs/model_soups.py

Data: scikit-learn's bundled digits.  Time: half a minute on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "soup"
REGISTERED = {
  "statement": "The uniform soup of members of equal quality is above the best"
  " of them, chosen on the selection set.",
  "paper": "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
  "paper_number": "uniform soup 80.0, best member 80.4 %: below (CLIP ViT-B/32"
  " on ImageNet)",
  "kind": "part of the paper",
  "statistic": "test accuracy of the uniform soup less that of the best"
  " member, paired over seeds, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "equal quality is a condition: over a sweep of rates the uniform soup"
    " was below the best",
  ),
  "seeds": 10,
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Model soups on handwritten digits",
      "paper": REGISTERED["paper"],
      "claim": "uniform",
      "seed": mode.seed,
      "seeds": 2 if tiny else 10,
      "data": "digits",
      "examples": 100 if tiny else 0,
      "model": {"name": "mlp", "hidden": (16,) if tiny else (64, 64)},
      "shared_start": True,
      "start": {
        "epochs": 2 if tiny else 20,
        "batch_size": 32,
        "hyper": {
          "learning_rate": (0.1, 0.1),
          "weight_decay": (0.0, 0.0),
          "noise": (0.3, 0.3),
        },
      },
      "members": {
        "count": 8,
        "epochs": 2 if tiny else 10,
        "batch_size": 32,
        "hyper": {
          "learning_rate": (0.09, 0.11),
          "weight_decay": (1e-5, 1e-4),
          "noise": (0.25, 0.35),
        },
      },
      "learned": {"by": "leaf", "epochs": 2 if tiny else 30, "batch_size": 64},
    }
  )
