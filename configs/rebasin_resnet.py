"""BatchNorm reset on ResNet20: a mean of models has other statistics.

Jordan et al. 2023, "REPAIR", https://arxiv.org/abs/2211.08403: ResNet20 with
BatchNorm on CIFAR-10, matched by activations; test accuracy of the midpoint
from the authors' result files, matched / matched and statistics found anew:
width 1 12.7 / 67.6, width 4 34.8 / 92.1, width 16 16.1 / 95.4, ends 93.5 to 97.
Here width 1/2, 5,000 images, and six epochs.  The number aimed at: the gain of
new statistics above zero, paired over seeds.

python -m experiments.rebasin --config=configs/rebasin_resnet.py --data_dir=DIR

Larger, for a GPU or TPU: --config.examples=45000 --config.members.epochs=100
--config.cases.resnet.width=4 --config.members.batch_size=500

Data: CIFAR-10 in DIR.  Time: 12 minutes on two CPU cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "rebasin-resnet"
REGISTERED = {
  "statement": "New BatchNorm statistics raise the accuracy of the mean of"
  " ResNets matched by activations.",
  "paper": "Jordan et al. 2023, REPAIR, https://arxiv.org/abs/2211.08403",
  "paper_number": "width 1 12.7 to 67.6, width 4 34.8 to 92.1 %",
  "kind": "paper",
  "statistic": "test accuracy of the midpoint, new statistics less old, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("new statistics without matching",),
  "seeds": 5,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "ResNet-20 of width 1 to 16 on CIFAR-10",
  "settings": {
    "examples": 45000,
    "members.epochs": 100,
    "cases.resnet.width": 4,
    "members.batch_size": 500,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "BatchNorm reset on ResNet20", "paper": PAPER})
  config.judge = "reset"
  config.claim = REGISTERED["statement"]
  resnet = {"name": "resnet", "norm": "batch", "shortcut": 3}
  resnet |= {"depth": 8, "width": 0.25} if tiny else {"depth": 20, "width": 0.5}
  if not tiny:
    config.update({"data": "cifar10", "examples": 5_000})
    config.members.epochs = 6
  config.model = config.cases = None
  config.model, config.cases = resnet, {"resnet": resnet}
  config.members.hyper.learning_rate = (0.05, 0.05)
  more = () if tiny else ("weights",)
  config.methods = ("naive", *more, "activations")
  config.merges = ("mean", "reset")
  config.examples_of = 100 if tiny else 500
  config.statistics = 100 if tiny else 500
  config.points = 3 if tiny else 5
  config.registered = REGISTERED
  return config
