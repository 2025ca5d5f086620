"""Git Re-Basin on language models: matched transformers, and a control.

Ainsworth et al. 2023, "Git Re-Basin", https://arxiv.org/abs/2209.04836, match
MLPs and convolutional networks; Verma and Elbayad 2024, "Merging text
transformer models from different initializations",
https://arxiv.org/abs/2403.00986, find smaller barriers after matching BERTs by
their activations.
Here character models with rotary positions, grouped queries and gated MLPs,
whose symmetries are found in the jaxpr.  The number aimed at: the train barrier
falls by matching activations, paired over seeds, and not by a random
permutation.  (Weight matching, which was tried first, finds higher products of
the weights than activations do, and leaves all of the barrier.)

python -m experiments.rebasin --config=configs/rebasin_lm.py --data_dir=DIR

Larger, for a GPU or TPU: --config.examples=13000 --config.members.epochs=20
--config.cases.lm.width=384 --config.cases.lm.layers=6

Data: tinyshakespeare in DIR.  Time: 12 minutes on two CPU cores.
"""

import pathlib
from typing import Any

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "rebasin-lm"
REGISTERED = {
  "statement": "Matching by activations lowers the barrier between language"
  " models trained apart; a random permutation does not.",
  "paper": "Verma and Elbayad 2024, Merging text transformer models from"
  " different initializations, https://arxiv.org/abs/2403.00986",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "training barrier, naive less matched by activations, above 0;"
  " naive less random within a tenth of the naive barrier, nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "a random permutation, which must do nothing (two one-sided tests)",
    "weights",
  ),
  "seeds": 10,
}
EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
FROZEN = EXPERIMENTS / "bench" / "frozen_library.txt"
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "BERT-base from several starts; here a larger language model",
  "settings": {
    "examples": 13000,
    "members.epochs": 20,
    "cases.lm.width": 384,
    "cases.lm.layers": 6,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on the library's code in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Git Re-Basin on language models", "paper": PAPER})
  config.judge = "control"
  config.claim = REGISTERED["statement"]
  lm = {"name": "lm", "heads": 4, "kv_heads": 2, "tied": False}
  lm |= {"vocab": 128, "layers": 1, "width": 16}
  if not tiny:
    lm |= {"vocab": 65, "layers": 2, "width": 64}
  config.data = "source" if tiny else "text"
  config.examples = 200 if tiny else 2_000
  config.model = config.cases = None
  config.model, config.cases = lm, {"lm": lm}
  config.members.epochs = 1 if tiny else 5
  config.members.adam = 0.01
  config.seeds = 2 if tiny else 10
  config.methods = ("naive", "random", "weights", "activations")
  config.merges = ("mean",)
  config.examples_of = 50 if tiny else 500
  config.points = 3 if tiny else 11
  config.registered = REGISTERED
  return config


def data(config: Any, data_dir: str | None) -> Any:
  """Return windows of text, or in `mode=tiny` of frozen code of our own."""
  import numpy as np

  import weightspace as ws

  if config.data != "source":
    return ws.data.load(config.data, data_dir)
  tokens = np.minimum([ord(c) for c in FROZEN.read_text()], 127).astype(
    np.int32
  )
  cuts = [len(tokens) * 8 // 10, len(tokens) * 9 // 10]
  parts = []
  for part in np.split(tokens, cuts):
    count = (len(part) - 1) // 32
    x, y = part[: count * 32], part[1 : count * 32 + 1]
    parts.append({"x": x.reshape(count, 32), "y": y.reshape(count, 32)})
  return ws.data.Splits(*parts)
