"""Smooth expert trajectories, and images learned to follow them.

Shen et al. 2023, "Boosting dataset distillation by aligning with smooth and
high-quality expert trajectories", https://arxiv.org/abs/2310.10541: experts
whose loss is weakened while they begin and whose gradients in the images are
held to length one move in smaller steps, and images learned along their way are
better.  Here small networks on 8x8 digits, one learned image a class.  The
numbers aimed at, over seeds: largest step of an expert, smooth less plain,
below zero at no more than a point of accuracy; students of the learned images
above those of as many real ones.

python -m experiments.generate --config=configs/trajectories.py

Data: scikit-learn's bundled digits.  Time: two minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "generate"
CLAIM = "trajectories"
REGISTERED = {
  "statement": "Smooth experts move in smaller steps at no more than a point of"
  " accuracy, and images learned along their way train better students than as"
  " many real ones.",
  "paper": "Shen et al. 2023, https://arxiv.org/abs/2310.10541",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "smooth less plain experts: largest step below 0 and accuracy at"
  " least -1 point; students of learned less of real images above 0 points",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": (
    "real images at the best of several rates, chosen on test images",
    "images learned from plain experts",
  ),
  "seeds": 5,
  "data": "training images and starts drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Images along smooth trajectories",
      "paper": REGISTERED["paper"],
      "claim": "trajectories",
      "study": "follow",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits",
      "model": {"name": "mlp", "hidden": (8,) if tiny else (64,)},
      "per_class": 1,
      "experts": {
        "count": 2 if tiny else 10,
        "epochs": 4 if tiny else 20,
        "batch_size": 100,
        "learning_rate": 0.03,
        "weak": 2 if tiny else 10,
        "penalty": 2.0,
      },
      "match": {
        "rounds": 5 if tiny else 1000,
        "steps": 2 if tiny else 10,
        "ahead": 1 if tiny else 2,
        "last": 1 if tiny else 10,
        "rate": 0.1,
        "image_rate": 0.02,
        "balanced": True,
      },
      "students": {"count": 2 if tiny else 5, "epochs": 10 if tiny else 300},
      "real_rates": (0.03, 0.1, 0.3),
      "figure": "student's test (%)",
    }
  )
