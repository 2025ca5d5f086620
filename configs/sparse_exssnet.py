"""ExSSNeT: one mask a task, and weights that no earlier task uses.

Yadav & Bansal 2023, "Exclusive supermask subnetwork training for continual
learning", https://arxiv.org/abs/2210.10209: where masks over frozen weights
(SupSup) represent too little, a task may also train those weights of its mask
that no earlier mask has; nothing is forgotten.

In small: five tasks, MNIST at 14 x 14 pixels with the pixels of each task in
another order; weights of one magnitude and random signs.  SupSup searches its
masks for as many epochs as ExSSNeT takes for masks and weights together.  The
number aimed at: mean accuracy over tasks above SupSup's at density 5 %, earlier
tasks' logits the same bit by bit.  At 10 % it is reported.

python -m experiments.sparse --config=configs/sparse_exssnet.py --data_dir=DIR

Data: MNIST in DIR.  Time: ten minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "sparse"
CLAIM = "sparse-exssnet"
REGISTERED = {
  "statement": "On five tasks of permuted digits with masks of 5 % of the"
  " weights, training the weights that no earlier task uses"
  " raises the mean accuracy above that of masks alone, which"
  " are searched as long, and no output of an earlier task"
  " changes by a bit.",
  "paper": "Yadav & Bansal 2023, Exclusive supermask subnetwork"
  " training for continual learning,"
  " https://arxiv.org/abs/2210.10209",
  "paper_number": None,
  "kind": "paper",
  "statistic": "mean accuracy over tasks after all of them, ExSSNeT less"
  " SupSup, points; largest change of a logit",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": ("SupSup for as many epochs", "density 10 %"),
  "seeds": 5,
  "data": "training and test images drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "paper": REGISTERED["paper"],
      "seed": mode.seed,
      "title": "Exclusive supermasks on permuted digits",
      "claim": "exclusive",
      "study": "exclusive",
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": not tiny,
      "model": {"name": "mlp", "hidden": (16, 16) if tiny else (128, 128)},
      "examples": 200 if tiny else 6_000,
      "test": 100 if tiny else 2_000,
      "tasks": 2 if tiny else 5,
      "densities": (0.1,) if tiny else (0.05, 0.1),
      "masks": {
        "epochs": 2 if tiny else 7,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 0.01,
      },
      "weights": {
        "epochs": 2 if tiny else 5,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 1e-3,
      },
      "heading": "Accuracy over all tasks",
    }
  )
