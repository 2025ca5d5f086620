"""REPAIR by width: the wider the network, the closer the mean to its members.

Jordan et al. 2023, "REPAIR", https://arxiv.org/abs/2211.08403, the width sweep:
MNIST MLPs of 1 + 10 hidden layers, matched by activations; test accuracy of the
midpoint matched / matched and repaired, from the authors' result files: h=32
58.0 / 73.7, h=64 68.3 / 92.8, h=128 80.8 / 95.9, h=256 83.3 / 97.2 (100 epochs
of 60,000 images).  Here 1 + 5 hidden layers.  The number aimed at: REPAIR's
gain above zero at every width, paired over seeds.

Here 20 epochs of 50,000 images.

python -m experiments.rebasin --config=configs/repair_width.py --data_dir=DIR

Data: MNIST in DIR.  Time: not measured yet, about an hour on two CPU cores.
"""

import ml_collections

from configs import common, rebasin, repair_depth

EXPERIMENT = "rebasin"
CLAIM = "repair-width"
REGISTERED = {
  "statement": "REPAIR raises the accuracy of the mean of matched MLPs at"
  " every width.",
  "paper": "Jordan et al. 2023, REPAIR, https://arxiv.org/abs/2211.08403",
  "paper_number": "h=32 58.0 to 73.7, h=64 68.3 to 92.8, h=128 80.8 to 95.9,"
  " h=256 83.3 to 97.2 %",
  "kind": "paper",
  "statistic": "test accuracy of the midpoint, repaired less matched, at every"
  " width, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("naive mean",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "MLPs of eleven hidden layers, widths to 1,024, 60,000 images of"
  " MNIST, 100 epochs",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = repair_depth.get_config(arg)
  config.registered = REGISTERED
  config.title = "REPAIR by width"
  config.seeds = 2 if tiny else 5
  config.claim = REGISTERED["statement"]
  widths, depth = ((8, 16), 2) if tiny else ((32, 64, 128, 256), 6)
  return rebasin.sweep(config, "width", {n: (n,) * depth for n in widths})
