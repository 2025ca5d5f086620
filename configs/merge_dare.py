"""DARE on shifted digits: 90 % of a task vector can go, not of the weights.

Yu et al. 2024, "Language models are super Mario",
https://arxiv.org/abs/2311.03099: dropping 90 % of the entries of a task vector
at random and dividing the rest by 0.1 leaves a fine-tuned model as good as it
was; doing the same to its weights destroys it.  The numbers aimed at, of
accuracy over the expert's: at most two points lost for task vectors, more than
twenty for weights.

python -m experiments.merge --config=configs/merge_dare.py --data_dir=DIR

Measured: -1.1 % [-1.4, -0.8] for task vectors, -84 % for weights. Without
rescaling task vectors lose 39 %.

Data: MNIST and notMNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-dare"
REGISTERED = {
  "statement": "Of a task vector 90 % can be dropped and rescaled at a loss of"
  " at most 2 % of the expert's accuracy; of its weights it costs more than 20"
  " %.",
  "paper": "Yu et al. 2024, Language models are super Mario,"
  " https://arxiv.org/abs/2311.03099",
  "paper_number": None,
  "kind": "paper",
  "statistic": "accuracy over the expert's less 100 %: with 90 % of the task"
  " vector dropped above -2, with 90 % of the weights below -20",
  "threshold": -2.0,
  "threshold_by": "ours",
  "controls": (
    "weights in place of task vectors",
    "dropped without rescaling",
  ),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "language models of 7 to 13 billion parameters; not to be built here,"
  " so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  config.title = "DARE: dropping entries of task vectors and of weights"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "dare"
  names = ("average", "task arithmetic", "DARE", "TIES", "DARE-TIES")
  config.methods = merge_bench.of(names)
  config.probes = ("drop",)
  config.registered = REGISTERED
  return config
