"""TangleNAS: gradient search in one weight that all options share.

Sukthanker et al. 2023, https://arxiv.org/abs/2312.10440: the mixture of leading
slices of a weight is one weight, so a search costs what the largest network
does. In small: the widths of two hidden layers, five options each, MNIST at 14
x 14, with a price on parameters; all 25 networks are trained alone as the
oracle, on the same objective. The numbers aimed at: mixture of slices and mixed
weight equal to 1e-5; no value of the program wider than in the plain network;
the network that DrNAS chooses better than the median of the 25, where random
search would be on average.

python -m experiments.grow --config=configs/grow_tanglenas.py --data_dir=DIR

Measured: the chosen architecture beats 92.8 % of all [86.3, 99.3], DARTS with
sparsemax 77.6; error 6e-7; no wider value.  The first registration compared the
mixed weight, which is computed, with computed values of the plain program alone
(3.06 times as wide on 64 images) and did not hold.

Data: MNIST in DIR.  Time: three minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "tanglenas"
REGISTERED = {
  "statement": "The mixture of slices is exactly one mixed weight, as large"
  " as the largest option, and the architecture that DrNAS finds in it is"
  " better than the median of all.",
  "paper": "Sukthanker et al. 2023, Weight-Entanglement Meets Gradient-Based"
  " Neural Architecture Search, https://arxiv.org/abs/2312.10440",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "percentile, among 25 architectures trained alone, of the"
  " chosen one's loss with the price of its size",
  "threshold": 50.0,
  "threshold_by": "papers.md",
  "controls": (
    "DARTS with sparsemax",
    "all architectures alone",
    "the largest network's widest value, parameters counted",
  ),
  "seeds": 5,
  "data": "images, networks and batches drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Widths searched in one entangled weight",
      "paper": REGISTERED["paper"],
      "claim": "tanglenas",
      "study": "tanglenas",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": 1 if tiny else 2,
      "examples": 240 if tiny else 6_000,
      "test": 100 if tiny else 5_000,
      "options": (2, 4) if tiny else (8, 16, 32, 64, 128),
      "price": 0.1,  # nats for all parameters of the largest
      "alone": {
        "epochs": 1 if tiny else 8,
        "batch_size": 40 if tiny else 100,
        "learning_rate": 2e-3,
      },
      "search": {
        "epochs": 1 if tiny else 16,
        "batch_size": 40 if tiny else 200,
        "learning_rate": 2e-3,
        "architecture_rate": 1e-2,
      },
      "figure": "percentile",
      "heading": "Architectures that the chosen one beats (%)",
    }
  )
