"""ZSCL: an average along fine-tuning keeps what was known before.

Zheng et al. 2023, "Preventing zero-shot transfer degradation in continual
learning of vision-language models", https://arxiv.org/abs/2303.06628: beside
distillation, the mean of the weights at the start and after every I-th step of
fine-tuning keeps zero-shot accuracy. Here the 1,000 steps and a period of 100
are the paper's; the old domain is clean digits, the new one rotated ones, and
the average is alone, without distillation. What is asked for is registered
below.

python -m experiments.average --config=configs/zscl.py --data_dir=DIR

Data: MNIST in DIR.  Time: 3 minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "average"
CLAIM = "zscl"
REGISTERED = {
  "statement": "A running mean of the weights while fine-tuning keeps the old"
  " domain better, within a point in the new; no better than the mix of start"
  " and end that has as much of the new.",
  "paper": "Zheng et al. 2023, Preventing zero-shot transfer degradation in"
  " continual learning of vision-language models,"
  " https://arxiv.org/abs/2303.06628",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "points: old domain, running mean less fine-tuned, above 0; new"
  " domain above -1; old domain less the mix's, below 0.5",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": (
    "the fine-tuned model",
    "WiSE-FT at equal accuracy in the new domain, on test images",
  ),
  "seeds": 20,
}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/16 through eleven data sets; not to be built here, so that"
  " ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Weight ensemble against forgetting",
      "paper": REGISTERED["paper"],
      "claim": "zscl",
      "study": "zscl",
      "seed": mode.seed,
      "seeds": 2 if tiny else 20,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (128,)},
      "examples": 200 if tiny else 10_000,
      "test": 100 if tiny else 5_000,
      "shift": ("rotation", 4),
      "period": 5 if tiny else 100,
      "rate": 0.05,
      "base": {"epochs": 2 if tiny else 5, "batch_size": 50 if tiny else 100},
      "fine": {"epochs": 2 if tiny else 20, "batch_size": 50 if tiny else 100},
      "figure": "mean of both (%)",
      "heading": "Accuracy, mean of both domains",
    }
  )
