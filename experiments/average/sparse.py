"""Studies of what several copies of one network tell: sparse soups, barriers.

>>> sorted(STUDIES)
['data_diet', 'sparse_soups']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import images, text
from experiments.run import runs
from weightspace import average, losses
from weightspace.types import Data, Stack


def sparse_soups(run: runs.Run) -> text.Lines:
  """Prune in phases; retrain one copy (IMP), or several and average them."""
  splits, model, loss, score = images.problem(run)
  config, seeds = run.config, run.config.seeds
  start = text.starts(model, splits.train["x"], run.key, seeds)
  dense = text.trajectory(
    run,
    loss,
    start,
    images.sgd(0.1),
    splits.train,
    key=run.key,
    part=config.base,
  )[0][-1]
  tx = _retraining(config, len(splits.train["y"]))
  soup = alone = dense
  densities = average.phases(config.sparsity, config.phases)
  for phase, density in enumerate(densities):

    def pruned(stack: Stack, density: float = density) -> tuple[Stack, Stack]:
      masks = jax.vmap(lambda p: average.magnitude_mask(p, density))(stack)
      return average.prune(stack, masks), masks

    (cut, masks), (single, _) = pruned(soup), pruned(alone)
    both = jax.tree.map(
      lambda a, b: jnp.concatenate([jnp.repeat(a, config.copies, 0), b]),
      cut,
      single,
    )
    key = jax.random.fold_in(run.key, phase + 1)
    (*_, tuned), _ = text.trajectory(
      run, loss, both, tx, splits.train, key=key, part=config.fine
    )
    copies = jax.tree.map(
      lambda x: x[:-seeds].reshape(seeds, config.copies, *x.shape[1:]), tuned
    )
    soup = jax.vmap(average.masked_mean)(copies, masks)
    alone = jax.tree.map(lambda x: x[-seeds:], tuned)
    members = jax.tree.map(lambda x: x[:-seeds], tuned)
    yield from _sparse(
      {"soup": soup, "mean member": members, "IMP": alone},
      (loss, score), splits.test, density, phase == config.phases - 1,
      seeds=seeds,
    )  # fmt: skip


def _retraining(config: Any, examples: int) -> Any:
  """Return SGD whose rate falls linearly to zero; what is pruned stays so."""
  steps = config.fine.epochs * (examples // config.fine.batch_size)
  rate = optax.linear_schedule(config.rate, 0.0, steps)
  decay = optax.add_decayed_weights(config.weight_decay)
  return average.frozen_zeros(optax.chain(decay, optax.sgd(rate, momentum=0.9)))


def _sparse(
  found: dict[str, Stack],
  by: Any,
  test: Data,
  density: float,
  last: bool,
  *,
  seeds: int,
) -> text.Lines:
  for name, stack in found.items():
    cost, right = (
      text.scores(f, stack, test).reshape(seeds, -1).mean(1) for f in by
    )
    zeros = [average.sparsity(p) for p in ws.unstack(stack)]
    zeros = np.reshape(zeros, (seeds, -1)).mean(1)
    values = {
      "test loss": cost,
      "accuracy (%)": 100 * right,
      "zeros (%)": 100 * zeros,
    }
    if last:
      yield from text.lines(name, values)
    more = {"at": f"{100 * (1 - density):.1f}"}
    yield from text.lines(name, {"loss by phase": cost}, **more)


def data_diet(run: runs.Run) -> text.Lines:
  """Barriers between children of one parent, on easy and on hard examples.

  The parent trains for some steps; then two children go on with other orders.
  EL2N is the mean over other networks, early in training.
  """
  splits, model, loss, _ = images.problem(run)
  config, seeds = run.config, run.config.seeds
  scorers = text.starts(
    model, splits.train["x"], jax.random.fold_in(run.key, 7), config.scorers
  )
  early = text.trajectory(
    run, loss, scorers, images.sgd(config.rate), splits.train,
    key=jax.random.fold_in(run.key, 8), part=config.early,
  )[0][-1]  # fmt: skip
  logits = jax.lax.map(lambda p: model.apply(p, splits.train["x"]), early)
  order = np.argsort(average.el2n(logits, jnp.asarray(splits.train["y"])))
  size = int(len(order) * config.share)
  parts = {"easy": order[:size], "hard": order[-size:]}
  start = text.starts(model, splits.train["x"], run.key, seeds)
  parents = [start] + text.trajectory(
    run, loss, start, images.sgd(config.rate), splits.train, key=run.key,
    part=config.parent,
  )[0]  # fmt: skip
  error = _errors(model)
  for spawn in config.spawn:
    pair = text.repeat(parents[spawn], 2)
    key = jax.random.fold_in(run.key, 100 + spawn)
    grown = text.trajectory(
      run,
      loss,
      pair,
      images.sgd(config.rate),
      splits.train,
      key=key,
      part=config.child,
    )[0][-1]
    models = ws.unstack(grown)
    for name, index in parts.items():
      data = jax.tree.map(lambda x, i=index: jnp.asarray(x[i]), splits.train)
      gaps = [
        ws.barrier(error, data, models[2 * s], models[2 * s + 1], 11).mean
        for s in range(seeds)
      ]
      values = {"error barrier (points)": 100 * np.array(gaps)}
      yield from text.lines(f"{name}, spawned at epoch {spawn}", values)
      at = {"error barrier by start": values["error barrier (points)"]}
      yield from text.lines(name, at, at=str(spawn))


def _errors(model: Any) -> Any:
  right = losses.of(model.apply, losses.accuracy)
  return lambda params, data: 1.0 - right(params, data)


STUDIES = {"data_diet": data_diet, "sparse_soups": sparse_soups}
