"""What matters at scale: width, strength of the base, number of experts.

Yadav et al. 2024, "What matters for model merging at scale?",
https://arxiv.org/abs/2410.03617: with larger models and with stronger bases,
merged models come closer to their experts, more experts can be merged, and it
matters less by which method (average, task arithmetic, DARE-TIES, TIES, on
1B to 64B parameters).  In small: a network of one layer of 32 hidden units, one
of 512, and one of 512 whose base saw a tenth of the images.  Learning rate
times width is the same for all experts: at one rate narrow ones hardly leave
their base (61 % against 82 % for 64 and 1024 units, in other seeds) and there
is little to lose.  The numbers aimed at: the gap of normalised accuracy shrinks
with the width and with the strength of the base, and so does the spread of
methods with the width.

python -m experiments.merge --config=configs/merge_scale.py --data_dir=DIR

Data: MNIST and notMNIST in DIR.  Time: 17 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-scale"
REGISTERED = {
  "statement": "The gap of merged models to their experts shrinks with the"
  " width and with the strength of the base, and the spread of methods with"
  " the width.",
  "paper": "Yadav et al. 2024, What matters for model merging at scale?,"
  " https://arxiv.org/abs/2410.03617",
  "paper_number": None,
  "kind": "paper",
  "statistic": "gap of normalised accuracy to the experts: narrow less wide,"
  " weak base less strong; spread of methods, narrow less wide",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("two experts beside eight",),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "PaLM-2 of 1 to 64 billion parameters, up to eight experts; not to be"
  " built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  tiny = config.seeds == 2
  widths = (8, 32) if tiny else (32, 512)
  config.title = "Merging by width, strength of the base and number of experts"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "scale"
  few = config.base.examples // 10
  rate = config.fine.learning_rate
  batch = min(few, config.base.batch_size)
  config.beds = {
    "narrow": {
      "model": {"hidden": (widths[0],)},
      "fine": {"learning_rate": rate * widths[1] / widths[0]},
    },
    "wide, weak base": {
      "model": {"hidden": (widths[1],)},
      "base": {"examples": few, "batch_size": batch},
    },
    "wide": {"model": {"hidden": (widths[1],)}},
  }
  config.model.hidden = (widths[0],)
  names = ("average", "task arithmetic", "TIES", "DARE-TIES")
  config.methods = merge_bench.of(names)
  config.counts = (2, 3) if tiny else (2, 8)
  config.update({"budget": 3 if tiny else 10})
  if not tiny:
    config.shown.update({"validation": 500, "test": 1000})
  config.registered = REGISTERED
  return config
