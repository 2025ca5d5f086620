"""AdamP: momentum without the growth of norms that slows it down.

Heo et al. 2021, "AdamP: slowing down the slowdown for momentum optimizers on
scale-invariant weights", https://arxiv.org/abs/2006.08217: on weights whose
length means nothing momentum makes norms grow, which shrinks the effective
step; taking the radial part out of updates slows that down, and accuracy on
ImageNet rises.  Here an MLP on MNIST whose hidden layers are normalised over
the batch, with optimisers that differ in nothing else; rates fall along a
cosine, as in the paper.  The numbers aimed at, AdamP less Adam over seeds:
logarithm of the growth of the hidden kernels' norm below zero, accuracy not
below by 0.3 points.

python -m experiments.generate --config=configs/adamp.py --data_dir=DIR

Data: MNIST, 10,000 images by seed.  Time: a minute on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "generate"
CLAIM = "adamp"
REGISTERED = {
  "statement": "On a network whose hidden weights have no length AdamP lets"
  " norms grow less than Adam, at no lower accuracy.",
  "paper": "Heo et al. 2021, AdamP, https://arxiv.org/abs/2006.08217",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "AdamP less Adam: log growth of the hidden kernels' norm below"
  " 0, and test accuracy at least -0.3 points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "the same starts, batches and rates",
    "SGD and SGDP beside them",
  ),
  "seeds": 5,
  "data": "training images drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "AdamP: norms that do not run away",
      "paper": REGISTERED["paper"],
      "claim": "adamp",
      "study": "radial",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "examples": 200 if tiny else 10_000,
      "model": {"name": "mlp", "hidden": (16,) if tiny else (128, 128)},
      "methods": ("Adam", "AdamP", "SGD", "SGDP"),
      "rates": {"Adam": 1e-3, "AdamP": 1e-3, "SGD": 0.1, "SGDP": 0.1},
      "epochs": 3 if tiny else 15,
      "batch_size": 50 if tiny else 100,
      "figure": "log growth",
      "curve": ("epoch", "log growth of norms", "Norms of hidden kernels"),
    }
  )
