"""Mixing matrices: who averages with whom, as one stochastic matrix a round.

Row i says what replica i becomes: theta_i <- sum_j W_ij theta_j.  Rows of sum 1
make averages; columns of sum 1 too (doubly stochastic) keep the mean of all
replicas, which is what decentralised training needs.

>>> ring(4)[0].round(4).tolist()
[0.3333, 0.3333, 0.0, 0.3333]
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from weightspace import means, trees
from weightspace.types import Key, Stack

KINDS = ("none", "rows", "doubly")
SLACK = 1e-5  # of a sum of float32 weights


def check(matrix: npt.ArrayLike, kind: str, what: str) -> None:
  """Raise a ValueError unless a matrix is square and stochastic as asked.

  Args:
    matrix: [M, M]; only its shape is looked at under tracing.
    kind: "none", "rows" (non-negative, rows of sum 1) or "doubly" (columns
      too).
    what: names the matrix in the error.

  >>> check([[0.5, 0.5], [0.0, 1.0]], "rows", "mix")
  """
  if kind not in KINDS:
    raise ValueError(f"{what}: stochastic is {kind!r}, expected one of {KINDS}")
  shape = np.shape(matrix)
  if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
    raise ValueError(f"{what}: matrix of shape {shape}, expected square [M, M]")
  if not trees.concrete(matrix):
    return
  values = np.asarray(matrix, np.float64)
  if not np.isfinite(values).all():
    row, column = np.argwhere(~np.isfinite(values))[0]
    raise ValueError(
      f"{what}: matrix[{row}, {column}] is {values[row, column]}, expected a"
      " number"
    )
  if kind == "none":
    return
  if values.min() < -SLACK:
    row, column = np.argwhere(values < -SLACK)[0]
    raise ValueError(
      f"{what}: matrix[{row}, {column}] is {values[row, column]:g}, expected no"
      " negative weight"
    )
  for axis, name in ((1, "row"), (0, "column"))[: KINDS.index(kind)]:
    sums = values.sum(axis)
    bad = np.flatnonzero(np.abs(sums - 1) > SLACK)
    if len(bad):
      raise ValueError(
        f"{what}: {name} {bad[0]} sums to {sums[bad[0]]:g}, expected 1"
      )


def complete(count: int) -> np.ndarray:
  """Return the matrix of the mean of all, 1 / M everywhere.

  >>> complete(2).tolist()
  [[0.5, 0.5], [0.5, 0.5]]
  """
  _check_count(count)
  return np.full((count, count), 1 / count)


def ring(count: int) -> np.ndarray:
  """Return the matrix of a ring: a third each for oneself and two neighbours.

  >>> ring(3).round(4).tolist()[0]
  [0.3333, 0.3333, 0.3333]
  """
  _check_count(count)
  eye = np.eye(count)
  return (eye + np.roll(eye, 1, 0) + np.roll(eye, -1, 0)) / 3


def groups(key: Key, turn: int, count: int, size: int = 2) -> np.ndarray:
  """Return the matrix of means within random groups, drawn anew each turn.

  Pairs of an even number are a random round of a tournament of M - 1 rounds: a
  partner is any other replica with equal probability, and a compiled program
  with the pairs in it exists M - 1 times at most.  Other sizes cut a random
  order into groups; the last may be smaller.

  Args:
    key: of the run.
    turn: the number of the round.
    count: M.
    size: of a group, 1 to M.

  Returns:
    [M, M], doubly stochastic.

  Raises:
    ValueError: for a size out of range.

  >>> groups(jax.random.key(0), 0, 4).sum(0).tolist()
  [1.0, 1.0, 1.0, 1.0]

  Groups drawn anew each round: NoLoCo, https://arxiv.org/abs/2506.10911; the
  tournament is ours.
  """
  _check_count(count)
  if not 1 <= size <= count:
    raise ValueError(f"groups: size is {size}, expected 1 to {count}")
  words = np.asarray(jax.random.key_data(key)).ravel().tolist()
  random = np.random.Generator(np.random.Philox([*words, turn]))
  if size == 2 and count % 2 == 0:
    first, rest = 0, np.roll(np.arange(1, count), random.integers(count - 1))
    circle = np.array([first, *rest])
    order = np.stack([circle[: count // 2], circle[count // 2 :][::-1]], 1)
    order = order.ravel()
  else:
    order = random.permutation(count)
  matrix = np.zeros((count, count))
  for start in range(0, count, size):
    group = order[start : start + size]
    matrix[np.ix_(group, group)] = 1 / len(group)
  return matrix


def sharing(count: int, rate: float) -> np.ndarray:
  """Return the matrix that gives up a share of oneself for the others' mean.

  (1 - b) on the diagonal, b / (M - 1) elsewhere.  Distances to the mean shrink
  by 1 - b M / (M - 1); b = (M - 1) / M makes all equal.

  Args:
    count: M.
    rate: b in [0, 1].

  Raises:
    ValueError: for a rate outside [0, 1].

  >>> sharing(3, 0.5).tolist()[0]
  [0.5, 0.25, 0.25]

  Experts weights averaging, https://arxiv.org/abs/2308.06093; this form of the
  share is ours.
  """
  _check_count(count)
  if not 0.0 <= rate <= 1.0:
    raise ValueError(f"sharing: rate is {rate}, expected 0 to 1")
  if count == 1:
    return np.ones((1, 1))
  off = np.full((count, count), rate / (count - 1))
  return np.where(np.eye(count, dtype=bool), 1 - rate, off)


def spectral_gap(matrix: npt.ArrayLike) -> float:
  """Return 1 - |lambda_2|: how fast mixing brings replicas together.

  Args:
    matrix: [M, M], doubly stochastic.

  Returns:
    0 where some never meet, 1 where all meet in one round.

  Raises:
    ValueError: for another matrix.

  >>> round(spectral_gap(complete(4)), 6), spectral_gap([[1, 0], [0, 1]])
  (1.0, 0.0)
  """
  check(matrix, "doubly", "spectral_gap")
  sizes = np.sort(np.abs(np.linalg.eigvals(np.asarray(matrix, float))))
  return float(1 - sizes[-2]) if len(sizes) > 1 else 1.0


def consensus(stack: Stack) -> jax.Array:
  """Return the root mean squared distance of replicas to their mean.

  sqrt(mean_m |theta_m - theta_mean|^2), over all floating leaves.

  >>> consensus({"w": jnp.array([[0.0], [2.0]])}).item()
  1.0
  """
  count = trees.size(stack)
  total = jnp.zeros(())
  for x in jax.tree.leaves(stack):
    if trees.inexact(x):
      mean = means.contract(jnp.asarray(x), jnp.full(count, 1 / count))
      total += jnp.sum(jnp.abs(x - mean[None]) ** 2) / count
  return jnp.sqrt(total)


def _check_count(count: int) -> None:
  if count < 1:
    raise ValueError(f"replicas: {count}, expected at least 1")
