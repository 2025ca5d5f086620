"""Why weight matching works: directions align, distances hardly change.

Ito et al. 2024, "Analysis of linear mode connectivity via permutation-based
weight matching", https://arxiv.org/abs/2402.04051: permutations bring two
models little nearer, but align their leading singular directions, and that
takes the barrier away.  The numbers aimed at: the distance falls by less than a
quarter, the overlap of the leading directions rises, and less than half of the
barrier is left.

python -m experiments.rebasin --config=configs/lmc_singular.py --data_dir=DIR

Data: MNIST in DIR.  Time: 15 minutes on two CPU cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "lmc-singular"
REGISTERED = {
  "statement": "Weight matching lowers the distance of two models by less than"
  " a quarter, aligns their leading singular directions, and takes most of the"
  " barrier.",
  "paper": "Ito et al. 2024, Analysis of linear mode connectivity via"
  " permutation-based weight matching, https://arxiv.org/abs/2402.04051",
  "paper_number": None,
  "kind": "paper",
  "statistic": "share by which the distance falls below 0.25; overlap of"
  " leading directions above 0; share of the barrier left below 0.5",
  "threshold": 0.5,
  "threshold_by": "papers.md",
  "controls": ("naive mean",),
  "seeds": 5,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "MLPs on MNIST, VGG-11 and ResNet-20 on CIFAR-10",
  "settings": {"examples": 0, "members.epochs": 100},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "Why matching works", "paper": PAPER})
  config.judge, config.singular = "singular", True
  config.examples = 200 if tiny else 10_000
  config.claim = REGISTERED["statement"]
  config.cases.mlp.hidden = (12,) if tiny else (256, 256)
  config.methods = ("naive", "random", "weights")
  config.merges = ("mean",)
  config.registered = REGISTERED
  return config
