"""Permutations learned by gradients: straight-through, and Sinkhorn.

Both look at more than the weights: the loss of the mean of aligned models, on
data (straight-through), or any differentiable function of the softly permuted
model (Sinkhorn).

>>> axes = Axes({"w": "a"}, {"a": 2}, {})
>>> a, b = {"w": jnp.array([1.0, 3.0])}, {"w": jnp.array([3.0, 1.0])}
>>> found = match_sinkhorn(axes, a, b, key=jax.random.key(0), steps=20)
>>> found.perms[1]["a"].tolist()
[1, 0]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.jaxpr import closures
from weightspace.match.solvers import matching_plan, soft, weights
from weightspace.symmetry import checks, permutations
from weightspace.symmetry.axes import Axes, Perm
from weightspace.types import Data, Key, Loss, Params, Stack


class Learned(NamedTuple):
  """One permutation a model, the first's the identity, and the losses."""

  perms: list[Perm]
  loss: float  # of the permutations returned, on all the data that judged
  losses: np.ndarray  # [steps]


def straight_through(
  axes: Axes,
  loss: Loss,
  stack: Stack,
  data: Data,
  *,
  key: Key,
  steps: int = 50,
  batch_size: int = 500,
  optimizer: Any = None,
  judge: Data | None = None,
) -> Learned:
  """Learn permutations that lower the loss of the mean of the models.

  For each model but the first a free copy of the first is kept; a step matches
  the models to their copies by weights (from the last permutation on), takes
  the gradient of the loss at the mean of the permuted models, and passes it to
  the copies as if these had been averaged.

  Args:
    axes: from `trace_axes`.
    loss: loss(params, batch), [] or [B].
    stack: M models, leaves [M, ...], or a list; a pair in the paper.
    data: arrays [N, ...] that batches are drawn from.
    key: of the batches.
    steps: how many.
    batch_size: B; N at most.
    optimizer: optax; SGD at 0.01 with momentum 0.9 when left out (the paper's).
    judge: data that choose between the permutations seen; the first of `data`,
      as many as a batch, when left out (the paper's code compares different
      batches, which favours lucky ones).

  Returns:
    Learned.

  >>> def loss(p, x): return jnp.mean((p["w"][None] - x) ** 2)
  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> pair = {"w": jnp.array([[0.0, 1.0], [1.0, 0.0]])}
  >>> straight_through(axes, loss, pair, jnp.array([[0.0, 1.0]]),
  ...   key=jax.random.key(0), steps=2).perms[1]["a"].tolist()
  [1, 0]

  Ainsworth et al. 2023, https://arxiv.org/abs/2209.04836, algorithm 2; more
  than two models, and the fixed judge, are ours.
  """
  models, loss = weights.as_list(axes, stack), closures.fixed(loss)
  for number, model in enumerate(models):
    checks.check_params(axes, model, f"straight_through: model {number}")
    checks.check_finite(model, f"straight_through: model {number}")
  count = checks.check_batch(data, "straight_through", batch_size)
  size = min(batch_size, count)
  judge = jax.tree.map(lambda x: x[:size], data) if judge is None else judge
  tx = optax.sgd(0.01, momentum=0.9) if optimizer is None else optimizer
  first, *others = [jax.tree.map(jnp.asarray, m) for m in models]
  free = [first] * len(others)
  state = tx.init(free)
  now = [permutations.identity(axes, first)] * len(others)
  # To leave the models as they are is a candidate too.
  best, losses = (float(_at_mean(loss, first, others, judge)[0]), now), []
  for step in range(steps):
    now = [_match(axes, f, b, p) for f, b, p in zip(free, others, now)]
    moved = [permutations.permute(axes, p, b) for p, b in zip(now, others)]
    index = jax.random.choice(jax.random.fold_in(key, step), count, (size,))
    batch = jax.tree.map(lambda x, i=index: jnp.asarray(x)[i], data)
    value, gradient = _at_mean(loss, first, moved, batch)
    judged = float(_at_mean(loss, first, moved, judge)[0])
    losses.append(float(value))
    best = min(best, (judged, now), key=lambda pair: pair[0])
    updates, state = tx.update(gradient, state, free)
    free = optax.apply_updates(free, updates)
  one = permutations.identity(axes, first)
  return Learned([one, *best[1]], best[0], np.array(losses))


def _match(axes: Axes, a: Params, b: Params, start: Perm) -> Perm:
  return weights.match_weights(axes, a, b, start=start).perm


@functools.partial(jax.jit, static_argnums=0)
def _at_mean(
  loss: Loss, first: Params, moved: list[Params], batch: Data
) -> Any:
  """Return the loss at the mean, and its gradient in the permuted models."""

  def at(moved: list[Params]) -> jax.Array:
    mean = jax.tree.map(lambda *x: sum(x) / len(x), first, *moved)
    return jnp.mean(loss(mean, batch))

  return jax.value_and_grad(at)(moved)


def match_sinkhorn(
  axes: Axes,
  a: Params,
  b: Params,
  objective: Callable[[Params], jax.Array] | None = None,
  *,
  key: Key,
  steps: int = 50,
  rate: float = 0.1,
  temperature: float = 1.0,
) -> Learned:
  """Learn the permutation of b by gradients through soft permutations.

  One matrix of scores a name, near the identity at first, made doubly
  stochastic by `sinkhorn`; in the end rounded by assignment.  Names in blocks
  (heads) and blocks stay as they are.

  Args:
    axes: from `trace_axes`.
    a: the model that stays.
    b: the model that is permuted.
    objective: of the softly permuted b, lower is better; the squared distance
      to a when left out.  Pass the same function again to reuse its program.
    key: of the noise on the scores.
    steps: of Adam.
    rate: of Adam.
    temperature: scores are divided by it.

  Returns:
    Learned: `.perms[1]` is that of b.

  Peña et al. 2023, "Re-basin via implicit Sinkhorn differentiation",
  https://arxiv.org/abs/2212.12042.
  """
  checks.check_models(axes, "match_sinkhorn", a, b)
  names = soft.flat_names(axes)
  scores = {}
  for number, name in enumerate(names):
    n, own = axes.sizes[name], jax.random.fold_in(key, number)
    scores[name] = jnp.eye(n) + 0.1 * jax.random.normal(own, (n, n))

  def value(scores: Any, a: Params, b: Params) -> jax.Array:
    matrices = {
      n: soft.sinkhorn(s / temperature, 20) for n, s in scores.items()
    }
    mixed = soft.soft_permute(axes, matrices, b)
    if objective is not None:
      return objective(mixed)
    return _distance(axes, a, mixed)

  tx = optax.adam(rate)

  @jax.jit
  def step(scores: Any, state: Any, a: Params, b: Params) -> Any:
    found, gradient = jax.value_and_grad(value)(scores, a, b)
    updates, state = tx.update(gradient, state, scores)
    return optax.apply_updates(scores, updates), state, found

  state, losses = tx.init(scores), []
  for _ in range(steps):
    scores, state, found = step(scores, state, a, b)
    losses.append(float(found))
  one = permutations.identity(axes, a)
  hard = one | soft.harden(scores)
  moved = permutations.permute(axes, hard, b)
  last = (
    objective(moved) if objective is not None else _distance(axes, a, moved)
  )
  return Learned([one, hard], float(last), np.array(losses))


def _distance(axes: Axes, a: Params, b: Params) -> jax.Array:
  total = jnp.zeros(())
  pairs = zip(trees.named(a).items(), jax.tree.leaves(b))
  for (path, x), y in pairs:
    if trees.inexact(x) and not checks.is_statistic(path, axes):
      apart = jnp.asarray(x, jnp.float32) - jnp.asarray(y, jnp.float32)
      total += jnp.sum(jnp.abs(apart) ** 2)
  return total


def objective_of(axes: Axes, a: Params, b: Params, perm: Perm) -> float:
  """Return <a, P b>, what weight matching makes large.

  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> a = {"w": np.array([1.0, 2.0])}
  >>> objective_of(axes, a, a, {"a": np.array([1, 0])})
  4.0
  """
  plan = matching_plan.make_plan(axes, a)
  left = matching_plan.load(plan, a)
  right = matching_plan.order(plan, matching_plan.load(plan, b), perm)
  return matching_plan.objective(left, right, range(len(left)))
