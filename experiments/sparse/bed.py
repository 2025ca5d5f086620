"""What studies of masks share: data drawn by seed, and all seeds at once.

>>> digits = {"x": np.zeros((4, 8, 8, 1)), "y": np.arange(4)}
>>> draw(digits, jax.random.key(0), seeds=2, count=3)["y"].shape
(2, 3)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import text
from experiments.run import runs
from weightspace import losses
from weightspace.types import Data, Key, Loss, Score, Stack


class Bed(NamedTuple):
  """A model, its loss and score, and the images of each seed, [S, N, ...]."""

  model: Any
  loss: Loss
  score: Score
  train: Data
  test: Data


def draw(split: Data, key: Key, seeds: int, count: int) -> Data:
  """Return other examples of a split for each seed, [S, count, ...]."""
  size = len(split["y"])
  if count > size:
    raise ValueError(f"examples: {count}, expected at most {size}")
  chosen = [
    np.asarray(jax.random.permutation(jax.random.fold_in(key, seed), size))
    for seed in range(seeds)
  ]
  places = np.stack([order[:count] for order in chosen])
  return {name: np.asarray(array)[places] for name, array in split.items()}


def pooled(data: Data) -> Data:
  """Return images [..., H, W, C] at half the side: means of 2 x 2 pixels.

  >>> pooled({"x": np.ones((1, 4, 4, 1))})["x"].shape
  (1, 2, 2, 1)
  """
  *lead, height, width, channels = data["x"].shape
  x = data["x"].reshape(*lead, height // 2, 2, width // 2, 2, channels)
  return {**data, "x": x.mean((-4, -2), dtype=np.float32)}


def images(run: runs.Run, split: Data, key: Key, count: int) -> Data:
  """Return a draw of images for each seed, pooled where the config says so."""
  drawn = draw(split, key, run.config.seeds, count)
  return pooled(drawn) if run.config.pool else drawn


def begin(run: runs.Run) -> Bed:
  """Return the model and the images that a config names."""
  config, splits, model = run.config, run.data(), run.model()
  keys = jax.random.split(jax.random.fold_in(run.key, 1), 2)
  return Bed(
    model,
    losses.of(model.apply, losses.cross_entropy),
    losses.of(model.apply, losses.accuracy),
    images(run, splits.train, keys[0], config.examples),
    images(run, splits.test, keys[1], config.test),
  )


def starts(run: runs.Run, bed: Bed) -> Stack:
  """Return a network for each seed, [S, ...]."""
  return text.starts(bed.model, bed.train["x"][0], run.key, run.config.seeds)


def fit(
  run: runs.Run,
  loss: Loss,
  stack: Stack,
  tx: Any,
  data: Data,
  part: Any,
  salt: int,
) -> list[Stack]:
  """Train each seed's network on its own data; return it after each epoch.

  Args:
    run: gives the key of the batches.
    loss: of a batch.
    stack: [S, ...].
    tx: as in `fit_population`.
    data: [S, N, ...].
    part: settings: `epochs` and `batch_size`.
    salt: sets this training apart from the run's others.
  """
  key = jax.random.fold_in(run.key, 100 + salt)
  return text.trajectory(
    run, loss, stack, tx, data, key=key, part=part, shared_data=False
  )[0]


def percent(score: Score, stack: Stack, data: Data) -> np.ndarray:
  """Return the mean score of each seed's network on its data, in %: [S]."""
  return 100 * mean(score, stack, data)


def mean(score: Score, stack: Stack, data: Data) -> np.ndarray:
  """Return the mean score of each seed's network on its data, [S]."""

  @jax.jit
  def each(given: Any) -> jax.Array:
    return jax.lax.map(lambda one: score(*one).mean(), given)

  given = stack, jax.tree.map(jnp.asarray, data)
  return np.asarray(each(given), np.float64)
