"""PCB-Merging on split digits: entries compete, inside and between tasks.

Du et al. 2024, "Parameter competition balancing for model merging",
https://arxiv.org/abs/2410.02396: entries of task vectors are weighed by their
own size and by how they agree with the other tasks' (over TIES by 4.3 points on
seven language tasks, without validation).  Here two experts share nothing but
the base: one for the digits 0 to 4, one for 5 to 9, each with its own head.
The numbers aimed at: PCB minus TIES above zero without validation data, and not
below it by a point with tuned coefficients.

python -m experiments.merge --config=configs/merge_pcb.py --data_dir=DIR

Measured: +1.2 points [+0.7, +1.6] over TIES untuned, and no difference tuned
(+0.0 [-0.3, +0.4]): both are two points above task arithmetic.

Data: MNIST and notMNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-pcb"
REGISTERED = {
  "statement": "Merging two experts of split digits, PCB is above TIES without"
  " validation data, and less than a point below it with tuned"
  " coefficients.",
  "paper": "Du et al. 2024, Parameter competition balancing for model merging,"
  " https://arxiv.org/abs/2410.02396",
  "paper_number": "4.3 points over TIES without validation (T5, seven tasks)",
  "kind": "part of the paper",
  "statistic": "mean test accuracy, PCB less TIES: untuned above 0, tuned"
  " above -1 point",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("task arithmetic",),
  "seeds": 10,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "T5-base on seven language tasks; not to be built here, so that ours"
  " is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  data = config.base.task.data
  config.title = "PCB-Merging and TIES on split digits"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "pcb"
  config.head = "Dense_2/*"
  config.base.task = {"data": "digits" if data == "digits" else "notmnist"}
  config.base.examples = min(config.base.examples, 6000)
  config.tasks = {
    "0 to 4": {"data": data, "classes": (0, 1, 2, 3, 4), "relabel": True},
    "5 to 9": {"data": data, "classes": (5, 6, 7, 8, 9), "relabel": True},
  }
  config.counts = (2,)
  config.seeds = 2 if data == "digits" else 10
  names = ("average", "task arithmetic", "TIES", "PCB")
  config.methods = merge_bench.of(names)
  config.registered = REGISTERED
  return config
