"""Studies of trajectories of a character language model.

>>> sorted(STUDIES)
['checkpoints', 'lengths']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import progress, runs
from weightspace import average
from weightspace.types import Data, Loss, Stack

DECAYS = (0.5, 0.7, 0.8, 0.9, 0.95)  # from checkpoint to checkpoint
PENALTIES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def checkpoints(run: runs.Run) -> text.Lines:
  """Averages and a search over the last checkpoints of one run.

  All that is chosen (a penalty, a decay, coefficients) is chosen on validation
  text; the table is measured on test text.
  """
  parts, model, loss = text.language(run)
  config, seeds = run.config, run.config.seeds
  train, val, test = (text.windows(part, config.length) for part in parts)
  val, test = (
    jax.tree.map(lambda x, n=n: jnp.asarray(x[:n]), d)
    for d, n in ((val, config.validation), (test, config.test))
  )
  train = jax.tree.map(lambda x: x[: config.examples], train)
  start = text.starts(model, train["x"], run.key, seeds)
  tx = optax.adam(config.rate)
  kept, costs = text.trajectory(
    run, loss, start, tx, train, key=run.key, part=config.fine
  )
  kept, costs = kept[-config.last :], costs[-config.last :]
  singles = [[text.scores(loss, s, d) for s in kept] for d in (val, test)]
  chosen = np.argmin(singles[0], 0)
  found = {
    "last checkpoint": (singles[0][-1], singles[1][-1]),
    "best checkpoint": tuple(
      np.array(x)[chosen, range(seeds)] for x in singles
    ),
  }
  for name, options in _averages(costs, len(kept)).items():
    tried = [text.mean(kept, weights) for weights in options]
    both = [[text.scores(loss, s, d) for s in tried] for d in (val, test)]
    pick = np.argmin(both[0], 0)
    found[name] = tuple(np.array(x)[pick, range(seeds)] for x in both)
  if config.evaluations:
    searched = _search(run, kept, loss, val)
    found["LCSC"] = tuple(text.scores(loss, searched, d) for d in (val, test))
  for name, (before, after) in found.items():
    metrics = {"test loss": after, "validation loss": before}
    yield from text.lines(name, metrics)


def _averages(costs: np.ndarray, count: int) -> dict[str, list[Any]]:
  """Return the candidates [M, T] or [T] of each kind of average."""
  steps = np.arange(1, count + 1)
  losses_ = costs.T
  return {
    "uniform": [np.full(count, 1 / count)],
    "EMA": [average.ema_weights(steps, decay) for decay in DECAYS],
    "last k": [(steps > count - k) / k for k in range(1, count + 1)],
    "MWA by loss": [
      np.stack([average.metric_weights(row, p) for row in losses_])
      for p in PENALTIES
    ],
    "MWA by step": [
      np.asarray(average.metric_weights(steps, p, kind="step"))
      for p in PENALTIES
    ],
  }


def _search(run: runs.Run, kept: list[Stack], loss: Loss, data: Data) -> Stack:
  """Return the mix of checkpoints that LCSC's search finds, seed by seed."""
  stacked = jax.tree.map(lambda *xs: jnp.stack(xs, 1), *kept)
  steps = np.arange(1, len(kept) + 1)
  first = np.stack([average.ema_weights(steps, decay) for decay in DECAYS])

  def score(params: Any, batch: Data) -> jax.Array:
    return -jnp.mean(loss(params, batch))

  mixed = []
  with progress.bar("search", run.config.seeds) as advance:
    for seed, models in enumerate(ws.unstack(stacked)):
      key = jax.random.fold_in(run.key, 50 + seed)
      best = average.evolve(
        models, score, data, key, budget=run.config.evaluations, first=first
      )
      mixed.append(ws.weighted_sum(models, best.weights))
      advance(seed + 1)
  return ws.stack(mixed)


def lengths(run: runs.Run) -> text.Lines:
  """Fine-tune one base at several sequence lengths, and average the three.

  The control is as many runs at the middle length, which differ by their
  batches alone: averages gain by being averages.
  """
  parts, model, loss = text.language(run)
  config, seeds = run.config, run.config.seeds
  train, _, test = parts
  first = text.windows(train[: config.examples], config.base.length)
  start = text.starts(model, first["x"], run.key, seeds)
  base = text.trajectory(
    run,
    loss,
    start,
    optax.adam(config.rate),
    first,
    key=run.key,
    part=config.base,
  )[0][-1]
  rest = train[config.examples : config.examples + config.more]
  middle = config.lengths[len(config.lengths) // 2]
  members = []
  for turn, length in enumerate(
    (*config.lengths, *[middle] * len(config.lengths))
  ):
    data = text.windows(rest, length)
    # As many characters a step at every length.
    part = type(config.fine)(config.fine)
    part.batch_size = config.fine.characters // length
    key = jax.random.fold_in(run.key, turn + 1)
    tx = optax.adam(config.rate * config.slow)
    members.append(
      text.trajectory(run, loss, base, tx, data, key=key, part=part)[0][-1]
    )
  found = {
    f"tuned at {length}": stack
    for length, stack in zip(config.lengths, members)
  }
  found = {"base": base, **found}
  count = len(config.lengths)
  found["average"] = text.mean(members[:count])
  found["average at one length"] = text.mean(members[count:])
  tests = {n: text.windows(test[: config.test], n) for n in config.lengths}
  for name, stack in found.items():
    values = {n: text.scores(loss, stack, d) for n, d in tests.items()}
    metrics = {"mean test loss": np.mean(list(values.values()), 0)}
    metrics |= {f"at {n}": value for n, value in values.items()}
    yield from text.lines(name, metrics)


STUDIES = {"checkpoints": checkpoints, "lengths": lengths}
