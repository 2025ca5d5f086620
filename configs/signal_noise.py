"""Signal and noise: scores averaged over the last checkpoints.

Heineman et al. 2025, "Signal and noise", https://arxiv.org/abs/2508.13144: a
benchmark decides between models well where their scores lie further apart than
one model's score moves from checkpoint to checkpoint, and averaging the scores
of the last checkpoints lowers that noise. Here recipes are eight learning
rates, the benchmark is 500 test images, and the truth is what other seeds score
on the others. What is asked for is registered below.

python -m experiments.average --config=configs/signal_noise.py --data_dir=DIR

Data: MNIST in DIR.  Time: not measured yet.
"""

import ml_collections

from configs import common

EXPERIMENT = "average"
CLAIM = "signal-noise"
REGISTERED = {
  "statement": "Scores averaged over checkpoints change less when a recipe is"
  " run again, and rank recipes more often as other runs do on a large test.",
  "paper": "Heineman et al. 2025, Signal and noise: a framework for reducing"
  " uncertainty in language model evaluation,"
  " https://arxiv.org/abs/2508.13144",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "decision accuracy, averaged less last checkpoint, points;"
  " relative distance from the other seeds' mean score, averaged less last"
  " checkpoint, %",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "the last checkpoint's score, by the same measure of noise",
    "a truth that shares neither checkpoints nor images",
  ),
  "seeds": 10,
}
PAPER_SIZE = {
  "ran": "language models of up to 32 billion parameters and their checkpoints;"
  " not to be built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Signal and noise of a small benchmark",
      "paper": REGISTERED["paper"],
      "claim": "signal_noise",
      "study": "signal_noise",
      "seed": mode.seed,
      "seeds": 2 if tiny else 10,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (64,)},
      "examples": 200 if tiny else 5_000,
      "test": 100 if tiny else 10_000,
      "rates": (0.01, 0.15),
      "recipes": 3 if tiny else 8,
      "small": 50 if tiny else 500,
      "last": 2 if tiny else 10,
      "fine": {"epochs": 3 if tiny else 16, "batch_size": 50 if tiny else 100},
      "heading": "Pairs of recipes ranked as by the large test",
    }
  )
