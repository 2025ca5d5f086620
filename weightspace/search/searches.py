"""Evolutionary searches over the coefficients of a mix.

A brood of vectors is scored together on the device; the better half are the
parents of the next, which is drawn around their mean with a covariance that
follows the steps that paid (`covariances`).  The best vector is never lost, and
a search can stop at any brood and go on later.

>>> models = {"w": jnp.array([0.0, 1.0])}
>>> def score(p, x): return -((p["w"] - x) ** 2)
>>> found = evolve(models, score, jnp.array(2.0), jax.random.key(0))
>>> [round(w, 2) for w in found.weights.tolist()]  # outside of the models
[-1.0, 2.0]
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.search import evolution, scorers
from weightspace.types import Data, Key, Params, Score, Stack


class Found(NamedTuple):
  """What a search over coefficients found.

  `weighted_sum(stack, weights)` is the best mix.  `state` goes into `resume=`.
  """

  weights: jax.Array  # [M], as they multiply the stack
  score: float
  evaluations: int
  history: np.ndarray  # [broods, 2]: evaluations so far, best score so far
  stopped: str  # "budget" or "time"
  state: dict[str, Any]
  held_out: float | None = None  # score on data that the search did not see
  params: Params | None = None  # the best mix itself

  def __repr__(self) -> str:
    shown = np.round(np.asarray(self.weights), 4).tolist()
    return (
      f"Found(weights {shown}, score {self.score:.4g} after"
      f" {self.evaluations} evaluations)"
    )


def evolve(
  stack: Stack,
  score: Score | Callable[..., float],
  data: Data | None,
  key: Key,
  *,
  budget: int = 1000,
  affine: bool = True,
  first: Any = None,
  box: tuple[float, float] | None = None,
  ridge: float = 0.0,
  host: bool | None = None,
  time_limit: float | None = None,
  resume: Mapping[str, Any] | None = None,
  checkpoint: str | os.PathLike[str] | None = None,
  brood: int = 16,
  step: float = 0.3,
  held_out: Data | None = None,
) -> Found:
  """Search signed coefficients of sum_m w_m theta_m for the best score.

  The first brood holds each model alone, their uniform mean, the vectors of
  `first`, and random mixes; the best vector is kept from brood to brood, so the
  result is at least as good as each of these on the data of the search.

  Args:
    stack: M models (checkpoints of a run, or task vectors), leaves [M, ...].
    score: higher is better; NaN is worst.  `score(params, data)`, [] or [N],
      runs compiled, a brood at a time; on the host, it is any Python function
      of one model.
    data: of the score; None for a host-side `score(params)`, which is given
      None where it takes data as well.
    key: sets all draws.
    budget: mixes to score, first brood included.
    affine: the weights sum to one, as in a line through checkpoints (the paper:
      theta_1 + sum a_m (theta_m - theta_1)); without, they are free.
    first: [K, M] more vectors for the first brood, such as those of averages.
    box: the least and the largest weight, of every model; None for no bounds.
    ridge: takes ridge |w - mean|^2 from the score that is searched, against
      large coefficients that fit the data of the search alone; 0 for none.
    host: whether the score is a Python function of one model; None finds out
      by tracing it.
    time_limit: seconds; a brood on the device is finished, on the host it is
      broken off.
    resume: the `state` of an earlier result: the search goes on as if it had
      not stopped.
    checkpoint: a `.safetensors` file that the state is kept in after each
      brood, and read from where it exists.
    brood: mixes that are scored together.
    step: the spread of the second brood around the best of the first.
    held_out: more data, on which the best alone is scored, once, in the end:
      how much of its score was fitted to the data of the search.

  Returns:
    Found.

  Raises:
    ValueError: for a budget below M + 1, vectors that are not [K, M], a box
      without such weights, one model alone (affine), a state of another search,
      NaN in a model, a score that is NaN for all, or held-out data without
      data.

  >>> models = {"w": jnp.array([[1.0, 0.0], [0.0, 1.0]])}
  >>> found = evolve(models, lambda p: float(p["w"][1]), None,
  ...                jax.random.key(0), budget=40, box=(0.0, 1.0))
  >>> found.weights.tolist()
  [0.0, 1.0]

  Liu et al. 2024, "Linear combination of saved checkpoints makes consistency
  and diffusion models better", https://arxiv.org/abs/2404.02241; signed
  coefficients and the basis are the paper's, whose search code is not public:
  the broods are ours.
  """
  count = trees.size(stack)
  if held_out is not None and data is None:
    raise ValueError("evolve: held_out is given and data are None")
  rows = _first(count, first, affine)
  _check_box(count, box, affine)
  if budget < count + 1:
    raise ValueError(
      f"evolve: budget is {budget}, expected at least {count + 1}: each of"
      f" {count} models and their mean"
    )
  scorer = scorers.make(stack, score, data, host=host, nan=-np.inf)
  many = functools.partial(_scored, scorer, affine, ridge)
  bounded = functools.partial(_bounded, box, affine)
  together = 1 if scorers.on_host(score, stack, data, host) else brood
  free = rows[:, 1:] if affine else rows
  problem = evolution.Problem(
    "evolve", many, free, bounded, together, brood, step
  )
  limits = evolution.Limits(budget, time_limit, resume, checkpoint)
  state, stopped, kept = evolution.search(problem, key, limits)
  best = state["best"][None]
  best = _whole(best) if affine else best
  best = best if box is None else np.clip(best, *box)  # of rounding
  best, outside = np.asarray(best, np.float32), None
  if held_out is not None:
    other = scorers.make(stack, score, held_out, host=host, nan=-np.inf)
    outside = float(other(best)[0][0])
  told = evolution.told(problem, state)
  weights = jnp.asarray(best[0])
  mixed = means.weighted_sum(stack, weights)
  return Found(weights, *told, stopped, kept, outside, mixed)


def _scored(
  scorer: Any, affine: bool, ridge: float, vectors: np.ndarray
) -> np.ndarray:
  weights = _whole(vectors) if affine else vectors
  values = np.asarray(scorer(np.asarray(weights, np.float32))[0], np.float64)
  return values - ridge * ((weights - 1 / weights.shape[1]) ** 2).sum(1)


def _bounded(
  box: tuple[float, float] | None, affine: bool, vectors: np.ndarray
) -> np.ndarray:
  if box is None:
    return vectors
  if affine:
    return _within(_whole(vectors), box)[:, 1:]
  return np.clip(vectors, *box)


def _whole(vectors: np.ndarray) -> np.ndarray:
  """Return weights that sum to one, from all but the first."""
  return np.concatenate([1 - vectors.sum(1, keepdims=True), vectors], 1)


def _within(weights: np.ndarray, box: tuple[float, float]) -> np.ndarray:
  """Return the nearest weights [K, M] in a box that sum to one.

  >>> _within(np.array([[2.0, -1.0], [0.5, 0.5]]), (0.0, 1.0)).tolist()
  [[1.0, 0.0], [0.5, 0.5]]
  """
  least = box[0] - weights.max(1, keepdims=True)
  most = box[1] - weights.min(1, keepdims=True)
  for _ in range(60):
    shift = (least + most) / 2
    low = np.clip(weights + shift, *box).sum(1, keepdims=True) < 1
    least, most = np.where(low, shift, least), np.where(low, most, shift)
  outside = (weights < box[0]) | (weights > box[1])
  moved = np.clip(weights + most, *box)
  return np.where(outside.any(1, keepdims=True), moved, weights)


def _check_box(
  count: int, box: tuple[float, float] | None, affine: bool
) -> None:
  """Refuse a box that no vector of weights is in."""
  if affine and count < 2:
    raise ValueError(
      "evolve: 1 model, expected at least 2: the weight of one is 1 where"
      " weights sum to one (affine=False searches it)"
    )
  if box is None:
    return
  low, high = box
  if not low < high or (affine and not count * low <= 1 <= count * high):
    whole = f" that {count} weights with the sum 1 can be in" if affine else ""
    raise ValueError(f"evolve: box is {box}, expected low < high{whole}")


def _first(count: int, first: Any, affine: bool) -> np.ndarray:
  rows = np.concatenate([np.eye(count), np.full((1, count), 1 / count)])
  if first is None:
    return rows
  more = np.asarray(first, np.float64)
  if more.ndim != 2 or more.shape[1] != count or not np.isfinite(more).all():
    raise ValueError(f"evolve: first is {more.shape}, expected [K, {count}]")
  if affine and np.abs(more.sum(1) - 1).max(initial=0) > 1e-3:
    raise ValueError(
      f"evolve: first has sums {more.sum(1)}, expected 1 where weights sum to"
      " one (affine=False leaves them free)"
    )
  return np.concatenate([rows, more])
