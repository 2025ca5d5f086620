"""Studies of masks on trained networks: how much of each layer, and which.

>>> sorted(STUDIES)
['jackpots', 'rate_distortion']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import runs
from experiments.sparse import bed
from weightspace import sparse
from weightspace.types import Data, Params, Stack

Curves = dict[str, np.ndarray]  # {path: [D]}


def _dense(run: runs.Run, problem: bed.Bed) -> Stack:
  """Return the trained network of each seed, [S, ...]."""
  part = run.config.base
  tx = optax.adam(part.learning_rate)
  begun = bed.starts(run, problem)
  return bed.fit(run, problem.loss, begun, tx, problem.train, part, 0)[-1]


def rate_distortion(run: runs.Run) -> text.Lines:
  """Prune by curves of distortion, by equal shares, and by global magnitude."""
  problem, config = bed.begin(run), run.config
  dense = _dense(run, problem)
  seen = {"x": problem.train["x"][:, : config.calibration]}
  curves = [
    sparse.curves(problem.model.apply, params, x, config.amounts)
    for params, x in zip(ws.unstack(dense), seen["x"])
  ]
  right = bed.percent(problem.score, dense, problem.test)
  yield from text.lines("dense", {"accuracy (%)": right})
  for target in config.targets:
    models = ws.unstack(dense)
    splits = [_split(*pair, target) for pair in zip(models, curves)]
    masks = [
      _masks(params, split, target, config.amounts - 1)
      for params, split in zip(models, splits)
    ]
    for name in masks[0]:
      pruned = jax.vmap(sparse.apply)(dense, ws.stack([m[name] for m in masks]))
      zeros = [100 * sparse.sparsity(p) for p in ws.unstack(pruned)]
      values = {
        "accuracy (%)": bed.percent(problem.score, pruned, problem.test),
        "distortion": _distortion(problem, dense, pruned, problem.test),
        "zeros (%)": np.array(zeros),
      }
      if name == "RD":
        joint = _distortion(problem, dense, pruned, seen)
        values["joint over sum"] = joint / _sums(curves, splits)
      yield from text.lines(f"{name}, {target:.0%}", values)


def _split(params: Params, curves: Curves, target: float) -> dict[str, int]:
  """Return how much of each leaf goes, as places on its curve."""
  leaves = ws.trees.named(params)
  return sparse.allocate(curves, {p: leaves[p].size for p in curves}, target)


def _masks(
  params: Params, split: dict[str, int], target: float, last: int
) -> dict[str, Params]:
  """Return what each method keeps where a share of all kernels goes."""
  amounts = {path: place / last for path, place in split.items()}
  return {
    "RD": sparse.by_layer(params, amounts),
    "uniform": sparse.by_layer(params, dict.fromkeys(split, target)),
    "global magnitude": sparse.magnitude_mask(params, 1 - target),
  }


def _sums(curves: list[Curves], splits: list[dict[str, int]]) -> np.ndarray:
  """Return what the distortions of single layers add up to, [S]."""
  return np.array(
    [sum(curve[p][i] for p, i in s.items()) for curve, s in zip(curves, splits)]
  )


def _distortion(
  problem: bed.Bed, dense: Stack, pruned: Stack, data: Data
) -> np.ndarray:
  """Return the mean squared change of the logits, [S]."""

  def gap(pair: Any, data: Data) -> jax.Array:
    first, second = (problem.model.apply(p, data["x"]) for p in pair)
    return ((first - second) ** 2).mean()

  return bed.mean(gap, (dense, pruned), data)


def jackpots(run: runs.Run) -> text.Lines:
  """Search masks of trained weights, from magnitude and from random masks."""
  problem, config = bed.begin(run), run.config
  dense, only = _dense(run, problem), list(config.only)
  right = bed.percent(problem.score, dense, problem.test)
  yield from text.lines("dense", {"accuracy (%)": right})
  begun = jax.vmap(
    lambda params: sparse.jackpot(params, config.density, only=only)
  )(dense)
  magnitude = jax.tree.map(lambda gate: gate > 0, begun.gates)
  keys = jax.random.split(jax.random.fold_in(run.key, 2), config.seeds)
  masks = {
    "magnitude": magnitude,
    "random": jax.vmap(sparse.shuffled)(keys, magnitude),
  }
  given = dense, problem.train, keys
  for steps in (config.early, config.steps):
    for start in ("magnitude", "random"):
      found = _searched(run, problem, given, start, steps)
      masks[f"from {start}, {steps} steps"] = found
  for name, mask in masks.items():
    pruned = jax.vmap(sparse.apply)(dense, mask)
    values = {
      "accuracy (%)": bed.percent(problem.score, pruned, problem.test),
      "overlap with magnitude": _overlaps(mask, magnitude, only),
    }
    yield from text.lines(name, values)


def _searched(
  run: runs.Run, problem: bed.Bed, given: Any, start: str, steps: int
) -> Stack:
  """Return the mask that each seed's search ends with."""
  config = run.config
  rate = optax.cosine_decay_schedule(config.rate, steps)

  def one(params: Params, data: Data, key: Any) -> Params:
    return sparse.search(
      problem.loss,
      params,
      data,
      config.density,
      key=key,
      steps=steps,
      batch_size=config.batch_size,
      tx=optax.sgd(rate, momentum=0.9),
      rate=sparse.short_restriction(steps, config.restriction),
      start=start,
      only=list(config.only),
    ).mask

  run_all = jax.jit(lambda given: jax.lax.map(lambda x: one(*x), given))
  return run_all(jax.tree.map(jnp.asarray, given))


def _overlaps(masks: Stack, others: Stack, only: list[str]) -> np.ndarray:
  """Return the overlap of the pruned leaves of each seed's masks, [S]."""

  def leaves(tree: Params) -> Params:
    return {path: ws.trees.named(tree)[path] for path in only}

  pairs = jax.vmap(sparse.overlap)(leaves(masks), leaves(others))
  return np.asarray(pairs, np.float64)


STUDIES = {"jackpots": jackpots, "rate_distortion": rate_distortion}
