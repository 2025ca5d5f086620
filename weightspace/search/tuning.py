"""Searches over a recipe's own numbers, by the broods of `searches`.

>>> from weightspace.merge.methods.task_arithmetic import task_arithmetic
>>> models, start = {"w": jnp.array([2.0])}, {"w": jnp.array(0.0)}
>>> found = tune(task_arithmetic, {"scale": (0.0, 1.0)}, models,
...   lambda p: -abs(float(p["w"]) - 1.0), None, jax.random.key(0),
...   given={"base": start})
>>> round(found.hyper["scale"], 2)
0.5
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.search import evolution, scorers
from weightspace.types import Data, Key, Params, Score, Stack


class Tuned(NamedTuple):
  """What a search over a recipe's hyper-parameters found."""

  hyper: dict[str, float]
  score: float
  evaluations: int
  history: np.ndarray
  stopped: str
  state: dict[str, Any]
  params: Params | None = None  # the merge with these hyper-parameters

  def __repr__(self) -> str:
    return (
      f"Tuned({self.hyper}, score {self.score:.4g} after {self.evaluations}"
      " evaluations)"
    )


def tune(
  make: Callable[..., Callable[..., Any]],
  space: Mapping[str, tuple[float, float]],
  stack: Stack,
  score: Score | Callable[..., float],
  data: Data | None,
  key: Key,
  *,
  given: Mapping[str, Any] | None = None,
  budget: int = 200,
  host: bool | None = None,
  time_limit: float | None = None,
  resume: Mapping[str, Any] | None = None,
  checkpoint: str | os.PathLike[str] | None = None,
  brood: int = 16,
  step: float = 0.3,
) -> Tuned:
  """Search a recipe's hyper-parameters for the best score, on the device.

  Each candidate is merged and scored within one compiled program, or merged by
  one and scored on the host; no merged model is kept or written.

  Args:
    make: `make(**hyper) -> recipe`, such as `ws.merge.ties`; its numbers may be
      traced.
    space: {name: (least, largest)}; the corners and the middle are tried first.
    stack: M models.
    score, data, key, budget, host, time_limit, resume, checkpoint, brood: as in
      `evolve`.
    given: what the recipe is called with beside the stack: base, key,
      statistics.
    step: as in `evolve`, as a share of the space.

  Returns:
    Tuned.

  Raises:
    ValueError: for an empty space or one without extent, a budget of none.

  >>> from weightspace.merge.methods.task_arithmetic import task_arithmetic
  >>> models, start = {"w": jnp.array([1.0, 3.0])}, {"w": jnp.array(0.0)}
  >>> found = tune(task_arithmetic, {"scale": (0.0, 1.0)}, models,
  ...   lambda p, x: -(p["w"] - x) ** 2, jnp.array(1.0), jax.random.key(0),
  ...   given={"base": start})
  >>> round(found.hyper["scale"], 2)
  0.25

  What mergekit-evolve does by writing a checkpoint per candidate; ours.
  """
  names = list(space)
  if not names or any(not low < high for low, high in space.values()):
    raise ValueError(f"tune: space is {dict(space)}, expected low < high")
  if budget < 1:
    raise ValueError(f"tune: budget is {budget}, expected at least 1")
  low, high = np.array(list(space.values()), np.float64).T
  # The search runs over shares of the space.
  corners = np.array([[share] * len(names) for share in (0.5, 0.0, 1.0)])

  host = scorers.on_host(score, stack, data, host)
  held = jax.tree.map(jnp.asarray, (stack, dict(given or {}), data))
  values = _merged(make, names, score, host)

  def many(vectors: np.ndarray) -> np.ndarray:
    numbers = jnp.asarray(low + (high - low) * vectors, jnp.float32)
    found = values(numbers, *held)
    return np.where(np.isnan(found), -np.inf, found).astype(np.float64)

  def bounded(vectors: np.ndarray) -> np.ndarray:
    return np.clip(vectors, 0.0, 1.0)

  problem = evolution.Problem(
    "tune", many, corners, bounded, 1 if host else brood, brood, step
  )
  limits = evolution.Limits(budget, time_limit, resume, checkpoint)
  state, stopped, kept = evolution.search(problem, key, limits)
  best = low + (high - low) * state["best"]
  hyper = {name: float(value) for name, value in zip(names, best)}
  merged = make(**hyper)(stack, **dict(given or {}))
  return Tuned(hyper, *evolution.told(problem, state), stopped, kept, merged)


def _merged(
  make: Callable[..., Any], names: list[str], score: Any, host: bool
) -> Callable[..., np.ndarray]:
  """Return the function from numbers [K, D] for the names to scores [K]."""

  def merge(vector: jax.Array, stack: Stack, given: Any) -> Any:
    return make(**dict(zip(names, vector)))(stack, **given)

  @jax.jit
  def compiled(vectors: jax.Array, stack: Stack, given: Any, data: Data) -> Any:
    def one(vector: jax.Array) -> jax.Array:
      found = score(merge(vector, stack, given), data)
      return jnp.mean(jnp.asarray(found, float))

    return jax.lax.map(one, vectors)

  apart = jax.jit(merge)

  def python(vectors: jax.Array, stack: Stack, given: Any, data: Any) -> Any:
    more = () if data is None else (data,)
    merged = (apart(vector, stack, given) for vector in vectors)
    return [scorers.number(score(params, *more)) for params in merged]

  return lambda *args: np.asarray((python if host else compiled)(*args))
