"""The multi-task bed: a base for each seed, and its expert for each task.

All bases are one population, and so are all experts of all seeds; every seed
draws examples of its own.  With `head` experts keep their own last layer, which
is never merged; without it all tasks share the base's.

>>> import jax.numpy as jnp
>>> models = {"body": jnp.ones(2), "head": jnp.array([1.0, 2.0])}
>>> sorted(shared(models, "head*"))
['body']
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

import weightspace as ws
from experiments.bench import fine_tuning
from experiments.bench.tasks import check, draw
from experiments.run import runs
from weightspace import losses, trees
from weightspace.merge.per_leaf import by_path
from weightspace.types import Data, Loss, Params, Score, Stack

BASE = "base task"  # what pre-training was on


class Bed(NamedTuple):
  """What every measure needs: models of all seeds, and how to score them."""

  label: str  # which of the config's `beds`
  run: runs.Run  # its config is that of this bed
  model: Any
  loss: Loss
  score: Score  # [N], 1 where the answer is right
  bases: Stack  # [S, ...]
  experts: Stack  # [S, T, ...]

  def seed(self, seed: int, count: int) -> tuple[Params, Stack]:
    """Return a seed's base and its first `count` experts, [count, ...]."""
    pick = functools.partial(jax.tree.map, lambda x: x[seed])
    return pick(self.bases), jax.tree.map(
      lambda x: x[:count], pick(self.experts)
    )


def build(run: runs.Run, label: str) -> Bed:
  """Train, or take from the run folder, the models of one bed.

  Args:
    run: its config has `base`, `fine`, `tasks`, `model` and `beds`, {label:
      what differs from the rest of the config}.
    label: one of `beds`; its stages are named after it.
  """
  run = _resolved(run, label)
  config, seeds = run.config, range(run.config.seeds)
  model, tasks = run.model(), list(config.tasks.values())
  key = jax.random.fold_in(run.key, 2**21)
  keys = [jax.random.fold_in(key, seed) for seed in seeds]

  def begin() -> Any:
    data = ws.stack(
      [
        _draw(run, config.base.task, "train", k, 0, settings=config.base)
        for k in keys
      ]
    )
    starts = ws.stack([model.init(k, data["x"][0, :1]) for k in keys])
    return fine_tuning.fit(run, model, "base", starts, data, stage=stages[0])

  def specialise() -> Any:
    data = ws.stack(
      [
        _draw(run, task, "train", k, 1 + place, settings=config.fine)
        for k in keys
        for place, task in enumerate(tasks)
      ]
    )
    starts = jax.tree.map(lambda x: x.repeat(len(tasks), 0), bases)
    return fine_tuning.fit(run, model, "experts", starts, data, stage=stages[1])

  stages = f"{label}-base", f"{label}-experts"
  bases, _ = run.members(stages[0], begin)
  experts, _ = run.members(stages[1], specialise)
  experts = jax.tree.map(
    lambda x: x.reshape(len(seeds), len(tasks), *x.shape[1:]), experts
  )
  loss = losses.of(model.apply, losses.cross_entropy)
  score = losses.of(model.apply, run.metric())
  return Bed(label, run, model, loss, score, bases, experts)


def _resolved(run: runs.Run, label: str) -> runs.Run:
  """Return the run with the config of one bed, its tasks checked."""
  config = run.config.copy_and_resolve_references()
  config.update(config.beds[label])
  for name, task in config.tasks.items():
    check(name, task)
  return run._replace(config=config)


def _draw(
  run: runs.Run, task: Any, split: str, key: Any, place: int, *, settings: Any
) -> Data:
  own = jax.random.fold_in(key, place)
  return draw(run, task, split, own, settings.examples)


def sets(bed: Bed, seed: int, split: str) -> dict[str, Data]:
  """Return the data of each task and of the base's, by name.

  Args:
    bed: its config says how many: `examples.validation` and `.test`.
    seed: whose draws.
    split: "validation" or "test".
  """
  config = bed.run.config
  key = jax.random.fold_in(bed.run.key, 2**22 + (split == "test"))
  key = jax.random.fold_in(key, seed)
  tasks = {**config.tasks, BASE: config.base.task}
  return {
    name: draw(
      bed.run, task, split, jax.random.fold_in(key, place), config.shown[split]
    )
    for place, (name, task) in enumerate(tasks.items())
  }


def shared(tree: Params, head: str) -> dict[str, Any]:
  """Return the leaves that are merged, by path: all but those of the head."""
  leaves = trees.named(tree)
  if not head:
    return leaves
  return {p: x for p, x in leaves.items() if not by_path.matches(head, p)}


def with_head(body: Mapping[str, Any], owner: Params) -> Params:
  """Return a model: leaves by path, and the others of their owner."""
  return trees.map_named(lambda path, x: body.get(path, x), owner)
