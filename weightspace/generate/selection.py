"""The best of many generated models, by a score on data.

>>> best_of({"w": jnp.array([1.0, 3.0])}, lambda p, x: p["w"], None).chosen
1
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.mixes import evaluate_mixes
from weightspace.types import Data, Params, Score, Stack


class Best(NamedTuple):
  """The model that scored highest, which it was, and all scores."""

  params: Params
  chosen: int
  scores: np.ndarray  # [K]


def best_of(samples: Stack, score: Score, data: Data) -> Best:
  """Return the sample with the highest score; of equal ones the first.

  Args:
    samples: K models, leaves [K, ...].
    score: `score(params, data)`, one number or one per example [N], of which
      the mean counts; higher is better.
    data: what the score is given; not the data that the result is judged on.

  Returns:
    Best.  A sample whose score is NaN is never chosen.

  Raises:
    ValueError: when every score is NaN, or as `evaluate_mixes`.

  >>> samples = {"w": jnp.array([[0.0], [2.0], [5.0]])}
  >>> score = lambda p, x: -((p["w"] - x) ** 2)
  >>> best_of(samples, score, jnp.array([1.5])).params["w"].tolist()
  [2.0]
  """
  count = trees.size(samples)
  each = np.eye(count, dtype=np.float32)
  scores = np.asarray(evaluate_mixes(samples, each, score, data))
  if np.isnan(scores).all():
    raise ValueError(f"best_of: all {count} scores are NaN, expected numbers")
  chosen = int(np.nanargmax(scores))
  return Best(
    jax.tree.map(lambda x: jnp.asarray(x)[chosen], samples), chosen, scores
  )
