"""C2M3: many models matched at once, against each matched to the first.

Crisostomi et al. 2024, "C2M3", https://arxiv.org/abs/2405.17897: permutations
to a common universe, found for all models together, give a better mean of many
models than pairwise permutations to one of them. Here four MNIST MLPs. What is
asked for is registered below.

Ten pairs of models; of five, the interval held zero.

python -m experiments.rebasin --config=configs/c2m3.py --data_dir=DIR

Data: MNIST in DIR.  Time: not measured yet.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "c2m3"
REGISTERED = {
  "statement": "The mean of four models matched all at once is more accurate"
  " than the mean of the same models each matched to the first, and than by"
  " MergeMany.",
  "paper": "Crisostomi et al. 2024, C2M3, https://arxiv.org/abs/2405.17897",
  "paper_number": None,
  "kind": "paper",
  "statistic": "test accuracy of the mean of four, matched at once less"
  " pairwise and less MergeMany, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "MergeMany (Git Re-Basin)",
    "the same with REPAIR",
  ),
  "seeds": 10,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "MLPs, ResNets and VGGs on MNIST-like sets, CIFAR-10 and CIFAR-100;"
  " here MLPs trained in full",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Many models at once", "paper": PAPER})
  config.seeds = 2 if tiny else 10
  config.judge = "many"
  config.examples = 200 if tiny else 10_000
  config.claim = REGISTERED["statement"]
  config.cases.mlp.hidden = (12,) if tiny else (128, 128)
  config.members.count = 3 if tiny else 4
  config.methods = ("naive", "weights", "MergeMany", "many")
  config.registered = REGISTERED
  return config
