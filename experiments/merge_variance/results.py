"""Gossip rounds, what they do to the variance of weights, and to accuracy.

>>> sorted(ARMS)
['common start', 'corrected', 'plain']
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import tasks, text
from experiments.run import hosts, runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  every,
  exact,
  gather,
  points,
)
from weightspace import figures, intervals, losses, trees
from weightspace.types import Data, Key, Loss, Score, Stack

ARMS = {  # how two nodes average
  "plain": ws.merge.uniform(),
  "corrected": ws.merge.variance_corrected(),
  "common start": ws.merge.uniform(),
}


def draw(run: runs.Run, seed: int) -> tuple[Data, Data]:
  """Return the shards of the nodes, [nodes, N, ...], and test images."""
  config = run.config
  key = jax.random.fold_in(run.key, seed)
  count = config.nodes * config.examples
  train = tasks.draw(
    run, config.task, "train", jax.random.fold_in(key, 0), count
  )
  order = jax.random.permutation(jax.random.fold_in(key, 1), count)

  def shards(x: Any) -> Any:
    return x[order].reshape(config.nodes, config.examples, *x.shape[1:])

  last = jax.random.fold_in(key, 2)
  test = tasks.draw(run, config.task, "test", last, config.shown.test)
  return jax.tree.map(shards, train), test


def starts(run: runs.Run, model: Any, data: Data, seed: int) -> Stack:
  """Return independent starts, one a node."""
  key = jax.random.fold_in(jax.random.fold_in(run.key, seed), 3)
  return text.starts(model, data["x"][0], key, run.config.nodes)


def measure_starts(run: runs.Run, stack: Stack, seed: int) -> None:
  """Log var(mean) / mean var of the first N starts, plain and corrected."""
  for count in run.config.counts:
    some = jax.tree.map(lambda x, n=count: x[:n], stack)
    plain = _ratio(some, ws.merge.uniform()(some))
    mended = _ratio(some, ws.merge.variance_corrected()(some))
    run.log(seed=seed, averaged=count, ratio=plain, corrected=mended)


def _ratio(stack: Stack, merged: Any) -> float:
  """Return var(merged) / mean var(members), mean over the matrices.

  Each matrix counts by its entries, so that the small last layer, whose own
  variance is a noisy estimate, does not drown the others.
  """
  up, down = 0.0, 0.0
  for path, x in trees.named(stack).items():
    if x.ndim == 3:
      entries = x[0].size
      members = np.mean([float(jnp.var(m)) for m in x])
      after = float(jnp.var(trees.named(merged)[path]))
      up, down = up + entries * after / members, down + entries
  return up / down


class Tools(NamedTuple):
  """What every round uses; the same objects each time compile once."""

  loss: Loss
  score: Score
  optimizer: Any


def tools(run: runs.Run, model: Any) -> Tools:
  """Return the loss, the score and the optimiser of a run."""
  return Tools(
    losses.of(model.apply, losses.cross_entropy),
    losses.of(model.apply, losses.accuracy),
    optax.sgd(run.config.learning_rate, 0.9),
  )


def gossip(
  run: runs.Run,
  made: Tools,
  arm: str,
  stack: Stack,
  data: tuple[Data, Data],
  *,
  seed: int,
) -> None:
  """Average in pairs and train, round after round; log what comes of it."""
  config, (shards, test) = run.config, data
  if arm == "common start":
    stack = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), stack)
  key = jax.random.fold_in(jax.random.fold_in(run.key, seed), 4)
  eye = np.eye(config.nodes, dtype=np.float32)
  first, mesh = _variance(stack), hosts.fitting(run.mesh, config.nodes)
  for turn in range(config.rounds):
    own = jax.random.fold_in(key, turn)
    stack = _averaged(stack, arm, own)
    left = 100 * _variance(stack) / first
    fitted = ws.train.fit_population(
      made.loss,
      stack,
      made.optimizer,
      shards,
      key=own,
      epochs=1,
      batch_size=config.batch_size,
      shared_data=False,
      mesh=mesh,
    )
    stack = hosts.gathered(mesh, fitted.params)
    found = ws.merge.evaluate_mixes(stack, eye, made.score, test, mesh=run.mesh)
    accuracy = 100 * float(np.mean(found))
    run.log(seed=seed, arm=arm, turn=turn, variance=left, accuracy=accuracy)


def _averaged(stack: Stack, arm: str, key: Key) -> Stack:
  """Average random pairs; both nodes of a pair go on from the average."""
  order = np.asarray(jax.random.permutation(key, ws.trees.size(stack)))
  merged = [
    ARMS[arm](jax.tree.map(lambda x, p=pair: x[p], stack))
    for pair in order.reshape(-1, 2)
  ]
  place = np.argsort(order) // 2  # the pair of each node
  return jax.tree.map(lambda x: x[place], ws.stack(merged))


def _variance(stack: Stack) -> float:
  """Return the variance of the matrices, mean over nodes and layers."""
  kernels = [x for x in jax.tree.leaves(stack) if x.ndim == 3]
  return float(np.mean([jnp.var(x, axis=(1, 2)).mean() for x in kernels]))


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: 1 / N, mended exactly, and gossip that learns sooner for it."""
  parts, off, mended = [], [], []
  for count in run.config.counts:
    ratio = gather(run, "ratio", averaged=count)[:, 0]
    off.append(np.abs(ratio * count - 1).max())
    mended.append(
      np.abs(gather(run, "corrected", averaged=count)[:, 0] - 1).max()
    )
    parts.append(f"N = {count} {points(ratio, '')}")
  accuracy = {arm: gather(run, "accuracy", arm=arm).mean(1) for arm in ARMS}
  gain = accuracy["corrected"] - accuracy["plain"]
  common = accuracy["common start"] - accuracy["corrected"]
  measured = (
    f"variance of the mean over the members': {', '.join(parts)}, off 1/N by"
    f" {100 * max(off):.1f} % at most; corrected off 1 by {max(mended):.0e};"
    f" accuracy of gossip, mean over {run.config.rounds} rounds: corrected"
    f" minus plain {points(gain)}, a common start minus corrected"
    f" {points(common)}, over {len(gain)} seeds"
  )
  law = exact(max(off) < 0.02 and max(mended) < 1e-5)
  return measured, every(law, above(gain))


def table(run: runs.Run) -> runs.Table:
  """Return the accuracies of each arm, and the least variance."""
  made: runs.Table = {}
  for arm in ARMS:
    accuracy, left = (gather(run, n, arm=arm) for n in ("accuracy", "variance"))
    made[arm] = {
      "mean of rounds (%)": intervals.mean_interval(accuracy.mean(1)),
      "last round (%)": intervals.mean_interval(accuracy[:, -1]),
      "least variance (%)": intervals.mean_interval(left.min(1)),
    }
  return made


def show(run: runs.Run) -> Any:
  """Draw accuracy and variance of the weights, round by round."""
  turns = range(1, 1 + run.config.rounds)
  panels = [
    figures.curves(
      turns, {a: gather(run, n, arm=a) for a in ARMS}, ("round", label), title
    )
    for n, label, title in (
      ("accuracy", "accuracy (%)", "Nodes, mean"),
      ("variance", "variance over the starts' (%)", "Weights after averaging"),
    )
  ]
  return figures.figure(*panels, width=11.0, height=3.8)


CLAIM = Claim(
  judge,
  show,
  "Left: accuracy of the nodes after each round of gossip in random pairs, from"
  " independent starts with and without correction, and from a common start."
  " Right: variance of the weights after averaging, over that of the starts."
  " Bands are 95 % intervals of the mean over seeds.",
)
