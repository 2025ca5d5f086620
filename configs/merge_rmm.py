"""Reversible merging of adapters: a few basis vectors bring every model back.

"Reversible model merging for low-rank weights", 2025,
https://arxiv.org/abs/2510.14163: one merged model of low-rank adapters loses
most of what they knew; p basis vectors for each position, with coefficients for
each model, keep it.  Here the task vectors of eight experts are cut to adapters
of rank 16.  The numbers aimed at: the squared error is that of the discarded
singular values, nothing is lost when p is the number of models, and with half
as many basis vectors more is gained over one averaged model than is lost
against the adapters.

python -m experiments.merge --config=configs/merge_rmm.py --data_dir=DIR

Measured: the identity holds to 1e-7; with four of eight basis vectors (76 % of
the numbers) accuracy is 25.4 points [+24.4, +26.5] above one averaged model and
3.4 [+3.0, +3.7] below the adapters.

Data: MNIST and notMNIST in DIR.  Time: 10 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-rmm"
REGISTERED = {
  "statement": "The squared error of p basis vectors is that of the discarded"
  " singular values, zero with one for each model; with half as many, adapters"
  " keep more over one averaged model than they lose.",
  "paper": "Reversible model merging for low-rank weights, 2025,"
  " https://arxiv.org/abs/2510.14163",
  "paper_number": None,
  "kind": "identity",
  "statistic": "squared error of p basis vectors less that of the discarded"
  " singular values, over all",
  "threshold": 1e-05,
  "threshold_by": "papers.md",
  "controls": (
    "one averaged model",
    "the adapters themselves",
  ),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "language models with low-rank adapters; not to be built here, so that"
  " ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  config.title = "Reversible merging of eight adapters"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "rmm"
  config.methods = merge_bench.of(("average", "task arithmetic"))
  config.probes = ("reversible",)
  config.registered = REGISTERED
  return config
