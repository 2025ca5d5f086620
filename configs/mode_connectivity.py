"""Mode connectivity: a bent path of low loss between independent networks.

Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast ensembling of
DNNs", https://arxiv.org/abs/1802.10026: a quadratic Bezier curve trained
between two solutions has nearly constant loss (VGG-16 on CIFAR-10: test error
along the curve within a point of the ends, on the line chance).  In small: MLPs
on MNIST.  The number aimed at: the curve's barrier in training loss below a
tenth of the line's, in test error below a fifth, paired over pairs.

python -m experiments.landscape --config=configs/mode_connectivity.py \\
  --data_dir=DIR

Of your own models: `--config.models="('a.safetensors', 'b.safetensors')"`.

Data: MNIST in DIR, 10,000 images to train on.  Time: 18 minutes on two CPU
cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "landscape"
CLAIM = "mode-connectivity"
REGISTERED = {
  "statement": "Two networks from independent starts are joined by a quadratic"
  " Bezier curve whose barrier in training loss is below a tenth of that on"
  " the straight line, and its barrier in test error likewise below a fifth.",
  "paper": "Garipov et al. 2018, Loss surfaces, mode connectivity, and fast"
  " ensembling of DNNs, https://arxiv.org/abs/1802.10026",
  "paper_number": "test error along the curve within a point of the ends"
  " (VGG-16, CIFAR-10)",
  "kind": "paper",
  "statistic": "training barrier of the curve less a tenth of the line's,"
  " nats; test error less a fifth",
  "threshold": 0.0,
  "threshold_by": "ours",
  "controls": ("the straight line",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "VGG-16 and ResNet-164 on CIFAR-10 and CIFAR-100",
  "settings": {
    "data": "cifar10",
    "examples": 0,
    "model": {
      "name": "vgg",
      "widths": (64, 128, 256, 512),
      "depths": (2, 2, 3, 3),
      "norm": "none",
      "pool": "mean",
    },
    "train.epochs": 200,
    "curve.steps": 40000,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Mode connectivity",
      "paper": REGISTERED["paper"],
      "study": "connect",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "examples": 200 if tiny else 10_000,
      "models": (),
      "model": {"name": "mlp", "hidden": (16,) if tiny else (64, 64)},
      "train": {
        "epochs": 3 if tiny else 10,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 0.1,
        "weight_decay": 1e-4,
      },
      "curve": {
        "steps": 40 if tiny else 2000,
        "learning_rate": 0.1,
        "batch_size": 50 if tiny else 100,
        "weight_decay": 1e-4,
      },
      "plane": {
        "points": (9, 7) if tiny else (41, 33),
        "examples": 100 if tiny else 2000,
        "steps": 8 if tiny else 60,
        "probes": 1 if tiny else 3,
      },
    }
  )
