"""A sweep of soups of 64 members, from one start and from independent ones.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482, averages
up to 72 models.  The number aimed at is that of `configs/model_soups.py`, test
accuracy of the uniform soup less that of the best member, here with as many
members and over a sweep of seeds: above zero from one start, far below from
independent ones.  Members are sharded over all devices that there are.

python -m experiments.soup --config=configs/soup_sweep.py
python -m experiments.sweep --config=configs/soup_sweep.py --workdir=DIR

Data: scikit-learn's bundled digits, or with `size=pod` CIFAR-10 in --data_dir.
Time: a minute a unit on two CPU cores; see docs/pods.md for pods.
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import common, model_soups, search

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
  "seeds": 1,
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds, `size=pod` on CIFAR-10."""
  given = common.parse_arg(
    arg, mode=("paper", "tiny"), seed=0, size=("laptop", "pod")
  )
  mode = f"mode={given.mode},seed={given.seed}"
  config = model_soups.get_config(mode)
  config.title = "Soups of 64 members"
  config.seeds = 1  # a unit is one population
  config.mesh = {"population": -1}
  config.members.count = 8 if given.mode == "tiny" else 64
  if given.size == "pod":
    config.data = "cifar10"
    config.model = {"name": "resnet", "depth": 20, "norm": "layer", "width": 4}
    config.start.update({"epochs": 30, "batch_size": 128})
    config.members.update({"epochs": 30, "batch_size": 128})
    config.learned.update({"epochs": 5, "batch_size": 512})
  config.registered = REGISTERED
  return config


def sweep(add: Callable[..., Any]) -> None:
  """Add five seeds, with a shared start and without."""
  grid = {"seed": range(5), "shared_start": (True, False)}
  for point in search.grid(grid):
    add(point)
