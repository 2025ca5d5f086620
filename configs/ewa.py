"""Experts weights averaging: a mixture in training, one layer in the end.

"Experts weights averaging: a new general training scheme for vision
transformers", 2023, https://arxiv.org/abs/2308.06093: feed-forward layers are
trained as experts on random parts of the tokens, pulled together at every step,
and averaged into one layer at the end. Here a transformer of two blocks on
digits. The schedule of the pull, the number of experts and how they begin could
not be checked: it rises linearly, there are four, copies of one layer. What is
asked for is registered below. Both were chosen at seed 77: experts that are
drawn apart (`--config.apart=True`) lose twice as much, since each sees a
quarter of the tokens and what it learned before the pull is strong is averaged
away, and in 400 steps the dense model too is still learning.

python -m experiments.adapt --config=configs/ewa.py --data_dir=DIR

Data: MNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "adapt"
CLAIM = "ewa"
REGISTERED = {
  "statement": "Experts that share weights while training, averaged into one"
  " layer, are as accurate as a dense model, within half a point.",
  "paper": "Experts weights averaging, 2023, https://arxiv.org/abs/2308.06093",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy, averaged experts less dense, points: above -0.5",
  "threshold": -0.5,
  "threshold_by": "ours",
  "controls": ("a dense model of the same training",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "vision transformers on CIFAR-100 and ImageNet; not to be built here,"
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
      "title": "Experts averaged into one layer",
      "paper": REGISTERED["paper"],
      "claim": "ewa",
      "study": "experts",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "examples": 200 if tiny else 5_000,
      "test": 100 if tiny else 4_000,
      "shape": (4, 8, 1) if tiny else (7, 32, 2),
      "experts": 4,
      "apart": False,
      "share": 0.1,
      "rate": 3e-3,
      "fine": {"epochs": 2 if tiny else 16, "batch_size": 50 if tiny else 100},
      "heading": "Accuracy of the merged model",
    }
  )
