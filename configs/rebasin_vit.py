"""Attention heads: matching a ViT with its heads, and without.

Ainsworth et al. 2023, https://arxiv.org/abs/2209.04836, leave attention to the
future; Verma and Elbayad 2024, "Merging text transformer models from different
initializations", https://arxiv.org/abs/2403.00986, permute heads and what they
hold (BERT there).  Here small ViTs on digits, whose heads, queries with keys
and values with outputs are found in the jaxpr.  The number aimed at: the train
barrier left with heads in place less that with heads matched, above zero,
paired over seeds.  (Trained by SGD the ViTs were 84 % right, and five seeds too
few to tell; the second setting, by Adam and over 20 seeds, is this one.)

python -m experiments.rebasin --config=configs/rebasin_vit.py --data_dir=DIR

Data: scikit-learn's bundled digits.  Time: three minutes on two CPU cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "rebasin-vit"
REGISTERED = {
  "statement": "Matching the attention heads of two ViTs, with their inner"
  " units, leaves a smaller barrier than matching all but the heads.",
  "paper": "Verma and Elbayad 2024, Merging text transformer models from"
  " different initializations, https://arxiv.org/abs/2403.00986",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "training barrier, without heads less with, nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("naive mean",),
  "seeds": 20,
}
PAPER = REGISTERED["paper"]


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Heads of a ViT", "paper": PAPER, "data": "digits"})
  config.judge, config.examples = "heads", 200 if tiny else 0
  config.claim = REGISTERED["statement"]
  vit = {"name": "vit", "patch": 2, "heads": 2}
  vit |= {"width": 8, "layers": 1} if tiny else {"width": 32, "layers": 2}
  config.cases = {"vit": vit}
  config.seeds = 2 if tiny else 20
  config.members.epochs = 1 if tiny else 20
  config.members.adam = 0.003
  config.methods = ("naive", "random", "without heads", "weights")
  config.merges = ("mean",)
  config.registered = REGISTERED
  return config
