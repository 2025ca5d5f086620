"""Synthetic data that lead students along experts' trajectories.

>>> loss = lambda params, batch: (params["w"] - batch["x"]) ** 2 / 2
>>> experts = {"w": jnp.array([[0.0, 1.0, 1.5]])}  # rate 0.5 towards 2
>>> begin = {"x": jnp.array([0.5])}
>>> found = match(loss, experts, begin, jax.random.key(0), rounds=999, steps=1,
...   ahead=1, rate=0.5, tx=optax.adam(0.03))
>>> found.data["x"].round(1).tolist(), found.rate.round(1).item()
([2.0], 0.5)
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.generate.expert_trajectories import balance
from weightspace.generate.inner_steps import matching_loss
from weightspace.losses import objectives
from weightspace.types import Data, Key, Loss, Params, Stack


class Matched(NamedTuple):
  """Learned synthetic data, the rate to train on them, and the way there."""

  data: Data  # [n, ...]
  rate: jax.Array  # []
  distances: jax.Array  # [rounds], the matching loss of each


class Plan(NamedTuple):
  """The settings of matching that are no arrays."""

  loss: Loss
  tx: optax.GradientTransformation
  steps: int
  ahead: int
  last: int
  batch_size: int
  momentum: float
  between: bool
  balanced: bool


def match(
  loss: Loss,
  trajectories: Stack,
  data: Data,
  key: Key,
  *,
  rounds: int,
  steps: int = 10,
  ahead: int = 2,
  last: int | None = None,
  batch_size: int | None = None,
  rate: float = 0.01,
  tx: optax.GradientTransformation | None = None,
  momentum: float = 0.0,
  between: bool = False,
  balanced: bool = False,
) -> Matched:
  """Learn examples, and a rate, on which students follow experts.

  In each round an expert and a start are drawn, the student takes `steps`
  steps, and the gradient of its distance to the expert `ahead` snapshots later
  moves the examples and the logarithm of the rate.

  Args:
    loss: `loss(params, batch)`, one number or one per example.
    trajectories: E experts' snapshots, leaves [E, T, ...].
    data: where the examples begin, [n, ...], say real ones; floating leaves are
      learned, labels that are whole numbers stay.
    key: draws experts, starts and the order of examples.
    rounds: how many.
    steps: of the student, N.
    ahead: snapshots that the expert is ahead, M.
    last: the largest start; None for T - 1 - ahead.
    batch_size: of the student; None for all n.
    rate: of the student at first, above 0.
    tx: moves {"data", "rate"}; None for Adam at 0.01.
    momentum: of the student.
    between: match the snapshots on the way too, all alike.
    balanced: weigh the student's loss by `balance`, as the paper does.

  Returns:
    Matched.

  Raises:
    ValueError: for numbers out of range, NaN, an expert that stands still, or
      data without floating leaves.

  Cazenavette et al. 2022, https://arxiv.org/abs/2203.11932; Shen et al. 2023,
  https://arxiv.org/abs/2310.10541.  The logarithm of the rate, and the same
  optimiser for both, are ours.
  """
  data = jax.tree.map(jnp.asarray, data)
  count = _check_match(trajectories, data, steps, ahead, last, rate)
  last = count - 1 - ahead if last is None else last
  size = len(jax.tree.leaves(data)[0])
  rows = size if batch_size is None else batch_size
  if not 1 <= rows <= size:
    raise ValueError(f"match: batch_size is {rows}, expected 1 to {size}")
  plan = Plan(
    loss,
    optax.adam(0.01) if tx is None else tx,
    steps,
    ahead,
    last,
    rows,
    momentum,
    between,
    balanced,
  )
  leaves, structure = jax.tree.flatten(data)
  learned = [trees.inexact(leaf) for leaf in leaves]
  free = [leaf for leaf, one in zip(leaves, learned) if one]
  state = {"data": free, "rate": jnp.log(jnp.asarray(rate, jnp.float32))}
  fixed = [leaf for leaf, one in zip(leaves, learned) if not one]
  state, distances = _rounds(
    plan, structure, tuple(learned), state, fixed, trajectories,
    jax.random.split(key, rounds),
  )  # fmt: skip
  found = _together(structure, tuple(learned), state["data"], fixed)
  return Matched(found, jnp.exp(state["rate"]), distances)


def _check_match(
  trajectories: Stack, data: Data, steps: int, ahead: int, last: Any, rate: Any
) -> int:
  """Return the number of snapshots, of input that fits together."""
  trees.size(trajectories)
  trees.check_finite(trajectories, "match: trajectories", stacked=True)
  trees.check_finite(data, "match: data")
  count = trees.size(jax.tree.map(lambda x: x[0], trajectories))
  if not 1 <= ahead < count:
    raise ValueError(
      f"match: ahead is {ahead}, expected 1 to {count - 1} for {count}"
      " snapshots"
    )
  if last is not None and not 0 <= last <= count - 1 - ahead:
    raise ValueError(
      f"match: last is {last}, expected 0 to {count - 1 - ahead}"
    )
  if steps < ahead:
    raise ValueError(f"match: {steps} steps, expected at least ahead, {ahead}")
  if not (np.isfinite(rate) and rate > 0):
    raise ValueError(f"match: rate is {rate}, expected above 0")
  if not any(trees.inexact(leaf) for leaf in jax.tree.leaves(data)):
    raise ValueError("match: data have no floating leaves, expected some")
  return count


def _together(
  structure: Any, learned: tuple[bool, ...], free: Any, fixed: Any
) -> Data:
  parts = {True: iter(free), False: iter(fixed)}
  return jax.tree.unflatten(structure, [next(parts[one]) for one in learned])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _rounds(
  plan: Plan,
  structure: Any,
  learned: tuple[bool, ...],
  state: dict[str, Any],
  fixed: list[jax.Array],
  trajectories: Stack,
  keys: Key,
) -> tuple[dict[str, Any], jax.Array]:
  experts = len(jax.tree.leaves(trajectories)[0])

  def one(carry: Any, key: Key) -> tuple[Any, jax.Array]:
    state, moments = carry
    pick, at, mix = jax.random.split(key, 3)
    expert = jax.random.randint(pick, (), 0, experts)
    begin = jax.random.randint(at, (), 0, plan.last + 1)
    start, targets = _stretch(trajectories, expert, begin, plan.ahead)

    def distance(state: dict[str, Any]) -> jax.Array:
      data = _together(structure, learned, state["data"], fixed)
      size = len(jax.tree.leaves(data)[0])
      order = _order(mix, plan.steps, plan.batch_size, size)
      factor = balance(begin, plan.last) if plan.balanced else 1.0
      return matching_loss(
        lambda p, batch: factor * objectives.mean(plan.loss, p, batch),
        start,
        targets,
        data,
        jnp.exp(state["rate"]),
        order,
        momentum=plan.momentum,
        weights=jnp.ones(plan.ahead) if plan.between else None,
      )

    value, slope = jax.value_and_grad(distance)(state)
    updates, moments = plan.tx.update(slope, moments, state)
    return (optax.apply_updates(state, updates), moments), value

  (state, _), distances = jax.lax.scan(one, (state, plan.tx.init(state)), keys)
  return state, distances


def _stretch(
  trajectories: Stack, expert: jax.Array, begin: jax.Array, ahead: int
) -> tuple[Params, Stack]:
  """Return an expert's snapshot, and the `ahead` snapshots after it."""
  start = jax.tree.map(lambda x: x[expert, begin], trajectories)
  later = begin + 1 + jnp.arange(ahead)
  return start, jax.tree.map(lambda x: x[expert, later], trajectories)


def _order(key: Key, steps: int, batch: int, size: int) -> jax.Array:
  """Return rows [S, B]: passes over all examples, each in a new order."""
  passes = -(-steps * batch // size)
  keys = jax.random.split(key, passes)
  orders = jax.vmap(lambda k: jax.random.permutation(k, size))(keys)
  return orders.reshape(-1)[: steps * batch].reshape(steps, batch)
