"""Model soups on MNIST: members of equal quality, uniform above the best.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482.  Members
differ by their seed alone and are trained at a constant high rate, so they sit
around the rim of one basin.  The number aimed at is above zero: test accuracy
of the uniform soup less that of the best member on the selection set, paired
over seeds.

python -m experiments.soup --config=configs/soups_mnist_uniform.py \\
  --data_dir=DIR

Data: MNIST, 10,000 images to train on.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common, model_soups

EXPERIMENT = "soup"
CLAIM = "soups-uniform"
REGISTERED = {
  "statement": "The uniform soup of members of equal quality is above the best"
  " of them, chosen on the selection set.",
  "paper": "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
  "paper_number": "uniform soup 80.0, best member 80.4 %: below (CLIP ViT-B/32"
  " on ImageNet)",
  "kind": "part of the paper",
  "statistic": "test accuracy of the uniform soup less that of the best"
  " member, paired over seeds, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "equal quality is a condition: over a sweep of rates the uniform soup"
    " was below the best",
  ),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32 on ImageNet, 72 members; here ResNets on CIFAR-10",
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
  config.registered = REGISTERED
  config.title = "Model soups on MNIST: members of equal quality"
  config.members.hyper.update(same | {"weight_decay": (0.0, 0.0)})
  config.start.hyper.noise = (0.3, 0.3)
  return common.on_mnist(config, arg)
