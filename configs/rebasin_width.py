"""Git Re-Basin by width: the wider the network, the smaller the barrier left.

Ainsworth et al. 2023, "Git Re-Basin", https://arxiv.org/abs/2209.04836, section
5.2: the barrier after weight matching falls as networks get wider (VGG and
ResNet on CIFAR-10 there; MLPs of three hidden layers on MNIST here).  The
number aimed at: the train barrier of the narrowest less that of the widest,
above zero, paired over seeds.

python -m experiments.rebasin --config=configs/rebasin_width.py --data_dir=DIR

Data: MNIST in DIR.  Time: 52 seconds on two CPU cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "rebasin-width"
REGISTERED = {
  "statement": "The barrier left by weight matching is smaller in a wider MLP.",
  "paper": "Ainsworth et al. 2023, Git Re-Basin,"
  " https://arxiv.org/abs/2209.04836",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "training barrier after weight matching, narrowest less widest,"
  " nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("widths between",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "VGG-16 and ResNet-20 of several widths on CIFAR-10; here MLPs"
  " trained in full",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.registered = REGISTERED
  config.title = "Git Re-Basin by width"
  config.claim = REGISTERED["statement"]
  config.judge = "width"
  config.examples = 200 if tiny else 10_000
  config.methods = ("naive", "weights")
  widths = (4, 16) if tiny else (32, 64, 128, 256)
  return rebasin.sweep(config, "width", {n: (n,) * 3 for n in widths})
