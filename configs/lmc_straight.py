"""Three models: matched by weights all meet, by the loss of means they do not.

Ito et al. 2024, "Analysis of linear mode connectivity via permutation-based
weight matching", https://arxiv.org/abs/2402.04051: the straight-through
estimator finds permutations that lower the loss of two models' mean, weight
matching aligns the directions of both with those of a third, so that models
matched to one reference are also connected to each other.  Here three MNIST
MLPs, the second and third each matched to the first.  The number aimed at: the
train barrier between the second and the third by straight-through less by
weights, above zero, paired over seeds.  (50 steps at a rate of 0.01 leave every
unit where weight matching puts it.)

python -m experiments.rebasin --config=configs/lmc_straight.py --data_dir=DIR

Data: MNIST in DIR.  Time: 7 minutes on two CPU cores.
"""

import ml_collections

from configs import common, lmc_singular, rebasin

EXPERIMENT = "rebasin"
CLAIM = "lmc-straight"
REGISTERED = {
  "statement": "Two models matched to a third by weights are connected to each"
  " other better than two that are matched to it straight-through.",
  "paper": "Ito et al. 2024, Analysis of linear mode connectivity via"
  " permutation-based weight matching, https://arxiv.org/abs/2402.04051",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "training barrier between two that were matched to a third,"
  " straight-through less weights, nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("barriers to the model matched to",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "MLPs on MNIST, VGG-11 and ResNet-20 on CIFAR-10",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Three models", "paper": lmc_singular.PAPER})
  config.judge, config.singular, config.others = "others", True, True
  config.examples = 200 if tiny else 10_000
  config.claim = REGISTERED["statement"]
  config.cases.mlp.hidden = (12,) if tiny else (128, 128)
  config.members.count = 3
  config.methods = ("naive", "straight-through", "weights")
  config.merges = ("mean",)
  config.straight = {"steps": 5 if tiny else 200, "rate": 0.1}
  config.registered = REGISTERED
  return config
