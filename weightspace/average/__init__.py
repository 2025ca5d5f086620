"""Averages over time and over replicas.

Over time: folds along one training run, and what can be made of its
checkpoints.  Over replicas: models that train apart and mix now and then, by a
matrix for each round.

>>> import weightspace as ws
>>> mean = ws.average.running_mean()
>>> ws.average.run(mean, [{"w": 1.0}, {"w": 3.0}])["w"].item()
2.0
"""

from weightspace.average.evaluation import (
  average_scores,
  decision_accuracy,
  noise,
  signal,
)
from weightspace.average.runs import (
  average_runs,
  optimizer_state,
  weight_ensemble,
)
from weightspace.average.streams import every, run, then, together
from weightspace.average.traces import (
  ema,
  power,
  running_mean,
  warmup,
  window,
)
from weightspace.average.weights import (
  ema_weights,
  metric_weights,
  profile,
  spaced,
  synthesise,
)

__all__ = [
  "average_runs",
  "average_scores",
  "decision_accuracy",
  "ema",
  "ema_weights",
  "every",
  "metric_weights",
  "noise",
  "optimizer_state",
  "power",
  "profile",
  "run",
  "running_mean",
  "signal",
  "spaced",
  "synthesise",
  "then",
  "together",
  "warmup",
  "weight_ensemble",
  "window",
]
