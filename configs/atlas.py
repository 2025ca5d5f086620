"""aTLAS: a new task from a few examples.

Zhang et al. 2024, "Knowledge composition using task vectors with learned
anisotropic scaling", https://arxiv.org/abs/2407.02880: task vectors of other
tasks, with a learned coefficient for each parameter array, adapt a model to a
new task from a few examples. Here the base has not seen letters; task vectors
of four shifts of MNIST are composed on 16 examples of each class. What is asked
for is registered below.

python -m experiments.data_aware --config=configs/atlas.py --data_dir=DIR

Data: MNIST and notMNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "data_aware"
CLAIM = "atlas"
REGISTERED = {
  "statement": "With a few examples of a new task, a coefficient for each"
  " parameter array is more accurate on it than one for each task vector, and"
  " than the base.",
  "paper": "Zhang et al. 2024, Knowledge composition using task vectors with"
  " learned anisotropic scaling, https://arxiv.org/abs/2407.02880",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy on the new task, coefficients by leaf less by task"
  " and less base, points",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": (
    "one coefficient a task vector",
    "the likelihood of the few, higher by construction",
  ),
  "seeds": 10,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32 and -L/14 on 22 data sets; not to be built here, so"
  " that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.smaller(arg)
  tiny = config.base.task.data == "digits"
  config.update(
    {
      "registered": REGISTERED,
      "title": "aTLAS: a new task from a few examples",
      "paper": REGISTERED["paper"],
      "claim": "atlas",
      "study": "few shot",
      "seen": 100 if tiny else 1000,
      "shots": 4 if tiny else 16,
      "parts": 8 if tiny else 64,
      "epochs": 3 if tiny else 60,
      "rate": 1e-1,
      "heading": "Accuracy on the new task",
    }
  )
  if not tiny:
    config.seeds = 10
  return config
