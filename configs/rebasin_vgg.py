"""REPAIR on a VGG: deep plain convolutions need their variance back most.

Jordan et al. 2023, "REPAIR", https://arxiv.org/abs/2211.08403: VGGs without
norms on CIFAR-10, matched by activations; test accuracy of the midpoint from
the authors' result files, matched / matched and repaired: VGG11 61.3 / 88.2,
VGG16 27.9 / 90.1, ends 92 to 94.  Here a VGG of five narrow convolutions,
10,000 images, and few epochs.  The number aimed at: REPAIR's gain above zero,
paired over seeds.

python -m experiments.rebasin --config=configs/rebasin_vgg.py --data_dir=DIR

Larger, for a GPU or TPU: --config.examples=45000 --config.members.epochs=100
--config.cases.vgg.widths='(64,128,256,512)'
--config.cases.vgg.depths='(1,1,2,2)'

Data: CIFAR-10 in DIR.  Time: 10 minutes on two CPU cores.
"""

from typing import Any

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "rebasin-vgg"
REGISTERED = {
  "statement": "REPAIR raises the accuracy of the mean of VGGs matched by"
  " activations.",
  "paper": "Jordan et al. 2023, REPAIR, https://arxiv.org/abs/2211.08403",
  "paper_number": "VGG11 61.3 to 88.2, VGG16 27.9 to 90.1 %",
  "kind": "paper",
  "statistic": "test accuracy of the midpoint, repaired less matched, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("naive mean",),
  "seeds": 5,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "VGG-11 and VGG-16 on CIFAR-10",
  "settings": {
    "examples": 45000,
    "members.epochs": 100,
    "cases.vgg.widths": (64, 128, 256, 512),
    "cases.vgg.depths": (1, 1, 2, 2),
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "REPAIR on a VGG", "paper": PAPER, "judge": "repair"})
  config.claim = REGISTERED["statement"]
  vgg: dict[str, Any] = {"name": "vgg", "norm": "none", "pool": "mean"}
  vgg |= {"widths": (4, 8), "depths": (1, 1)}
  if not tiny:
    config.update({"data": "cifar10", "examples": 10_000})
    vgg |= {"widths": (16, 32, 64), "depths": (1, 2, 2)}
    config.members.epochs = 5
  config.model = config.cases = None
  config.model, config.cases = vgg, {"vgg": vgg}
  config.members.hyper.learning_rate = (0.02, 0.02)
  more = () if tiny else ("random", "weights")
  config.methods = ("naive", *more, "activations")
  config.points = 3 if tiny else 11
  config.examples_of = 100 if tiny else 500
  config.statistics = 100 if tiny else 500
  config.registered = REGISTERED
  return config
