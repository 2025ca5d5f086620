"""Model soups on MNIST: the greedy soup of a sweep against its best member.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482. Members
are a sweep over learning rate, weight decay and augmentation. The greedy soup
starts from the best member and keeps what does not lower the score, so the What
is asked for is registered below.

python -m experiments.soup --config=configs/soups_mnist_greedy.py \\
  --data_dir=DIR

Data: MNIST, 10,000 images to train on.  Time: 2 minutes on two CPU cores.
"""

import ml_collections

from configs import common, model_soups

EXPERIMENT = "soup"
CLAIM = "soups-greedy"
REGISTERED = {
  "statement": "The greedy soup of a sweep is more accurate on test data than"
  " the member that is best on the selection set.",
  "paper": "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
  "paper_number": "greedy soup 81.0, best member 80.4 % (CLIP ViT-B/32 on"
  " ImageNet)",
  "kind": "paper",
  "statistic": "test accuracy of the greedy soup less that of the member that"
  " is best on the selection set, paired over seeds, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "on the selection set it is never below by construction, which is"
    " checked in every seed",
  ),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32 on ImageNet, 72 members over a grid; here ResNets on"
  " CIFAR-10",
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
  sweep = {"learning_rate": (0.005, 0.13), "noise": (0.05, 0.4)}
  config.registered = REGISTERED
  config.title = "Model soups on MNIST: greedy selection in a sweep"
  config.claim = "greedy"
  config.members.hyper.update(sweep | {"weight_decay": (1e-6, 1e-3)})
  config.start.hyper.noise = (0.2, 0.2)
  return common.on_mnist(config, arg)
