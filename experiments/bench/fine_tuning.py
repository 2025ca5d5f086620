"""A base for each seed, and what it becomes when it is fine-tuned.

The models of all seeds are one population; each sees draws of its own of the
shifts that its domains are made of.

>>> import ml_collections, numpy as np
>>> part = ml_collections.ConfigDict(
...   {"domains": {"clean": {}}, "first": 1, "examples": 2}
... )
>>> digits = {"x": np.zeros((4, 8, 8, 1), np.float32), "y": np.arange(4)}
>>> sets(digits, [jax.random.key(0)], part)["y"].tolist()
[[1, 2]]
"""

import json
from collections.abc import Sequence
from typing import Any

import jax
import optax

import weightspace as ws
from experiments.bench import population
from experiments.run import hosts, progress, runs
from weightspace import losses
from weightspace.data import domains, softening
from weightspace.types import Data, Key, Member, Stack


def sets(split: Data, keys: Sequence[Key], part: Any) -> Data:
  """Return the training data of each seed, [S, N, ...].

  Args:
    split: images and labels.
    keys: one for each seed, of its draws.
    part: has `domains`, and which images: `examples` from `first` on.
  """
  stop = part.first + part.examples
  if not 0 <= part.first < stop <= len(split["y"]):
    raise ValueError(
      f"examples: {part.first} to {stop}, expected a range in 0 to"
      f" {len(split['y'])}"
    )
  kept = {name: array[part.first : stop] for name, array in split.items()}
  return ws.stack(
    [
      domains.mix(jax.random.fold_in(key, part.first), kept, part.domains)
      for key in keys
    ]
  )


def _optimizer(settings: Any) -> Any:
  """Return Adam, or SGD with momentum where a weight decay is given."""
  if "weight_decay" in settings:
    return population.optimizer(settings.learning_rate, settings.weight_decay)
  return optax.adam(settings.learning_rate)


def fit(
  run: runs.Run,
  model: Any,
  name: str,
  stack: Stack,
  data: Data,
  *,
  stage: str,
) -> tuple[Stack, list[Member]]:
  """Train one model a seed; return them, and where each came from.

  Args:
    run: its config has the settings of training, `base` and `fine` (Adam, or
      with a `weight_decay` SGD with momentum), and how the labels of each
      variant are softened.
    model: to be trained.
    name: "base", or a variant of fine-tuning.
    stack: the starts, [S, ...].
    data: [S, N, ...].
    stage: of the run that this is the training of.
  """
  settings = run.config.base if name == "base" else run.config.fine
  soft = dict(run.config.get("variants", {}).get(name, {}))
  seeds = range(ws.trees.size(stack))
  with progress.bar(f"{name}: {len(seeds)} models", settings.epochs) as bar:
    fitted = ws.train.fit_population(
      losses.of(model.apply, losses.cross_entropy),
      stack,
      _optimizer(settings),
      data,
      key=jax.random.fold_in(run.key, 2**20 + (name != "base")),
      epochs=settings.epochs,
      batch_size=settings.batch_size,
      prepare=softening.soften(classes=10, **soft) if soft else None,
      shared_data=False,
      mesh=hosts.fitting(run.mesh, len(seeds)),
      checkpoint=run.training(stage),
      on_epoch=lambda epoch, _: bar(epoch),
    )
  starts, parts = ws.unstack(stack), ws.unstack(data)
  members = [
    Member(
      ws.fingerprint(starts[seed]),
      seed,
      ws.fingerprint(parts[seed]),
      json.dumps({"name": name, **soft}),
    )
    for seed in seeds
  ]
  return fitted.params, members
