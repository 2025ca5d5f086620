"""Averages over time and over replicas.

Over time: folds along one training run, and what can be made of its
checkpoints.  Over replicas: models that train apart and mix now and then, by a
matrix for each round.

>>> import weightspace as ws
>>> mean = ws.average.running_mean()
>>> ws.average.run(mean, [{"w": 1.0}, {"w": 3.0}])["w"].item()
2.0
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.average.in_time.adaptation import (
  Adapter,
  Adapting,
  cotta,
  stochastic_restore,
  tent,
)
from weightspace.average.in_time.decays import power, warmup
from weightspace.average.in_time.difficulty import el2n
from weightspace.average.in_time.evaluation import (
  average_scores,
  decision_accuracy,
  noise,
  signal,
)
from weightspace.average.in_time.experts import (
  deal,
  merge_experts,
  pull,
  sharing_experts,
)
from weightspace.average.in_time.policies import divergence, regularised, tilt
from weightspace.average.in_time.runs import (
  average_runs,
  optimizer_state,
  weight_ensemble,
)
from weightspace.average.in_time.schedules import (
  Schedule,
  everyone,
  participation,
  stragglers,
)
from weightspace.average.in_time.sparse_soups import phases
from weightspace.average.in_time.streams import every, run, then, together
from weightspace.average.in_time.traces import ema, running_mean
from weightspace.average.in_time.weights import (
  ema_weights,
  metric_weights,
  profile,
  spaced,
  synthesise,
)
from weightspace.average.in_time.windows import window
from weightspace.average.workers.matrices import (
  complete,
  consensus,
  groups,
  ring,
  sharing,
  spectral_gap,
)
from weightspace.average.workers.mixing import mix
from weightspace.average.workers.peers import alone, gossip, noloco
from weightspace.average.workers.replicas import Replicated, replicate
from weightspace.average.workers.servers import Method, diloco, fedau, fedavg
from weightspace.average.workers.traffic import collectives, volume
from weightspace.search.searches import evolve
from weightspace.sparse import (
  frozen_zeros,
  magnitude_mask,
  masked_mean,
  prune,
  sparsity,
)

__all__ = [
  "Adapter",
  "Adapting",
  "Method",
  "Replicated",
  "Schedule",
  "alone",
  "average_runs",
  "average_scores",
  "collectives",
  "complete",
  "consensus",
  "cotta",
  "deal",
  "decision_accuracy",
  "diloco",
  "divergence",
  "el2n",
  "ema",
  "ema_weights",
  "every",
  "everyone",
  "evolve",
  "fedau",
  "fedavg",
  "frozen_zeros",
  "gossip",
  "groups",
  "magnitude_mask",
  "masked_mean",
  "merge_experts",
  "metric_weights",
  "mix",
  "noise",
  "noloco",
  "optimizer_state",
  "participation",
  "phases",
  "power",
  "profile",
  "prune",
  "pull",
  "regularised",
  "replicate",
  "ring",
  "run",
  "running_mean",
  "sharing",
  "sharing_experts",
  "signal",
  "spaced",
  "sparsity",
  "spectral_gap",
  "stochastic_restore",
  "stragglers",
  "synthesise",
  "tent",
  "then",
  "tilt",
  "together",
  "volume",
  "warmup",
  "weight_ensemble",
  "window",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
