"""PLeaS: layers solved by least squares beat the mean of matched models.

Nasery et al. 2024, "PLeaS", https://arxiv.org/abs/2407.02447: after matching,
each layer's weights are fitted so that the mean of the members' inputs gives
the mean of their outputs (ResNet-50 on DomainNet there, 38.6 against 17.8 of
Git Re-Basin; by Adam there, in closed form here).  Here MNIST MLPs, all units
merged.  The number aimed at: test accuracy less that of the mean of the matched
models, above zero, paired over seeds.

python -m experiments.rebasin --config=configs/pleas.py --data_dir=DIR

Data: MNIST in DIR.  Time: 2 minutes on two CPU cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "pleas"
REGISTERED = {
  "statement": "Layer-wise least squares after matching are more accurate than"
  " the mean of the matched models, for two models of one task that are merged"
  " in full.",
  "paper": "Nasery et al. 2024, PLeaS, https://arxiv.org/abs/2407.02447",
  "paper_number": "38.6 against 17.8 % of Git Re-Basin (ResNet-50, DomainNet)",
  "kind": "part of the paper",
  "statistic": "test accuracy, least squares less the mean of matched models,"
  " points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("REPAIR",),
  "seeds": 5,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "ResNet-50 on DomainNet; here MLPs trained in full",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Layers by least squares", "paper": PAPER})
  config.judge = "least_squares"
  config.examples = 200 if tiny else 10_000
  config.claim = REGISTERED["statement"]
  config.cases.mlp.hidden = (12,) if tiny else (128, 128, 128)
  config.methods = ("naive", "activations")
  config.merges = ("mean", "REPAIR", "least squares")
  config.registered = REGISTERED
  return config
