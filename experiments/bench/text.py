"""What studies of averages share: trained trajectories, and their numbers.

>>> windows(np.arange(7), 3)["y"].tolist()
[[1, 2, 3], [4, 5, 6]]
"""

import functools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.run import hosts, progress, runs
from weightspace import losses
from weightspace.types import Data, Key, Loss, Score, Stack

Lines = Iterator[dict[str, Any]]  # what a study yields, for metrics.jsonl
# A text of our own that stays as it is when the library changes.
FROZEN = pathlib.Path(__file__).parent / "frozen_library.txt"


def windows(tokens: np.ndarray, length: int) -> Data:
  """Cut a text into windows that do not overlap, and their next characters."""
  count = (len(tokens) - 1) // length
  x, y = tokens[: count * length], tokens[1 : count * length + 1]
  return {"x": x.reshape(count, length), "y": y.reshape(count, length)}


def text(run: runs.Run) -> tuple[list[np.ndarray], int]:
  """Return the characters of train, validation and test, and how many kinds.

  Where the config's data are "source", the text is code of this library,
  frozen, so that results of tiny runs do not change with the library.
  """
  if run.config.data != "source":
    parts = [np.asarray(split["x"]).ravel() for split in run.data()]
    return parts, int(max(part.max() for part in parts)) + 1
  _, tokens = np.unique(list(FROZEN.read_text()), return_inverse=True)
  cuts = [len(tokens) * 8 // 10, len(tokens) * 9 // 10]
  return np.split(tokens.astype(np.int32), cuts), int(tokens.max()) + 1


def language(run: runs.Run) -> tuple[list[np.ndarray], Any, Loss]:
  """Return the text, a model for its characters, and its loss."""
  parts, vocab = text(run)
  model = ws.models.build(**run.config.model, vocab=vocab)
  return parts, model, losses.of(model.apply, losses.cross_entropy)


def starts(model: Any, x: Any, key: Key, count: int) -> Stack:
  """Return `count` models initialised apart, [M, ...]."""
  keys = jax.random.split(key, count)
  return ws.stack([model.init(k, jnp.asarray(x[:1])) for k in keys])


def repeat(stack: Stack, times: int) -> Stack:
  """Return each model `times` over, next to each other.

  >>> repeat({"w": jnp.array([1.0, 2.0])}, 2)["w"].tolist()
  [1.0, 1.0, 2.0, 2.0]
  """
  return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), times, 0), stack)


def trajectory(
  run: runs.Run,
  loss: Loss,
  stack: Stack,
  tx: Any,
  data: Data,
  *,
  key: Key,
  part: Any,
  **more: Any,
) -> tuple[list[Stack], np.ndarray]:
  """Train M models; return the Stack after each epoch, and losses [E, M].

  Args:
    run: whose mesh shares the models out.
    loss: of a batch.
    stack: the starts.
    tx: as in `fit_population`.
    data: to train on.
    key: of the batches.
    part: settings: `epochs` and `batch_size`.
    **more: for `fit_population`.
  """
  kept: list[Stack] = []
  count = ws.trees.size(stack)
  mesh = hosts.fitting(run.mesh, count)
  with progress.bar(f"{count} models", part.epochs) as advance:

    def on_epoch(epoch: int, fitted: Any) -> None:
      kept.append(hosts.gathered(mesh, fitted.params))
      advance(epoch)

    fitted = ws.train.fit_population(
      loss,
      stack,
      tx,
      data,
      key=key,
      epochs=part.epochs,
      batch_size=part.batch_size,
      mesh=mesh,
      on_epoch=on_epoch,
      **more,
    )
  return kept, fitted.losses.mean(1)


@functools.partial(jax.jit, static_argnums=0)
def _scores(score: Score, stack: Stack, data: Data) -> jax.Array:
  return jax.lax.map(lambda params: jnp.mean(score(params, data)), stack)


def scores(score: Score, stack: Stack, data: Data) -> np.ndarray:
  """Return the mean score of each model, [M] float64."""
  data = jax.tree.map(jnp.asarray, data)
  return np.asarray(_scores(score, stack, data), np.float64)


def mean(snapshots: Iterable[Stack], weights: Any = None) -> Stack:
  """Return the average over time of each of M models.

  Args:
    snapshots: T Stacks [M, ...].
    weights: [T], or [M, T] for each model its own.
  """
  stacked = jax.tree.map(lambda *xs: jnp.stack(xs, 1), *snapshots)
  if weights is None or np.ndim(weights) == 1:
    return jax.vmap(lambda models: ws.weighted_mean(models, weights))(stacked)
  return jax.vmap(ws.weighted_mean)(stacked, jnp.asarray(weights))


def pick(stack: Stack, index: Any) -> Stack:
  """Return some models of a Stack."""
  return jax.tree.map(lambda x: x[jnp.asarray(index)], stack)


def lines(method: str, metrics: dict[str, np.ndarray], **more: Any) -> Lines:
  """Yield one line a seed, from {metric: [seeds]}."""
  for seed in range(len(next(iter(metrics.values())))):
    values = {name: float(x[seed]) for name, x in metrics.items()}
    yield {"seed": seed, "method": method, **more, **values}
