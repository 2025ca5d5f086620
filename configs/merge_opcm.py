"""OPCM: experts that arrive one by one, merged in constant memory.

Tang et al. 2025, "Merging models on the fly without retraining",
https://arxiv.org/abs/2501.09522: a new task vector is stripped of the
directions that the merged one uses before it is added, and the sum is kept at
the length of a task vector (5 to 8 points above the average, task arithmetic
and TIES; robust to the order). What is asked for is registered below.

python -m experiments.merge --config=configs/merge_opcm.py --data_dir=DIR

Before registration: the exact parts hold to 1e-7 and orders differ by 0.4
points [0.3, 0.5]; +3.1 points [+2.7, +3.6] over the average and +1.5 [+0.9,
+2.1] over tuned task arithmetic, but not above TIES (-0.1 [-0.8, +0.6]), tuned
or not.

Data: MNIST and notMNIST in DIR.  Time: not measured yet.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-opcm"
REGISTERED = {
  "statement": "OPCM's state is constant in the number of models, what it adds"
  " is orthogonal to what it has, its length is the mean task vector's, its"
  " accuracy depends on the order by less than a point, and is above what else"
  " can be done as models arrive: the average, task arithmetic and TIES,"
  " untuned.",
  "paper": "Tang et al. 2025, Merging models on the fly without retraining,"
  " https://arxiv.org/abs/2501.09522",
  "paper_number": "5 to 8 points above the continual baselines (CLIP)",
  "kind": "paper",
  "statistic": "mean test accuracy, OPCM less each rival, points; standard"
  " deviation over orders below one point",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "the exact properties, to 1e-5",
    "task arithmetic and TIES of all models at once, tuned, which are not"
    " judged",
  ),
  "seeds": 5,
  "data": "drawn by seed",
}


TIMES = {"scale": 0.3, "tuned": False}
PAPER_SIZE = {
  "ran": "CLIP ViT-B/32, -B/16 and -L/14 on up to 20 tasks; not to be built"
  " here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  config.title = "OPCM: experts merged as they arrive"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "opcm"
  one = {"recipe": "opcm", "scale": 1.0, "tuned": False}
  orders = tuple(range(1, 3 if config.seeds == 2 else 6))
  names = ("average", "task arithmetic", "TIES")
  config.methods = {
    "OPCM": one | {"options": {"alpha": 0.5}},
    "OPCM, other orders": one | {"options": {"alpha": 0.5, "order": orders}},
    **merge_bench.of(names),
    # Added up, task vectors may come in any order.
    "continual task arithmetic": TIMES | {"recipe": "task_arithmetic"},
    "continual TIES": {
      "recipe": "ties",
      "scale": 1.0,
      "tuned": False,
      "options": {"density": 0.2, "continual": True},
    },
  }
  config.probes = ("continual",)
  config.registered = REGISTERED
  return config
