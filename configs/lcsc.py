"""LCSC: a search over signed coefficients of checkpoints.

Liu et al. 2024, "Linear combination of saved checkpoints makes consistency and
diffusion models better", https://arxiv.org/abs/2404.02241: coefficients found
by evolution, some of them negative, are better than any EMA. The paper's metric
is FID and its search is not public; here the metric is the loss of a character
model on validation text, and the search is `evolve`. The numbers aimed at: on
the text of the search never above the best EMA and the best checkpoint (by
construction), and below the best EMA on test text, over twenty seeds (of five,
the interval held zero).

python -m experiments.average --config=configs/lcsc.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: 14 minutes on two CPU cores.
"""

import ml_collections

from configs import characters, common

EXPERIMENT = "average"
CLAIM = "lcsc"
REGISTERED = {
  "statement": "Searched signed coefficients over checkpoints are below the"
  " best EMA and the best checkpoint, on held-out text too.",
  "paper": "Liu et al. 2024, Linear combination of saved checkpoints makes"
  " consistency and diffusion models better,"
  " https://arxiv.org/abs/2404.02241",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "held-out loss, LCSC less best EMA, nats",
  "threshold": 0.0,
  "threshold_by": "papers.md",
  "controls": (
    "best EMA",
    "best checkpoint",
    "uniform mean",
  ),
  "seeds": 20,
}
PAPER_SIZE = {
  "ran": "consistency and diffusion models on CIFAR-10, some 50 checkpoints and"
  " 2,000 evaluations; here a larger language model",
  "settings": {
    "model.layers": 6,
    "model.width": 384,
    "model.heads": 6,
    "examples": 13000,
    "fine.epochs": 60,
    "last": 50,
    "evaluations": 2000,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = characters.bed(arg)
  tiny = config.data == "source"
  config.update(
    {
      "registered": REGISTERED,
      "title": "Searched combinations of a language model's checkpoints",
      "paper": REGISTERED["paper"],
      "claim": "lcsc",
      "study": "checkpoints",
      "seeds": 2 if tiny else 20,
      "examples": 400 if tiny else 4_800,
      "validation": 50 if tiny else 1_000,
      "test": 50 if tiny else 2_000,
      "last": 3 if tiny else 10,
      "evaluations": 40 if tiny else 300,
      "fine": {"epochs": 4 if tiny else 15, "batch_size": 40 if tiny else 64},
      "heading": "Loss on test text",
    }
  )
  return config
