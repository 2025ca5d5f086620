"""Attention heads: matching a ViT with its heads, and without.

Ainsworth et al. 2023, https://arxiv.org/abs/2209.04836, leave attention to the
future; Verma and Elbayad 2024, "Merging text transformer models from different
initializations", https://arxiv.org/abs/2403.00986, permute heads and what they
hold by activations (BERT there).  Here small ViTs on MNIST, whose heads,
queries with keys and values with outputs are found in the jaxpr.  The number
aimed at: the train barrier left by activations with heads in place less that
with heads matched, above zero, paired over seeds.  (Two settings before this
one matched ViTs of width 32 on digits by their weights: undecided.)

python -m experiments.rebasin --config=configs/rebasin_vit.py --data_dir=DIR

Data: MNIST in DIR.  Time: not measured yet, about half an hour on two CPU
cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "rebasin-vit"
REGISTERED = {
  "statement": "Matching the attention heads of two ViTs by activations, with"
  " their inner units, leaves a smaller barrier than matching all but the"
  " heads.",
  "paper": "Verma and Elbayad 2024, Merging text transformer models from"
  " different initializations, https://arxiv.org/abs/2403.00986",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "training barrier after matching by activations, without heads"
  " less with, nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "naive mean",
    "a random permutation",
    "both by weights",
  ),
  "seeds": 10,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "BERT-base from several starts",
  "settings": {
    "cases.vit.width": 256,
    "cases.vit.layers": 6,
    "examples": 0,
    "members.epochs": 50,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Heads of a ViT", "paper": PAPER})
  config.judge, config.examples = "heads", 200 if tiny else 10_000
  config.claim = REGISTERED["statement"]
  vit = {"name": "vit", "patch": 2, "width": 8, "layers": 1, "heads": 2}
  if not tiny:
    vit |= {"patch": 7, "width": 64, "layers": 2, "heads": 4}
  config.cases = {"vit": vit}
  config.seeds = 2 if tiny else 10
  config.members.epochs = 1 if tiny else 10
  config.members.adam = 0.003 if tiny else 0.001
  config.methods = (
    *("naive", "random", "without heads", "weights"),
    *("activations, without heads", "activations"),
  )
  config.merges = ("mean",)
  config.registered = REGISTERED
  return config
