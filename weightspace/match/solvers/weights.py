"""Weight matching: the order of one model's units that is nearest to another's.

max over permutations of <theta_a, P theta_b>, one name at a time: with all
others fixed it is a linear assignment.  Deterministic by key and names; only
strict gains move a unit.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "2 a"}, {"a": 3}, {"w:0": "input"})
>>> a = {"w": np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])}
>>> b = {"w": a["w"][:, [2, 0, 1]]}
>>> found = match_weights(axes, a, b)
>>> found.perm["a"].tolist(), found.objective
([1, 2, 0], 15.0)
"""

import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.hosts import multihost
from weightspace.match.solvers import (
  assignment,
  coordinate_descent,
  grams,
  matching_plan,
)
from weightspace.match.solvers.coordinate_descent import Descent
from weightspace.match.solvers.matching_plan import Plan
from weightspace.symmetry import checks, permutations
from weightspace.symmetry.axes import Axes, Perm, blocks, free, parse
from weightspace.types import Key, Params, Stack

Order = Callable[[list[str], int], list[str]]  # (names, sweep) -> names


class Matched(NamedTuple):
  """A permutation of b towards a, and how it was found.

  `bound` is no less than the objective of any permutation: a certificate of how
  far from the best this can be at most.
  """

  perm: Perm
  objective: float  # <a, P b> over all parameters, in float64
  sweeps: int
  trace: list[float]  # the objective at the start and after each sweep
  moved: int  # units that are not where they were
  bound: float
  starts: list[float]  # the objective that each restart reached
  solves: int
  seconds: dict[str, float]


def match_weights(
  axes: Axes,
  a: Params,
  b: Params,
  key: Key | None = None,
  restarts: int = 1,
  *,
  sweeps: int = 100,
  order: Order | None = None,
  start: Perm | None = None,
  solver: str = "scipy",
) -> Matched:
  """Find the permutation of b that is nearest to a.

  `permute(axes, result.perm, b)` is b aligned to a.  By coordinate descent: the
  best order of one name, the others fixed, until none gains.  Names that hold
  others (heads) are matched together with them; a name twice on one leaf (tied
  weights) is linearised and a move kept only if it gains.  BatchNorm statistics
  move with their layer and are not compared.

  Args:
    axes: from `trace_axes`.
    a: the model that stays.
    b: the model that is permuted.
    key: draws the order of names in each sweep, and the restarts; None for the
      order of the axes, there and back.
    restarts: descents; the first from the identity (or `start`), each further
      one from a random permutation.  The best is returned.
    sweeps: at most so many.
    order: `order(names, sweep) -> names`, in place of the drawn one.
    start: where the first descent begins; names that are left out, where they
      are.
    solver: "scipy" on the host, "optax" on the device.

  Returns:
    Matched.

  Raises:
    ValueError: for models that differ from each other or do not fit the axes,
      or are not finite, naming the first leaf; for a start that is no
      permutation, or an order of unknown names.

  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> match_weights(axes, {"w": np.ones(2)}, {"w": np.ones(2)}).moved  # ties
  0

  Ainsworth et al. 2023, "Git Re-Basin", https://arxiv.org/abs/2209.04836,
  algorithm 1.  Solving again only where a neighbour moved, keeping ties, and
  the nested step are ours.
  """
  _check(axes, a, b, restarts, sweeps)
  if start is not None:
    checks.check_perm(axes, start)
    start = permutations.identity(axes, a) | start
  plan = matching_plan.make_plan(axes, a)
  xp: Any = np if jax.default_backend() == "cpu" else jnp
  left, right = matching_plan.load(plan, a, xp), matching_plan.load(plan, b, xp)
  left = grams.held(left)

  def run(number: int) -> Descent:
    begin = start if number == 0 else _drawn(axes, b, key, number)
    rows = itertools.islice(_orders(plan, key, number, order), sweeps)
    return coordinate_descent.descend(
      plan, left, right, rows, solver, start=begin
    )

  found = _each(run, range(restarts))
  return _result(plan, found, left, right)


def match_pairs(
  axes: Axes,
  a: Params | Stack | list[Params],
  b: Stack | list[Params],
  key: Key | None = None,
  **settings: Any,
) -> list[Matched]:
  """Match many pairs in one call, side by side, and over all processes.

  Args:
    axes: from `trace_axes`.
    a: one model for all, or a Stack [N, ...] or list, one for each pair.
    b: Stack [N, ...] or list of the models that are permuted.
    key, **settings: as in `match_weights`; pair n draws from fold_in(key, n).

  Returns:
    N results, as N calls of `match_weights` would give.

  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> pair = {"w": np.array([[1.0, 2.0], [2.0, 1.0]])}
  >>> [m.moved for m in match_pairs(axes, {"w": np.array([1.0, 2.0])}, pair)]
  [0, 2]
  """
  models = as_list(axes, b)
  left = as_list(axes, a)
  left = left * len(models) if len(left) == 1 else left
  if len(left) != len(models):
    raise ValueError(
      f"match_pairs: {len(left)} models in a, expected {len(models)} as in b"
    )

  def one(number: int) -> Matched:
    own = None if key is None else jax.random.fold_in(key, number)
    return match_weights(axes, left[number], models[number], own, **settings)

  run = functools.partial(_each, one)
  return multihost.each(run, len(models))


def as_list(axes: Axes, models: Any) -> list[Params]:
  """Return the models of a Stack, of a list, or one alone."""
  own: Any = jax.tree.structure(axes.tree)
  if isinstance(models, list | tuple) and own != jax.tree.structure(models):
    return list(models)
  pattern, leaf = jax.tree.leaves(axes.tree)[0], jax.tree.leaves(models)[0]
  if np.ndim(leaf) == len(parse(pattern)):
    return [models]
  return trees.unstack(jax.tree.map(np.asarray, models))


def _each(function: Callable[[int], Any], numbers: Sequence[int]) -> list[Any]:
  """Run side by side: assignment releases the interpreter."""
  if len(numbers) == 1:
    return [function(numbers[0])]
  with concurrent.futures.ThreadPoolExecutor(assignment.WORKERS) as pool:
    return list(pool.map(function, numbers))


def _check(
  axes: Axes, a: Params, b: Params, restarts: int, sweeps: int
) -> None:
  checks.check_models(axes, "match_weights", a, b)
  for name, value in (("restarts", restarts), ("sweeps", sweeps)):
    if value < 1:
      raise ValueError(f"match_weights: {name} is {value}, expected at least 1")


def _drawn(axes: Axes, b: Params, key: Key | None, number: int) -> Perm:
  key = jax.random.key(0) if key is None else key
  return permutations.random(axes, b, jax.random.fold_in(key, number))


def _orders(
  plan: Plan, key: Key | None, number: int, order: Order | None
) -> Any:
  """Yield the names in the order of each sweep."""
  names = [n for n in free(plan.axes) if plan.places[n]]
  # What holds others comes before what it holds.
  names.sort(key=lambda n: len(blocks(n)))
  words = None
  if key is not None:
    own = key if number == 0 else jax.random.fold_in(key, number)
    words = np.asarray(jax.random.key_data(own)).ravel().tolist()
  for sweep in itertools.count():
    if order is not None:
      yield _known(order(names, sweep), names)
    elif words is None:
      yield names[::-1] if sweep % 2 else names
    else:
      stream = np.random.Generator(np.random.Philox([*words, sweep]))
      yield [names[k] for k in stream.permutation(len(names))]


def _known(chosen: list[str], names: list[str]) -> list[str]:
  for name in chosen:
    if name not in names:
      raise ValueError(
        f"order: {name!r} is unknown, expected names of the axes"
      )
  return chosen


def _result(
  plan: Plan, found: list[Descent], a: list[Any], b: list[Any]
) -> Matched:
  best = max(found, key=lambda d: d.objective)
  return Matched(
    best.perm,
    best.objective,
    best.sweeps,
    best.trace,
    permutations.moved(best.perm),
    bound(plan, a, b),
    [d.objective for d in found],
    sum(d.solves for d in found),
    best.seconds,
  )


def bound(plan: Plan, a: list[Any], b: list[Any]) -> float:
  """Return an upper bound of <a, P b> over all permutations P.

  Each piece by itself: the norms of its slices, sorted, multiplied and summed
  (Cauchy-Schwarz and rearrangement), along the axis where that is least; what
  nothing moves counts as it is.
  """
  total = 0.0
  for k, piece in enumerate(plan.pieces):
    x, y = np.asarray(a[k]), np.asarray(b[k])
    if not any(label in plan.places for label in piece.labels):
      total += matching_plan.objective([x], [y], [0])
      continue
    axes = [
      axis
      for axis, label in enumerate(piece.labels)
      if label in plan.places and not blocks(label)
    ]
    every = list(range(x.ndim))
    squares = [np.einsum(z, every, z, every, axes, dtype=float) for z in (x, y)]
    found = [float(np.sqrt(squares[0].sum() * squares[1].sum()))]
    for place in range(len(axes)):
      rest = tuple(i for i in range(len(axes)) if i != place)
      norms = [np.sort(np.sqrt(z.sum(rest))) for z in squares]
      found.append(float(norms[0] @ norms[1]))
    total += min(found)
  return total
