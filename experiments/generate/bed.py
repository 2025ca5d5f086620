"""What the studies share: data drawn by seed, populations, and their accuracy.

>>> subset(jax.random.key(0), {"x": jnp.arange(5.0)}, 3)["x"].shape
(3,)
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.run import runs
from weightspace.types import Apply, Data, Key, Stack


def keys(run: runs.Run) -> list[Key]:
  """Return a key for each seed of a run."""
  return [jax.random.fold_in(run.key, s) for s in range(run.config.seeds)]


def subset(key: Key, data: Data, count: int) -> Data:
  """Return `count` examples drawn without replacement; 0 for all, shuffled."""
  size = len(jax.tree.leaves(data)[0])
  rows = jax.random.permutation(key, size)[: count or size]
  return jax.tree.map(lambda x: jnp.asarray(x)[rows], data)


def starts(model: Any, x: Any, keys: list[Key]) -> Stack:
  """Return a Stack of initial parameters, one for each key."""
  return ws.stack([model.init(key, x[:1]) for key in keys])


def accuracies(apply: Apply, stack: Stack, data: Data) -> np.ndarray:
  """Return the accuracy [M] of each model on the same data, in percent."""
  right = ws.losses.of(apply, ws.losses.accuracy)
  return 100 * np.asarray(_means(right, stack, data))


def _means(score: Any, stack: Stack, data: Data) -> jax.Array:
  @jax.jit
  def run(stack: Stack, data: Data) -> jax.Array:
    return jax.lax.map(lambda params: score(params, data).mean(), stack)

  return run(stack, jax.tree.map(jnp.asarray, data))
