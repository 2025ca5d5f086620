"""Soups against ensembles: the gap of their losses, predicted by flatness.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482 (section 4
and appendix: L_soup - L_ensemble is about alpha (1 - alpha) / 2 times the
variance of the logits' difference under the model less the second derivative of
the loss along the line; validated there for CLIP).  In small: members
fine-tuned from one start at rates from low to moderate (with high rates the
members are too far apart for it, there as here).  The numbers aimed at:
correlation above 0.8 over pairs, equal sign for more than 80 % of them.

python -m experiments.landscape --config=configs/soup_flatness.py --data_dir=DIR

Data: MNIST in DIR, 5,000 images to train on.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "landscape"
CLAIM = "soup-flatness"
REGISTERED = {
  "statement": "The loss of a two-model soup less that of their logit ensemble"
  " follows the approximation by flatness and confidence: over pairs the"
  " correlation is above 0.8, and the sign agrees for more than 80 % of them.",
  "paper": "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "correlation of predicted and measured gap over pairs (Fisher's"
  " z over seeds); share of equal signs, %",
  "threshold": 0.8,
  "threshold_by": "ours",
  "controls": ("members at rates from low to moderate only",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32 on ImageNet; not to be built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Soups, ensembles and flatness",
      "paper": REGISTERED["paper"],
      "study": "soup",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "examples": 200 if tiny else 5000,
      "model": {"name": "mlp", "hidden": (16,) if tiny else (64, 64)},
      "start": {
        "epochs": 2 if tiny else 5,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 0.05,
        "weight_decay": 1e-4,
      },
      "members": {
        "count": 3 if tiny else 8,
        "epochs": 2 if tiny else 5,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 0.05,
        "weight_decay": 1e-4,
        "rates": (0.003, 0.1),
      },
    }
  )
