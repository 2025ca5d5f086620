"""Searches in broods: budgets, time limits, and going on where one stopped.

>>> def many(vectors): return -((vectors - 2.0) ** 2).sum(1)
>>> problem = Problem("demo", many, np.zeros((1, 1)), lambda v: v, 8, 8, 1.0)
>>> limits = Limits(200, None, None, None)
>>> state, stopped, _ = search(problem, jax.random.key(0), limits)
>>> state["best"].round(2).tolist(), stopped
([2.0], 'budget')
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace import checkpoints
from weightspace.search import cma
from weightspace.types import Key

# From vectors [K, D] to scores [K]; higher is better, NaN is worst.
ScoreMany = Callable[[np.ndarray], np.ndarray]


class Problem(NamedTuple):
  """What is searched: scores, the first vectors, and the bounds."""

  what: str
  many: ScoreMany
  first: np.ndarray  # [K, D]
  bounded: Callable[[np.ndarray], np.ndarray]
  together: int  # vectors to score at a time
  brood: int
  step: float


class Limits(NamedTuple):
  """When a search ends, and where it goes on from."""

  budget: int
  seconds: float | None
  resume: Mapping[str, Any] | None
  checkpoint: str | os.PathLike[str] | None


def search(
  problem: Problem, key: Key, limits: Limits
) -> tuple[dict[str, Any], str, dict[str, Any]]:
  """Return the last state, why it is the last, and that of the last brood.

  A brood that is cut short counts in the first of the two alone: from the other
  the search goes on as if it had not stopped.
  """
  start = time.monotonic()
  state = _begin(problem, key, limits)
  while True:
    left = limits.budget - int(state["evaluations"])
    if left <= 0:
      return state, "budget", state
    late = _late(limits.seconds, start)
    if late and len(state["history"]):
      return state, "time", state
    brood = _brood(problem, key, state)
    values = _scored(problem, brood[:left], limits.seconds, start)
    new = _joined(state, brood, values, problem.step)
    if len(values) < len(brood):
      return new, "budget" if len(values) == left else "time", state
    state = new
    if limits.checkpoint is not None:
      checkpoints.save(limits.checkpoint, state, overwrite=True)


def _late(seconds: float | None, start: float) -> bool:
  return seconds is not None and time.monotonic() - start >= seconds


def told(
  problem: Problem, state: dict[str, Any]
) -> tuple[float, int, np.ndarray]:
  """Return the best score, the number of evaluations, and the history."""
  score = float(state["score"])
  if not np.isfinite(score):
    raise ValueError(
      f"{problem.what}: no vector has a finite score, expected at least one"
    )
  return score, int(state["evaluations"]), state["history"]


def _begin(problem: Problem, key: Key, limits: Limits) -> dict[str, Any]:
  """Return the state to go on from."""
  if problem.brood < 1 or not problem.step > 0:
    raise ValueError(
      f"{problem.what}: brood is {problem.brood} and step {problem.step},"
      " expected at least 1 and above 0"
    )
  size = problem.first.shape[1]
  words = np.asarray(jax.random.key_data(key)).astype(np.int64).ravel()
  mark = np.concatenate([words, [size, len(problem.first), problem.brood]])
  found = limits.resume
  if found is None and limits.checkpoint is not None:
    if os.path.exists(limits.checkpoint):
      found = checkpoints.restore(limits.checkpoint)
  if found is None:
    return cma.begin(size) | {
      "best": np.zeros(size),
      "score": np.float64(-np.inf),
      "history": np.zeros((0, 2)),
      "evaluations": np.int64(0),
      "mark": mark,
    }
  if "mark" not in found or not np.array_equal(found["mark"], mark):
    raise ValueError(
      f"{problem.what}: the state is of another search, expected one with this"
      " key, these models and this brood"
    )
  return {name: np.asarray(value) for name, value in found.items()}


def _brood(problem: Problem, key: Key, state: dict[str, Any]) -> np.ndarray:
  """Return the vectors to score next, [K, D]; the draws depend on the brood."""
  number = len(state["history"])
  words = jax.random.key_data(jax.random.fold_in(key, number))
  random = np.random.default_rng(np.asarray(words).ravel().tolist())
  if number:
    drawn = cma.ask(state, problem.brood, random)
    return problem.bounded(drawn)
  more = max(0, problem.brood - len(problem.first))
  shares = random.dirichlet(np.ones(len(problem.first)), more)
  first = np.concatenate([problem.first, shares @ problem.first])
  return problem.bounded(first)


def _scored(
  problem: Problem, brood: np.ndarray, seconds: float | None, start: float
) -> np.ndarray:
  """Return the scores of a brood, or of its beginning when time is over."""
  values: list[float] = []
  for place in range(0, len(brood), problem.together):
    if values and _late(seconds, start):
      break
    part = brood[place : place + problem.together]
    # Filled up with the last vector: every size would be a program of its own.
    filled = np.repeat(part[-1:], problem.together - len(part), 0)
    found = problem.many(np.concatenate([part, filled]))
    values += list(found[: len(part)])
  return np.array(values, np.float64)


def _joined(
  state: dict[str, Any], brood: np.ndarray, values: np.ndarray, step: float
) -> dict[str, Any]:
  """Return the state with a brood; equal scores keep the earlier vector."""
  brood, first = brood[: len(values)], int(np.argmax(values))
  better = values[first] > state["score"]
  best = brood[first] if better else state["best"]
  score = np.maximum(values[first], state["score"])
  done = state["evaluations"] + len(values)
  opening = not len(state["history"])
  moved = (
    cma.restart(state, best, step)
    if opening
    else cma.tell(state, brood, values)
  )
  line = np.array([[float(done), float(score)]])
  return moved | {
    "best": best,
    "score": np.float64(score),
    "history": np.concatenate([state["history"], line]),
    "evaluations": np.int64(done),
    "mark": state["mark"],
  }
