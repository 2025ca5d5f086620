"""Fine-tuning with adapters: one base, one new task, several parametrizations.

A base is trained on one task for each seed and tuned on another; a method says
which kernels are computed from what.  Rates are chosen on validation data.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import tasks
from experiments.parametrize import training
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import losses
from weightspace import parametrize as p
from weightspace.types import Data, Params, Stack


class Bed(NamedTuple):
  """A base for each seed, and how its outputs are scored."""

  model: Any
  bases: Stack  # [S, ...]
  loss: Any  # of params and data
  score: Any


def transfer(run: runs.Run) -> Lines:
  """Yield losses and accuracy of each method, for each number of examples."""
  config, bed = run.config, bed_of(run)
  for count in config.examples:
    parts = new_task(run, config.task, count)
    for name, settings in config.methods.items():
      label = name if len(config.examples) == 1 else f"{name}, {count} examples"
      starts = starts_of(run, bed, settings, parts["train"])
      found = tuned(run, label, bed, starts, parts, settings)
      yield from measured(label, bed, found, parts["test"])


def table(run: runs.Run) -> Lines:
  """Yield, for each method, the mean over tasks and the accuracy merged.

  Each task has an expert of each seed; TIES merges their values.
  """
  config, bed = run.config, bed_of(run)
  count = config.examples[0]
  parts = {
    name: new_task(run, task, count) for name, task in config.tasks.items()
  }
  ties = ws.merge.ties(0.2, config.scale)
  for name, settings in config.methods.items():
    experts, alone, seconds = [], [], 0.0
    for task, data in parts.items():
      starts = starts_of(run, bed, settings, data["train"])
      found = tuned(run, f"{name}, {task}", bed, starts, data, settings)
      values = jax.vmap(p.value)(found.trees)
      experts.append(values)
      alone.append(training.mean_scores(bed.score, values, data["test"]))
      seconds += found.seconds
    merged = training.each(
      functools.partial(_merged, ties, experts, bed.bases), config.seeds
    )
    joint = [
      training.mean_scores(bed.score, merged, data["test"])
      for data in parts.values()
    ]
    for seed in range(config.seeds):
      yield {
        "seed": seed,
        "method": name,
        "accuracy of experts (%)": 100 * float(np.mean(alone, 0)[seed]),
        "accuracy merged (%)": 100 * float(np.mean(joint, 0)[seed]),
        "trained numbers": float(_trained(found.trees)),
        "CPU seconds": seconds / len(parts),
      }


def _merged(ties: Any, experts: Any, bases: Stack, seed: int) -> Params:
  models = [ws.unstack(stack)[seed] for stack in experts]
  return ties(ws.stack(models), base=ws.unstack(bases)[seed])


def bed_of(run: runs.Run) -> Bed:
  """Train a base for each seed on its own draw of the first task."""
  model, part = run.model(), run.config.base

  def begin() -> Any:
    keys = [jax.random.fold_in(run.key, n) for n in range(run.config.seeds)]
    data = ws.stack(
      [tasks.draw(run, part.task, "train", k, part.examples) for k in keys]
    )
    stack = ws.stack([model.init(k, data["x"][0, :1]) for k in keys])
    tx = optax.adam(part.learning_rate)
    return training.fit(run, "base", loss, stack, data, part, tx).params

  loss = losses.of(model.apply, losses.cross_entropy)
  score = losses.of(model.apply, losses.accuracy)
  bases = jax.tree.map(jnp.asarray, run.once("base", begin))
  return Bed(model, bases, loss, score)


def new_task(run: runs.Run, task: Any, count: int) -> dict[str, Data]:
  """Return the splits of a task, drawn for each seed, [S, N, ...]."""
  sizes = {"train": count, **run.config.shown}
  keys = [jax.random.fold_in(run.key, 500 + n) for n in range(run.config.seeds)]
  return {
    split: ws.stack([tasks.draw(run, task, split, k, size) for k in keys])
    for split, size in sizes.items()
  }


def starts_of(run: runs.Run, bed: Bed, settings: Any, train: Data) -> Stack:
  """Return the tree that each seed's fine-tuning begins from."""
  config, trees = run.config, []
  for seed, base in enumerate(ws.unstack(bed.bases)):
    if config.fresh:  # the new task has labels of its own
      base = ws.trees.map_named(
        lambda path, x: x * (not path.startswith(config.fresh)), base
      )
    key = jax.random.fold_in(run.key, 900 + seed)
    if settings.kind == "eva":
      tree = _eva(bed, base, train["x"][seed], config.adapted, settings)
    elif settings.kind == "full":
      tree = base
    else:
      tree = p.attach(base, config.adapted, maker(settings), key)
    if settings.kind != "full":
      still = [
        path
        for path in ws.trees.names(base)
        if not path.startswith(config.fresh or "-")
        and path not in p.changes(tree)
      ]
      tree = p.attach(tree, still, p.freeze) if still else tree
    if settings.get("shared", False):
      tree = {"tree": tree, "rules": p.rules(key, settings.n)}
    trees.append(tree)
  return ws.stack(trees)


def maker(settings: Any) -> Any:
  """Return what makes the change that settings describe."""
  kind, rank = settings.kind, settings.get("rank", 1)
  if kind == "kronecker":
    return p.kronecker(settings.n, rank, shared=settings.get("shared", False))
  simple = {"bone": p.bone, "miss": p.miss}
  if kind in simple:
    return simple[kind](rank)
  scaled = {"lora": p.lora, "dora": p.dora, "svd": p.svd_lora}
  return scaled[kind](rank, settings.scale * rank)


def _eva(bed: Bed, base: Params, x: Any, adapted: Any, settings: Any) -> Params:
  """Return a base with EVA's adapters, filled up to one shape with zeros.

  A triplet whose a and b are zero has no gradient, so it stays zero.
  """
  paths = p.changes(p.attach(base, adapted, p.miss(1)))
  gram = ws.statistics.gram(bed.model.apply, base, x, only=list(paths))
  mean: Any = ws.statistics.moments(bed.model.apply, base, x)
  mean = mean if settings.get("center", True) else None
  rank, most = settings.rank, round(settings.rho * settings.rank)
  found = p.eva(gram, mean, rank, settings.rho, params=base)
  named, changes = ws.trees.named(base), {}
  for path in paths:
    rows, columns = named[path].shape
    a, b = jnp.zeros((rows, most)), jnp.zeros((most, columns))
    if path in found:
      a = a.at[:, : found[path].a.shape[1]].set(found[path].a)
    changes[path] = p.Adapter(a, b, settings.scale)
  return p.with_changes(base, changes)


def tuned(
  run: runs.Run,
  name: str,
  bed: Bed,
  starts: Stack,
  parts: Mapping[str, Data],
  settings: Any,
) -> training.Trained:
  """Return the population at its best rate."""
  return training.at_best_rate(
    run,
    name,
    _of_tree(bed.loss),
    starts,
    parts["train"],
    parts["validation"],
    rates=settings.rates,
  )


def measured(name: str, bed: Bed, found: training.Trained, test: Data) -> Lines:
  """Yield one line a seed."""
  right = training.mean_scores(_of_tree(bed.score), found.trees, test)
  quarter = max(0, len(found.losses) // 4 - 1)
  for seed, value in enumerate(right):
    yield {
      "seed": seed,
      "method": name,
      "accuracy (%)": 100 * float(value),
      "loss at a quarter": float(found.losses[quarter, seed]),
      "loss at the end": float(found.losses[-1, seed]),
      "trained numbers": float(_trained(found.trees)),
      "rate": float(found.rate),
    }


def _of_tree(function: Any) -> Any:
  """Return `function(params, data)` of trees, whose rules may be shared."""

  def of(tree: Params, data: Data) -> jax.Array:
    if set(tree) == {"tree", "rules"}:
      tree = p.share(tree["tree"], tree["rules"])
    return function(p.value(tree), data)

  return of


def _trained(stack: Stack) -> int:
  """Return how many numbers are trained, without EVA's filling of zeros."""
  tree = jax.tree.map(lambda x: x[0], stack)
  nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, p.Adapter))
  filling = [
    int((~x.a.any(0)).sum()) * (x.a.shape[0] + x.b.shape[1])
    for x in nodes
    if isinstance(x, p.Adapter)
  ]
  return p.count(tree) - sum(filling)
