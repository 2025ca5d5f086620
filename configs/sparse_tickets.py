"""Grokking tickets: the mask of a network that generalised learns sooner.

Minegishi et al. 2023, "Bridging lottery ticket and grokking: understanding
grokking from inner structure of networks", https://arxiv.org/abs/2310.19470:
the magnitude mask of a network that has generalised, rewound to the start,
takes less time from memorisation to generalisation; masks from memorisation or
at random do not, and neither does a small norm of the weights alone.

In small: sums modulo 31 from one-hot pairs, an MLP, full batches.  The numbers
aimed at: fewer steps to 95 % test accuracy than tickets of memorisation and of
random origin, and at most half of the dense network's; who does not get there
counts with all steps.

python -m experiments.sparse --config=configs/sparse_tickets.py

Data: made here.  Time: ten minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "sparse"
CLAIM = "sparse-tickets"
REGISTERED = {
  "statement": "The magnitude mask of a network that has generalised on"
  " modular addition, rewound to the start, reaches 95 % test"
  " accuracy in fewer steps than the masks of memorisation and"
  " of random origin, and in at most half of the steps of the"
  " dense network.",
  "paper": "Minegishi et al. 2023, Bridging lottery ticket and"
  " grokking, https://arxiv.org/abs/2310.19470",
  "paper_number": None,
  "kind": "paper",
  "statistic": "log of steps to 95 % test accuracy, ticket less dense; less"
  " other tickets",
  "threshold": "log 0.5",
  "threshold_by": "papers.md",
  "controls": (
    "ticket of memorisation",
    "random mask of the same counts",
    "dense at the norm of the ticket",
  ),
  "seeds": 5,
  "data": "split of the sums drawn by seed",
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
      "title": "Grokking tickets on modular addition",
      "claim": "tickets",
      "study": "tickets",
      "seeds": 2 if tiny else 5,
      "modulus": 7 if tiny else 31,
      "share": 0.6,
      "model": {
        "name": "mlp",
        "hidden": (16,) if tiny else (512,),
        "classes": 7 if tiny else 31,
      },
      "kept": 0.4,
      "later": 1.5,
      "steps": 40 if tiny else 12_000,
      "train": {
        "learning_rate": 3e-3,
        "decay": 1.0,
        "every": 10 if tiny else 50,
      },
      "heading": "Steps to 95 % test accuracy",
      "figure": "steps to 95 %",
    }
  )
