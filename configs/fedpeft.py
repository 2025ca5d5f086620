"""FedPEFT: federated averaging of a part of a pre-trained model.

Sun et al. 2022, "FedPEFT: parameter-efficient fine-tuning in federated
learning", https://arxiv.org/abs/2210.01708: from a pre-trained model it is
enough to train and send a small part, such as the biases. Here the base knows
clean digits and the clients hold digits in noise, few classes each. What is
asked for is registered below. Each part, and the whole, has its rate chosen on
validation images.

python -m experiments.replicas --config=configs/fedpeft.py --data_dir=DIR

Data: MNIST in DIR.  Time: not measured yet.
"""

import ml_collections

from configs import common

EXPERIMENT = "replicas"
CLAIM = "fedpeft"
REGISTERED = {
  "statement": "Training and sending biases and the head alone is within two"
  " points of training all, from a pre-trained base; the rest does not change.",
  "paper": "Sun et al. 2022, FedPEFT, https://arxiv.org/abs/2210.01708",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy, biases and head less all parameters, points",
  "threshold": -2.0,
  "threshold_by": "papers.md",
  "controls": (
    "a rate for each part, chosen from the same four on validation images",
    "biases alone",
    "leaves that are to stay, compared bit by bit",
  ),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "ViT-B and others, pre-trained on ImageNet-21k; not to be built here,"
  " so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Federated averaging of parts of a model",
      "paper": REGISTERED["paper"],
      "claim": "fedpeft",
      "study": "federated_parts",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (128, 128)},
      "examples": 200 if tiny else 12_000,
      "test": 100 if tiny else 5_000,
      "shift": ("gaussian_noise", 5),
      "clients": 4 if tiny else 10,
      "per_client": 40 if tiny else 600,
      "alpha": 0.5,
      "rounds": 4 if tiny else 40,
      "steps": 2 if tiny else 10,
      "batch_size": 16 if tiny else 32,
      "rates": (0.1, 0.3) if tiny else (0.03, 0.1, 0.3, 1.0),
      "base": {"epochs": 2 if tiny else 5, "batch_size": 50 if tiny else 100},
      "heading": "Accuracy on digits in noise",
    }
  )
