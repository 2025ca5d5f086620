"""Rich and lazy learning: low initial rank of a recurrent matrix is rich.

Liu et al. 2024, "How connectivity structure shapes rich and lazy learning in
neural circuits", https://arxiv.org/abs/2310.08513: recurrent networks whose
weights start at low rank (truncated SVD, the norm kept) learn more richly: they
change more, and kernel and representations align less with the start.  Here
such a network reads digits row by row (as there: ReLU, gain 1.25, the kernel of
the recurrent weights).  The numbers aimed at, rank 4 less full rank over seeds:
change above zero, both alignments below.

Twenty seeds: some of low rank spike early in training, so that of five the
interval of the change held zero.

python -m experiments.landscape --config=configs/rich_lazy.py

Data: scikit-learn's bundled digits.  Time: 6 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "landscape"
CLAIM = "rich-lazy"
REGISTERED = {
  "statement": "At equal Frobenius norm a recurrent matrix of low initial rank"
  " makes learning richer than one of full rank: it changes more, and its"
  " tangent kernel and the hidden representations stay less aligned with those"
  " of the start.",
  "paper": "Liu et al. 2024, How connectivity structure shapes rich and lazy"
  " learning in neural circuits, https://arxiv.org/abs/2310.08513",
  "paper_number": None,
  "kind": "paper",
  "statistic": "rank 4 less full rank: change of the matrix above 0,"
  " alignments of representation and kernel below 0",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("equal Frobenius norm",),
  "seeds": 20,
}
PAPER_SIZE = {
  "ran": "recurrent networks of 300 units on neuroscience tasks and sequential"
  " MNIST",
  "settings": {"data": "mnist", "size": 300},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Rich and lazy learning by initial rank",
      "paper": REGISTERED["paper"],
      "study": "lazy",
      "seed": mode.seed,
      "seeds": 2 if tiny else 20,
      "data": "digits",
      "examples": 200 if tiny else 0,
      "size": 16 if tiny else 100,
      "gain": 1.25,
      "ranks": (2, 16) if tiny else (1, 4, 20, 100),
      "low": 2 if tiny else 4,
      "inputs": 20 if tiny else 60,
      "train": {
        "epochs": 2 if tiny else 20,
        "batch_size": 50,
        "learning_rate": 0.005,
        "weight_decay": 0.0,
      },
    }
  )
