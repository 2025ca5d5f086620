"""What the studies share: a population trained, once for each rate.

>>> each(lambda seed: {"w": jnp.full(2, float(seed))}, 3)["w"].shape
(3, 2)
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.run import hosts, progress, runs
from weightspace import parametrize
from weightspace.types import Data, Loss, Params, Score, Stack


class Trained(NamedTuple):
  """A population at its best rate, and what that cost."""

  trees: Stack  # [S, ...], with their computed leaves
  losses: np.ndarray  # [epochs, S], means over the steps of an epoch
  averages: dict[str, Any]  # of folds, [S, ...]
  rate: float
  seconds: float  # of CPU, of one rate


def each(make: Callable[[int], Params], seeds: int) -> Stack:
  """Return `make(seed)` of each seed, stacked."""
  return ws.stack([make(seed) for seed in range(seeds)])


def adam(learning_rate: Any) -> Any:
  """Return Adam on what is trained of a tree."""
  return parametrize.only_trainable(optax.adam(learning_rate))


def fit(
  run: runs.Run,
  name: str,
  loss: Loss,
  stack: Stack,
  data: Data,
  part: Any,
  tx: Any = adam,
  **more: Any,
) -> Any:
  """Train one tree for each seed on its own data; return what `train` does.

  Args:
    run: whose mesh shares the models out.
    name: of what is trained, for the bar.
    loss: of a tree and a batch.
    stack: the starts [S, ...].
    data: [S, N, ...].
    part: settings: `epochs` and `batch_size`.
    tx: as in `fit_population`.
    **more: for `fit_population`.
  """
  count = ws.trees.size(data)
  with progress.bar(f"{name}: {count} models", part.epochs) as advance:
    return ws.train.fit_population(
      loss,
      stack,
      tx,
      data,
      key=jax.random.fold_in(run.key, 1),
      epochs=part.epochs,
      batch_size=part.batch_size,
      shared_data=False,
      mesh=hosts.fitting(run.mesh, count),
      on_epoch=lambda epoch, _: advance(epoch),
      **more,
    )


def at_best_rate(
  run: runs.Run,
  name: str,
  loss: Loss,
  stack: Stack,
  data: Data,
  held: Data,
  *,
  rates: Sequence[float],
  tx: Callable[..., Any] = adam,
  **more: Any,
) -> Trained:
  """Train at each rate; keep the one of least mean loss on held-out data.

  Args:
    run: has the settings `fine`.
    name: of the method.
    loss: of a tree and a batch.
    stack: [S, ...].
    data: [S, N, ...].
    held: [S, V, ...], which chooses the rate, one for all seeds.
    rates: to be tried.
    tx: of a learning rate.
    **more: for `fit_population`.
  """
  seeds, tried = ws.trees.size(data), []
  for rate in rates:
    began = time.process_time()
    fitted = fit(
      run,
      f"{name}, rate {rate:g}",
      loss,
      stack,
      data,
      run.config.fine,
      tx,
      hyper={"learning_rate": jnp.full(seeds, rate)},
      **more,
    )
    spent = time.process_time() - began
    cost = mean_scores(loss, fitted.params, held)
    cost = np.where(np.isfinite(cost), cost, np.inf)
    losses = fitted.losses.mean(1)
    averages = fitted.averages
    one = Trained(fitted.params, losses, averages, rate, spent / seeds)
    tried.append((cost.mean(), one))
  return min(tried, key=lambda pair: pair[0])[1]


@functools.partial(jax.jit, static_argnums=0)
def _scores(score: Score, stack: Stack, data: Data) -> jax.Array:
  return jax.lax.map(lambda pair: jnp.mean(score(*pair)), (stack, data))


def mean_scores(score: Score, stack: Stack, data: Data) -> np.ndarray:
  """Return the mean score of each model on its own data, [S] float64."""
  data = jax.tree.map(jnp.asarray, data)
  return np.asarray(_scores(score, stack, data), np.float64)


def of_values(function: Any) -> Any:
  """Return `function(params, data)` of the values of a tree."""

  def of(tree: Params, data: Data) -> jax.Array:
    return function(parametrize.value(tree), data)

  return of
