r"""Fine-tuning transfer on turned digits: the gain falls with the barrier.

Lin et al. 2025, "Efficient model development through fine-tuning transfer",
https://arxiv.org/abs/2503.20110: what fine-tuning changed in one version of a
model, added to the next version, saves fine-tuning it again (Llama 3.0 to 3.1:
+46.9 points of IFEval), where the two are linearly connected.  Here the base is
trained on for 1, 4 and 16 epochs on other images, for 16 at four times the
rate, and once more from another start; the task is digits turned by 60 degrees.
The numbers aimed at: a gain above zero on every later version, and a
correlation below zero between gain and error barrier, over versions.

python -m experiments.merge_transfer --config=configs/merge_transfer.py \
  --data_dir=DIR

Measured: +48.5 points [+46.5, +50.5] on later versions, +15.3 [+13.5, +17.2] on
the furthest of them, -1.2 [-3.5, +1.2] on an unrelated base; correlation of
gain and barrier -0.95 [-1.01, -0.90], and without the unrelated base -1.00.

Data: MNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge_transfer"
CLAIM = "merge-transfer"
REGISTERED = {
  "statement": "What fine-tuning changed in one version of a base helps every"
  " later version, and the less so the higher the barrier between the"
  " fine-tuned models.",
  "paper": "Lin et al. 2025, Efficient model development through fine-tuning"
  " transfer, https://arxiv.org/abs/2503.20110",
  "paper_number": None,
  "kind": "paper",
  "statistic": "points gained by each later version; correlation of gain and"
  " barrier over versions (Fisher's z over seeds)",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "a base of another start",
    "fine-tuning the new version itself",
  ),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "Llama 3 models of 8 billion parameters; not to be built here, so that"
  " ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  bench = merge_bench.bed(arg)
  tiny, data = bench.seeds == 2, bench.base.task.data
  config = ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Fine-tuning transferred between versions of a base",
      "paper": REGISTERED["paper"],
      "claim": REGISTERED["statement"],
      "seed": bench.seed,
      "seeds": bench.seeds,
      "model": bench.model.to_dict(),
      "base": bench.base.to_dict() | {"task": {"data": data}},
      "fine": bench.fine.to_dict() | {"learning_rate": 3e-4},
      "task": {"data": data, "rotate": 60},
      "versions": {
        "1 epoch on": {"epochs": 1, "fresh": False},
        "4 epochs on": {"epochs": 4, "fresh": False},
        "16 epochs on": {"epochs": 2 if tiny else 16, "fresh": False},
        "at a higher rate": {
          "epochs": 2 if tiny else 16,
          "learning_rate": 4e-3,
          "fresh": False,
        },
        "unrelated": {"fresh": True},
      },
      "shown": {"test": bench.shown.test},
    }
  )
  if not tiny:
    config.base.examples = 10_000
  return config
