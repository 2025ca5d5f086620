"""Mixes scored on several objectives: means and standard errors of each.

>>> measure = measurer("demo", {"w": jnp.eye(2)}, lambda p, x: p["w"] @ x,
...                    [jnp.ones(2)], None)
>>> measure(np.array([[0.5, 1.0]])).values.tolist()
[[1.5]]
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import mixes, trees
from weightspace.types import Data, Params, Score, Stack


class Measured(NamedTuple):
  """Mixes [K, M] and their scores [K, T] with standard errors."""

  weights: np.ndarray
  values: np.ndarray
  errors: np.ndarray


def measurer(
  what: str,
  stack: Stack,
  score: Score | Sequence[Score],
  data: Sequence[Data],
  base: Params | None,
) -> Callable[[np.ndarray], Measured]:
  """Return the function that scores mixes [K, M] on every objective."""
  trees.check_finite(stack, what, stacked=True)
  sets = list(data)
  functions = [score] * len(sets) if callable(score) else list(score)
  if not sets or len(functions) != len(sets):
    raise ValueError(
      f"{what}: {len(functions)} scores and {len(sets)} data sets, expected at"
      " least one and as many"
    )
  held = jax.tree.map(jnp.asarray, stack)
  if base is not None:
    like = jax.tree.map(lambda x: x[0], held)
    trees.check_same(like, jax.tree.map(jnp.asarray, base), f"{what}: base")
    held = jax.tree.map(
      lambda x, b: jnp.concatenate([x, jnp.asarray(b)[None]]), held, base
    )
  sets = [jax.tree.map(jnp.asarray, part) for part in sets]

  def measure(rows: np.ndarray) -> Measured:
    rows = np.asarray(rows, np.float64)
    weights = rows
    if base is not None:
      weights = np.concatenate([rows, 1 - rows.sum(1, keepdims=True)], 1)
    found = [
      _mean(
        np.asarray(mixes.scores(held, jnp.asarray(weights, jnp.float32), f, d))
      )
      for f, d in zip(functions, sets)
    ]
    values, errors = (np.stack(part, 1) for part in zip(*found))
    if np.isnan(values).any():
      worst = int(np.isnan(values).any(1).argmax())
      raise ValueError(f"{what}: a score is NaN at {rows[worst].tolist()}")
    return Measured(rows, values, errors)

  return measure


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Return means [K] and standard errors of scores [K] or [K, N]."""
  values = values.astype(np.float64)
  if values.ndim == 1:
    return values, np.full(len(values), np.nan)
  spread = values.std(1, ddof=1) if values.shape[1] > 1 else np.nan
  return values.mean(1), spread / np.sqrt(values.shape[1]) + np.zeros(
    len(values)
  )


def joined(a: Measured, b: Measured) -> Measured:
  """Return the mixes of both."""
  return Measured(*(np.concatenate(both) for both in zip(a, b)))
