"""Several supernets for one space of architectures, each for those it suits.

>>> balance(jnp.zeros((3, 2)), 1.0, 1e-4).tolist()
[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Key

ROUNDS = 1000  # of balancing, at most


def pooling(layers: int, pools: int) -> list[tuple[int, ...]]:
  """Return all choices of the layers after which images are pooled.

  Args:
    layers: after which one may pool.
    pools: how many of them do.

  Raises:
    ValueError: for other numbers.

  >>> pooling(3, 2)
  [(0, 1), (0, 2), (1, 2)]

  Javan et al. 2023, https://arxiv.org/abs/2306.11982: 2 of 9 blocks of a
  ResNet20, 36 configurations.
  """
  if layers < 1 or not 0 <= pools <= layers:
    raise ValueError(
      f"pooling: {pools} of {layers} layers, expected no more than there are,"
      " and one layer"
    )
  return list(itertools.combinations(range(layers), pools))


def balance(
  table: Any, temperature: float = 1.0, threshold: float = 1e-4
) -> jax.Array:
  """Return the chance of each supernet for each architecture, all used alike.

  p = softmax(T Q) by rows, then again and again p <- p / mean_a p, rows
  normalised, until the means over architectures are uniform: KL below the
  threshold.

  Args:
    table: [A, M], how well model m has done for architecture a.
    temperature: T, above 0; larger is more decided.
    threshold: of sum_m q_m log(q_m M), q the mean over architectures.

  Returns:
    [A, M] float32; rows sum to 1.

  Raises:
    ValueError: for a table that is no [A, M] or holds a NaN, or a temperature
      or threshold that is not above 0; when the threshold is not reached in
      1000 rounds (not under jit).

  >>> balance(jnp.array([[1.0, 0.0], [1.0, 0.0]]), 5.0).round(2).tolist()
  [[0.5, 0.5], [0.5, 0.5]]

  Javan et al. 2023, "Balanced Mixture of SuperNets",
  https://arxiv.org/abs/2306.11982; as in their code, but on the chances
  themselves rather than with factors of the epoch's start.
  """
  table = jnp.asarray(table)
  if table.ndim != 2 or not table.size:
    raise ValueError(f"balance: table has shape {table.shape}, expected [A, M]")
  for name, value in (("temperature", temperature), ("threshold", threshold)):
    if trees.concrete(value) and not value > 0:
      raise ValueError(f"balance: {name} is {value}, expected more than 0")
  trees.check_finite(table, "balance: table")
  dtype = jnp.promote_types(jnp.float32, table.dtype)
  logs = jax.nn.log_softmax(temperature * table.astype(dtype), axis=-1)
  models = table.shape[1]

  def means(logs: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(logs, axis=0) - math.log(len(logs))

  def apart(logs: jax.Array) -> jax.Array:
    q = means(logs)
    return (jnp.exp(q) * (q + math.log(models))).sum()

  def step(state: tuple[Any, Any]) -> tuple[Any, Any]:
    logs, rounds = state
    logs = jax.nn.log_softmax(logs - means(logs)[None], axis=-1)
    return logs, rounds + 1

  def more(state: tuple[Any, Any]) -> jax.Array:
    return (apart(state[0]) >= threshold) & (state[1] < ROUNDS)

  logs, rounds = jax.lax.while_loop(more, step, (logs, 0))
  if trees.concrete(rounds) and not apart(logs) < threshold:
    raise ValueError(
      f"balance: {float(apart(logs)):.2g} from uniform after {ROUNDS} rounds,"
      f" expected less than {threshold}"
    )
  return jnp.exp(logs)


def route(table: jax.Array, architecture: Any, key: Key) -> jax.Array:
  """Return the supernet that trains an architecture now: m ~ p(m | a).

  Args:
    table: [A, M] chances, from `balance`.
    architecture: its number.
    key: of the draw.

  >>> route(jnp.array([[0.0, 1.0]]), 0, jax.random.key(0)).item()
  1
  """
  return jax.random.categorical(key, jnp.log(table[architecture]))


def rewarded(
  table: jax.Array, architecture: Any, model: Any, score: Any, rate: float = 0.1
) -> jax.Array:
  """Return the table Q with Q[a, m] <- (1 - rate) Q[a, m] + rate score.

  Args:
    table: [A, M], before `balance`; it begins with ones.
    architecture: its number.
    model: the supernet that was trained.
    score: of that supernet on a validation batch.
    rate: in [0, 1].

  >>> rewarded(jnp.ones((1, 2)), 0, 1, 0.0).round(2).tolist()
  [[1.0, 0.8...]]

  Javan et al. 2023, https://arxiv.org/abs/2306.11982, with their code's rate.
  """
  if not 0 <= rate <= 1:
    raise ValueError(f"rewarded: rate is {rate}, expected one in [0, 1]")
  old = table[architecture, model]
  return table.at[architecture, model].set((1 - rate) * old + rate * score)
