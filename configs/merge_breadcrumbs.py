"""Model Breadcrumbs: task vectors without outliers and without small entries.

Davari and Belilovsky 2024, "Model breadcrumbs: scaling multi-task model merging
with sparse masks", https://arxiv.org/abs/2312.06795: of each layer of a task
vector the smallest 85 % and the largest 0.7 % are masked, and the rest, 14.3 %,
is added up. It is meant to be above task arithmetic, and to keep its
hyper-parameters when tasks are added. What is asked for is registered below.

python -m experiments.merge --config=configs/merge_breadcrumbs.py \\
  --data_dir=DIR

Before registration: with mask and coefficient tuned, +0.7 points [+0.4, +1.0]
on eight tasks and +1.5 [-0.1, +3.2] on two. At equal coefficients it is 2.0 and
6.7 points below: the mask keeps 60 % of a task vector's norm and nothing makes
up for it, so its coefficient must be larger.

Data: MNIST and notMNIST in DIR.  Time: 4 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-breadcrumbs"
REGISTERED = {
  "statement": "Breadcrumbs keeps exactly its share of every row; tuned alike"
  " it is above task arithmetic on two tasks and on eight, there also with the"
  " mask that was tuned on two; at one coefficient for both it is below.",
  "paper": "Davari and Belilovsky 2024, Model Breadcrumbs,"
  " https://arxiv.org/abs/2312.06795",
  "paper_number": None,
  "kind": "paper",
  "statistic": "mean test accuracy, Breadcrumbs less task arithmetic, tuned"
  " alike, for two and for eight tasks, and for eight with the mask of two,"
  " points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "task arithmetic with as many tries",
    "entries kept in every row, counted",
  ),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32 on up to 200 tasks; not to be built here, so that ours"
  " is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  config.title = "Model Breadcrumbs and task arithmetic"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "breadcrumbs"
  names = ("average", "task arithmetic", "Breadcrumbs")
  config.methods = merge_bench.of(names)
  keep = (0.143, 0.4, 0.85) if config.seeds > 2 else (0.143,)
  config.methods.Breadcrumbs.options = {"keep": keep, "top": 0.007}
  config.budget = 3 * config.budget
  config.counts = (2, *config.counts)
  config.probes = ("kept",)
  config.registered = REGISTERED
  return config
