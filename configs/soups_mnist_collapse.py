"""Model soups on MNIST: members of independent starts cannot be averaged.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482, after
Frankle et al. 2020, https://arxiv.org/abs/1912.05671: averaging needs a shared
start.  Members are trained as long as start and fine-tuning together, each from
an initialisation of its own.  The number aimed at is a fall of more than ten
points below the mean member, and a loss barrier above zero halfway between two
members.

python -m experiments.soup --config=configs/soups_mnist_collapse.py \\
  --data_dir=DIR

Data: MNIST, 10,000 images to train on.  Time: 6 minutes on two CPU cores.
"""

import ml_collections

from configs import common, model_soups

EXPERIMENT = "soup"
CLAIM = "soups-collapse"
REGISTERED = {
  "statement": "The average of members from independent starts collapses: it"
  " falls more than ten points below them, behind a loss barrier.",
  "paper": "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
  "paper_number": None,
  "kind": "paper",
  "statistic": "test accuracy of the uniform soup less the mean member's; loss"
  " at the midpoint less the chord, both over seeds",
  "threshold": -10.0,
  "threshold_by": "papers.md",
  "controls": ("the same population from one start (soups-uniform)",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "ResNet-20 on CIFAR-10 from independent starts (Frankle et al.)",
  "settings": {
    "data": "cifar10",
    "examples": 0,
    "model": {"name": "resnet", "depth": 20, "norm": "layer", "width": 4},
    "members.count": 32,
    "members.epochs": 30,
    "members.batch_size": 128,
    "start.epochs": 30,
    "start.batch_size": 128,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  config = model_soups.get_config(arg)
  same = {"learning_rate": (0.1, 0.1), "noise": (0.3, 0.3)}
  config.title = "Model soups on MNIST: independent starts"
  config.claim = "collapse"
  config.shared_start = False
  config.members.hyper.update(same | {"weight_decay": (0.0, 0.0)})
  config = common.on_mnist(config, arg)
  config.members.epochs += config.start.epochs
  config.registered = REGISTERED
  return config
