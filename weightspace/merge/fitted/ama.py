"""Adaptive model averaging: each part of the depth its own ratio, one mean.

Fine-tuning for a reward costs other abilities; interpolating back to the model
before it pays some of them back.  With the mean ratio fixed, which parts of the
model should go back further is a search over a few numbers.

>>> base, tuned = {"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}
>>> def score(p, x): return x * p["b"] - p["a"]
>>> found = adaptive_average(base, tuned, score, jnp.ones(()), mean=0.25,
...                          parts=lambda path: "ab".index(path))
>>> found.ratios.round(3).tolist()
[0.0, 0.5]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.jaxpr import graph
from weightspace.merge.core import checks
from weightspace.types import Data, Params, Score

Parts = Callable[[str], int]  # from a parameter's path to the part it is in


class Ratios(NamedTuple):
  """What was found: params = ratio model + (1 - ratio) base, part by part."""

  ratios: np.ndarray  # [K], their mean is the one asked for
  params: Params
  score: float
  history: np.ndarray  # [steps + 1]: the score before each step, and the last


def adaptive_average(
  base: Params,
  model: Params,
  score: Score,
  data: Data,
  *,
  mean: float = 0.2,
  parts: int | Parts = 3,
  steps: int = 100,
  learning_rate: float = 0.05,
) -> Ratios:
  """Choose the ratio of each part for the best score, their mean fixed.

  Maximise score((1 - a_k) base + a_k model) over a_1 .. a_K in [0, 1] with
  (1/K) sum a_k = mean, by Adam on the interpolation with each step projected
  back.  It starts at a_k = mean and the best is kept, so the score is at least
  that of plain interpolation on the data of the search.

  Args:
    base: the model before fine-tuning.
    model: the model after it.
    score: differentiable, higher is better, [] or [N].  In the paper the mean
      log-likelihood of answers that `model` gave itself.
    data: of the score.
    mean: the mean ratio; the paper recommends 0.2.
    parts: K parts of the depth (3 in the paper), in the order in which the
      score uses them, or a function from a parameter's path to its part.
    steps: of Adam; ours, as is the learning rate.
    learning_rate: of Adam.

  Returns:
    Ratios.

  Raises:
    ValueError: for a mean outside [0, 1], no part, parts that are not numbered
      from 0, models that differ in structure, NaN.

  >>> base, tuned = {"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}
  >>> def score(p, x): return x * p["a"]
  >>> found = adaptive_average(base, tuned, score, jnp.ones(()), mean=0.5,
  ...                          parts=2)
  >>> found.ratios.round(3).tolist()
  [1.0, 0.0]

  Lin et al. 2024, "Mitigating the alignment tax of RLHF", sec. 6 and app. B.1,
  https://arxiv.org/abs/2309.06256; which part an embedding or head is in, and
  the optimiser, are not given there.
  """
  checks.number("adaptive_average: mean", mean, 0, 1)
  checks.number("adaptive_average: steps", steps, 0)
  base, model = (jax.tree.map(jnp.asarray, tree) for tree in (base, model))
  trees.check_same(base, model, "adaptive_average: model")
  for what, tree in (("base", base), ("model", model)):
    trees.check_finite(tree, f"adaptive_average: {what}")
  numbers = _numbers(base, score, data, parts)
  count = max(numbers.values()) + 1
  if sorted(set(numbers.values())) != list(range(count)):
    raise ValueError(
      f"adaptive_average: parts are {sorted(set(numbers.values()))}, expected"
      " 0, 1, .. without gaps"
    )
  rule = tuple(numbers[path] for path in trees.names(base))
  ratios = jnp.full(count, mean, jnp.float32)
  optimiser = optax.adam(learning_rate)
  state = optimiser.init(ratios)
  tried, history = [], []
  for _ in range(steps + 1):
    value, slope = _slope(ratios, (base, model), data, score, rule)
    tried.append(np.asarray(ratios))
    history.append(float(value))
    # What all parts share is taken out: the mean is not free to follow it.
    updates, state = optimiser.update(slope.mean() - slope, state)
    ratios = project(ratios + updates, mean)
  best = int(np.nanargmax(history)) if np.isfinite(history).any() else 0
  if not np.isfinite(history[best]):
    raise ValueError(f"adaptive_average: the score is {history[best]}")
  found = tried[best]
  params = _between(jnp.asarray(found), base, model, rule)
  return Ratios(found, params, history[best], np.array(history))


def _numbers(
  base: Params, score: Score, data: Data, parts: int | Parts
) -> dict[str, int]:
  """Return the part of each parameter."""
  if callable(parts):
    return {path: int(parts(path)) for path in trees.names(base)}
  blocks = depth_order(score, base, data)
  if not 1 <= parts <= len(blocks):
    raise ValueError(
      f"adaptive_average: {parts} parts, expected 1 to {len(blocks)}, the"
      " number of blocks"
    )
  place = {block: i * parts // len(blocks) for i, block in enumerate(blocks)}
  return {path: place[_block(path)] for path in trees.names(base)}


def _block(path: str) -> str:
  return path.split("/")[0]


def depth_order(
  function: Callable[..., Any], params: Params, *args: Any
) -> list[str]:
  """Return the first names of paths, in the order in which they are used.

  >>> params = {"last": jnp.ones(2), "first": jnp.ones(2)}
  >>> def apply(p, x): return (p["first"] * x) @ p["last"]
  >>> depth_order(apply, params, jnp.ones(2))
  ['first', 'last']
  """
  program = graph.trace(function, params, *args)
  paths = trees.names(params)
  given = dict(zip(program.inputs, paths))
  order: dict[str, None] = {}
  for eqn in program.equations:
    used = [
      given[i] for i in eqn.inputs if isinstance(i, graph.Ref) and i in given
    ]
    order |= dict.fromkeys(map(_block, used))
  return list(order | dict.fromkeys(map(_block, paths)))


@jax.jit
def project(values: jax.Array, mean: float | jax.Array) -> jax.Array:
  """Return the nearest point of [0, 1]^K with this mean.

  clip(values + shift, 0, 1), with the shift that gives the mean.

  >>> project(jnp.array([2.0, 0.25, 0.0]), 0.5).round(3).tolist()
  [1.0, 0.375..., 0.125...]
  """
  low, high = -values.max() - 1.0, 2.0 - values.min()

  def halve(_: int, ends: tuple) -> tuple:
    low, high = ends
    middle = (low + high) / 2
    less = jnp.clip(values + middle, 0.0, 1.0).mean() < mean
    return jnp.where(less, middle, low), jnp.where(less, high, middle)

  low, high = jax.lax.fori_loop(0, 40, halve, (low, high))
  return jnp.clip(values + (low + high) / 2, 0.0, 1.0)


def _between(
  ratios: jax.Array, base: Params, model: Params, rule: tuple[int, ...]
) -> Params:
  """Return (1 - a_k) base + a_k model, each leaf by its part."""
  leaves, structure = jax.tree.flatten(base)

  def leaf(b: jax.Array, m: jax.Array, part: int) -> jax.Array:
    if not trees.inexact(b):
      return b
    wide = trees.accumulator(b.dtype)
    moved = ratios[part] * (m.astype(wide) - b.astype(wide))
    return (b.astype(wide) + moved).astype(b.dtype)

  mixed = map(leaf, leaves, jax.tree.leaves(model), rule)
  return jax.tree.unflatten(structure, list(mixed))


@functools.partial(jax.jit, static_argnames=("score", "rule"))
def _slope(
  ratios: jax.Array,
  ends: tuple[Params, Params],
  data: Data,
  score: Score,
  rule: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
  """Return the score between two models, and its gradient by the ratios."""

  def value(ratios: jax.Array) -> jax.Array:
    return jnp.mean(score(_between(ratios, *ends, rule), data))

  return jax.value_and_grad(value)(ratios)
