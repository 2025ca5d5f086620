"""FedAU: clients that are seldom there weigh more when they are.

Wang and Ji 2024, "A lightweight method for tackling unknown participation
statistics in federated averaging", https://arxiv.org/abs/2306.03401: weights
from the intervals between participations make FedAvg converge to the right
point where clients take part at different, unknown rates. Here clients hold few
classes each (Dirichlet), and the rate grows with the class. Numbers aimed at:
test loss of FedAU below that of FedAvg over those present, and over all; known
rates and full participation are there to compare. Twelve seeds: of five, the
interval held zero.

python -m experiments.replicas --config=configs/fedau.py --data_dir=DIR

Data: MNIST in DIR.  Time: 4 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "replicas"
CLAIM = "fedau"
REGISTERED = {
  "statement": "Where some clients are seldom there, weights from their"
  " intervals give a lower loss than averages that ignore who is missing.",
  "paper": "Wang and Ji 2024, A lightweight method for tackling unknown"
  " participation statistics in federated averaging,"
  " https://arxiv.org/abs/2306.03401",
  "paper_number": None,
  "kind": "paper",
  "statistic": "test loss, FedAU less FedAvg of those present and less FedAvg"
  " of all, nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("known rates",),
  "seeds": 12,
  "data": "one set of images, shares drawn by seed",
}
PAPER_SIZE = {
  "ran": "convolutional networks on SVHN, CIFAR-10, CIFAR-100 and CINIC-10, 250"
  " clients",
  "settings": {
    "clients": 250,
    "per_client": 200,
    "examples": 0,
    "rounds": 2000,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Federated averaging with unknown participation",
      "paper": REGISTERED["paper"],
      "claim": "fedau",
      "study": "participation",
      "seed": mode.seed,
      "seeds": 2 if tiny else 12,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (32,)},
      "examples": 200 if tiny else 10_000,
      "test": 100 if tiny else 5_000,
      "clients": 5 if tiny else 20,
      "per_client": 40 if tiny else 400,
      "alpha": 0.1,
      "rates": (0.05, 0.6),
      "pattern": "bernoulli",
      "cutoff": 50,
      "rounds": 10 if tiny else 400,
      "last": 6 if tiny else 100,
      "steps": 2 if tiny else 5,
      "batch_size": 16,
      "rate": 0.05,
      "heading": "Test loss, mean over the last rounds",
    }
  )
