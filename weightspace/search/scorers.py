"""Scorers of mixes: what a selection asks of a user's score.

One function from coefficients to scores, whether the score is Python on one
model or compiled over all of them, and the interval of a difference.

>>> score = make({"w": jnp.array([0.0, 2.0])}, lambda p: p["w"], None)
>>> score(np.array([[0.5, 0.5]]))[0].tolist()
[1.0]
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import intervals, means, mixes, trees
from weightspace.types import Data, Stack

# From coefficients [K, M] to scores [K], and per example [K, N] if known.
Scorer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def make(
  stack: Stack,
  score: Any,
  data: Data | None,
  *,
  host: bool | None = False,
  nan: float | None = None,
) -> Scorer:
  """Return the function from coefficients [K, M] to scores [K].

  Args:
    stack: M models.
    score: compiled `score(params, data)`, or a Python function of one model.
    data: None for a Python function `score(params)` or `score(params, None)`.
    host: the score is a Python function though there are data; None finds out.
    nan: what a score that is NaN counts as; None refuses it.
  """
  trees.check_finite(stack, "stack", stacked=True)
  stack, data = jax.tree.map(jnp.asarray, (stack, data))
  given = () if data is None and _alone(score) else (data,)

  def checked(scores: np.ndarray) -> np.ndarray:
    if nan is None:
      return _checked(scores)
    return np.where(np.isnan(scores), nan, scores)

  def python(weights: np.ndarray) -> tuple[np.ndarray, None]:
    mixed = (means.weighted_sum(stack, w) for w in weights)
    values = [number(score(params, *given)) for params in mixed]
    return checked(np.array(values)), None

  def compiled(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    found = mixes.scores(stack, jnp.asarray(weights), score, data)
    values = np.asarray(found, np.float64)
    if values.ndim == 1:
      return checked(values), None
    return checked(values.mean(1)), values

  return python if on_host(score, stack, data, host) else compiled


def on_host(
  score: Any, stack: Stack, data: Data | None, host: bool | None
) -> bool:
  """Tell whether a score is a Python function of one model."""
  if data is None or host is not None:
    return data is None or bool(host)
  model = jax.tree.map(lambda x: x[0], stack)
  try:
    jax.eval_shape(lambda p, d: jnp.asarray(score(p, d)), model, data)
  except (
    jax.errors.JAXTypeError,
    jax.errors.JAXIndexError,
  ):  # it asks for numbers while it is traced
    return True
  return False


def _alone(score: Any) -> bool:
  """Tell whether a Python score may be called with a model alone."""
  try:
    inspect.signature(score).bind(None)
  except TypeError:
    return False
  except ValueError:  # it does not say what it takes
    return True
  return True


def number(value: Any) -> float:
  """Return the score of a Python function as a float."""
  if np.size(value) != 1:
    raise ValueError(
      f"score: returned shape {np.shape(value)}, expected one number"
    )
  return float(np.asarray(value).item())


def _checked(scores: np.ndarray) -> np.ndarray:
  """Return the scores, or raise at the first NaN."""
  if np.isnan(scores).any():
    raise ValueError(
      f"score: returned NaN for mix {int(np.isnan(scores).argmax())}, expected"
      " a number"
    )
  return scores


def bootstrap(
  differences: np.ndarray, seed: int, draws: int = 1000
) -> intervals.Interval | None:
  """Return the 95 % percentile bootstrap of a mean, or None with infinities.

  A resample is a multinomial count of the distinct values, of which scores such
  as accuracy have few.
  """
  if not np.isfinite(differences).all():
    return None
  values, counts = np.unique(differences, return_counts=True)
  size, random = len(differences), np.random.default_rng(seed)
  shares = counts / size
  drawn = [random.multinomial(size, shares) @ values for _ in range(draws)]
  low, high = np.quantile(drawn, [0.025, 0.975]) / size
  mean = float(differences.mean())
  return intervals.Interval(mean, float(low), float(high), size)
