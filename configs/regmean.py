"""Fisher merging and RegMean across tasks.

Jin et al. 2023, "Dataless knowledge fusion by merging weights of language
models", https://arxiv.org/abs/2212.09849, and Matena and Raffel 2022, "Merging
models with Fisher-weighted averaging", https://arxiv.org/abs/2111.09832: across
tasks regression beats Fisher weights, and these beat the average (CLIP ViT-B/32
on eight tasks, by FusionBench: average 66.5, Fisher 70.6, RegMean 82.4).  Here
five experts on shifted MNIST and notMNIST; statistics from 256 training images
a task, exact Fisher over labels.  Each method has 20 coefficients to choose
from on validation images.  The numbers aimed at: RegMean minus Fisher and
Fisher minus average, both above zero.

python -m experiments.data_aware --config=configs/regmean.py --data_dir=DIR

Data: MNIST and notMNIST in DIR.  Time: 10 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "data_aware"
CLAIM = "regmean"
REGISTERED = {
  "statement": "Across tasks RegMean is above Fisher merging, and Fisher above"
  " the average, all with a tuned coefficient.",
  "paper": "Jin et al. 2023, Dataless knowledge fusion by merging weights of"
  " language models, https://arxiv.org/abs/2212.09849",
  "paper_number": "average 66.5, Fisher 70.6, RegMean 82.4 % (CLIP ViT-B/32,"
  " eight tasks)",
  "kind": "paper",
  "statistic": "mean test accuracy, tuned: RegMean less Fisher, Fisher less"
  " average, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("untuned too",),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "T5 and RoBERTa on GLUE; CLIP ViT-B/32 in later benchmarks; not to be"
  " built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.smaller(arg)
  tiny = config.base.task.data == "digits"
  config.update(
    {
      "registered": REGISTERED,
      "title": "Fisher merging and RegMean across tasks",
      "paper": REGISTERED["paper"],
      "claim": "regmean",
      "study": "methods",
      "seen": 64 if tiny else 256,
      "heading": "Mean accuracy over tasks, tuned",
    }
  )
  return config
