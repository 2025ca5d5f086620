"""Weight aligning on split MNIST: new classes' rows as long as the old ones'.

Zhao et al. 2020, "Maintaining discrimination and fairness in class incremental
learning", https://arxiv.org/abs/1911.07053: a classifier that learns new
classes with a small memory of the old has longer weights for the new, and is
biased to them; scaling them by the ratio of mean norms mends it without data.
A base knows the digits 0 to 4 and learns 5 to 9 with 100 images of the old
ones, by SGD with weight decay as in the paper (Adam, whose steps are as long
for every class, leaves no longer rows, and aligning then costs a point); there
is no distillation, which the paper adds.  The numbers aimed at: equal mean
norms afterwards, biases and old rows untouched, and more right on old classes
and on all.

python -m experiments.merge --config=configs/merge_aligning.py --data_dir=DIR

Measured: +10.0 points [+8.6, +11.4] on old classes, +5.2 [+4.6, +5.9] on all,
-0.2 on new ones.

Data: MNIST in DIR.  Time: 3 minutes on two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-aligning"
REGISTERED = {
  "statement": "Aligning new classes leaves their mean norm equal to the old"
  " ones', moves nothing else, and raises accuracy on old classes and on all,"
  " after training by SGD and without distillation.",
  "paper": "Zhao et al. 2020, Maintaining discrimination and fairness in class"
  " incremental learning, https://arxiv.org/abs/1911.07053",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "accuracy on old classes and on all, aligned less before, in"
  " points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("norms equal to 1e-6, nothing else moved",),
  "seeds": 10,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "ResNet-32 on CIFAR-100, ResNet-18 on ImageNet, in steps of classes;"
  " not to be built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.bed(arg)
  tiny = config.seeds == 2
  data, old, new = config.base.task.data, (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
  config.title = "Weight aligning: five new digits after five old ones"
  config.paper = REGISTERED["paper"]
  config.claim = REGISTERED["statement"]
  config.judge = "aligning"
  config.base.task = {"data": data, "classes": old}
  memory = {"classes": old, "examples": 20 if tiny else 100}
  config.tasks = {
    "five new digits": {"data": data, "classes": new, "memory": memory}
  }
  config.counts = (1,)
  config.methods = {}
  for part in (config.base, config.fine):
    part.learning_rate, part.weight_decay = 0.05, 2e-4
  config.probes = ("aligned",)
  config.classifier = "Dense_2/kernel"
  if not tiny:
    config.seeds = 10
    config.base.examples = 10_000
    config.fine.update({"examples": 5000, "epochs": 10})
  config.registered = REGISTERED
  return config
