"""MAP: a front of two tasks from few evaluations.

Li et al. 2024, "MAP: low-compute model merging with amortized Pareto fronts via
quadratic approximation", https://arxiv.org/abs/2406.07529: quadratics fitted to
a few evaluations of mixes of two task vectors give nearly the front of a grid.
Here the grid has 21 x 21 mixes; fronts are those of what was evaluated, and the
same number of random mixes is beside them. What is asked for is registered
below.

python -m experiments.data_aware --config=configs/map_front.py --data_dir=DIR

Data: MNIST and notMNIST in DIR.  Time: 59 seconds on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "data_aware"
CLAIM = "map"
REGISTERED = {
  "statement": "Quadratic surrogates from 30 mixes predict both tasks over a"
  " dense grid (R2 at least 0.9), and their front has more hypervolume than as"
  " many random mixes.",
  "paper": "Li et al. 2024, MAP, https://arxiv.org/abs/2406.07529",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "least R2 of the surrogates over the grid of 441 mixes above"
  " 0.9; hypervolume less that of as many mixes at random, points, above 0",
  "threshold": 0.9,
  "threshold_by": "papers.md",
  "controls": ("as many mixes at random",),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32 on eight tasks; not to be built here, so that ours is"
  " run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.smaller(arg, 2)
  tiny = config.base.task.data == "digits"
  config.update(
    {
      "registered": REGISTERED,
      "title": "MAP: a front of two tasks from few evaluations",
      "paper": REGISTERED["paper"],
      "claim": "map",
      "study": "front",
      "seen": 64,
      "grid": 5 if tiny else 21,
      "budgets": (6, 12) if tiny else (6, 12, 30),
      "points": 4 if tiny else 15,
      "heading": "Hypervolume over the grid's (%)",
    }
  )
  config.tasks = dict(list(config.tasks.to_dict().items())[:2])
  return config
