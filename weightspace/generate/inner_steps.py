"""A student's steps on synthetic data, and how far they lead from an expert.

The student takes a few steps on the synthetic data from where an expert was;
how far it ends from where the expert came to is a function of these data, and
its gradient goes back through the steps.

>>> loss = lambda params, batch: (params["w"] - batch["x"]) ** 2 / 2
>>> expert = {"w": jnp.array([0.0, 1.0])}  # one step of rate 0.5 towards 2
>>> start, target = ({"w": w} for w in expert["w"])
>>> target = jax.tree.map(lambda x: x[None], target)
>>> data, order = {"x": jnp.array([2.0])}, jnp.zeros((1, 1), int)
>>> matching_loss(loss, start, target, data, 0.5, order).item()
0.0
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.generate.expert_trajectories import trajectory_distance
from weightspace.losses import objectives
from weightspace.types import Data, Loss, Params, Stack


def matching_loss(
  loss: Loss,
  start: Params,
  targets: Stack,
  data: Data,
  rate: float | jax.Array,
  order: jax.Array,
  *,
  momentum: float = 0.0,
  weights: jax.Array | None = None,
) -> jax.Array:
  """Return how far a student ends from an expert, after steps on `data`.

  theta_{s+1} = theta_s - rate m_{s+1}, m_{s+1} = momentum m_s + g_s;
  sum_i w_i |theta_{s_i} - target_i|^2 / |start - target_i|^2, where the steps
  fall into as many parts as there are targets and s_i ends part i.

  Args:
    loss: `loss(params, batch)`, one number or one per example.
    start: where expert and student begin.
    targets: the expert's snapshots after it, [T, ...].
    data: synthetic examples, [n, ...].
    rate: the student's learning rate.
    order: rows of `data` that each of S >= T steps sees, [S, B].
    momentum: in [0, 1); the paper's code takes 0.9, its predecessor none.
    weights: [T]; None for the last target alone.

  Returns:
    [], differentiable in `data` and `rate`; values within the steps are
    computed again on the way back, so memory grows with S models.

  Raises:
    ValueError: for fewer steps than targets, momentum out of range, or weights
      that are not [T].

  >>> loss = lambda params, batch: params["w"] * batch["x"]
  >>> start, target = {"w": jnp.array(0.0)}, {"w": jnp.array([-2.0])}
  >>> order = jnp.zeros((1, 1), int)
  >>> jax.grad(lambda x: matching_loss(
  ...   loss, start, target, {"x": x}, 1.0, order))(jnp.array([1.0])).tolist()
  [-0.5]

  Cazenavette et al. 2022, https://arxiv.org/abs/2203.11932; intermediate
  targets: Shen et al. 2023, https://arxiv.org/abs/2310.10541.
  """
  count = _check(targets, order, momentum)
  if weights is None:
    weights = jnp.zeros(count).at[-1].set(1.0)
  if jnp.shape(weights) != (count,):
    raise ValueError(
      f"matching_loss: weights are {jnp.shape(weights)}, expected ({count},)"
    )

  @jax.checkpoint
  def step(state: Any, rows: jax.Array) -> tuple[Any, None]:
    params, speed = state
    batch = jax.tree.map(lambda x: x[rows], data)
    slope = jax.grad(lambda p: objectives.mean(loss, p, batch))(params)
    speed = jax.tree.map(lambda m, g: momentum * m + g, speed, slope)
    return (jax.tree.map(lambda p, m: p - rate * m, params, speed), speed), None

  state = start, jax.tree.map(jnp.zeros_like, start)
  total, each = jnp.zeros(()), len(order) // count
  for i in range(count):
    end = len(order) if i == count - 1 else (i + 1) * each
    state, _ = jax.lax.scan(step, state, order[i * each : end])
    target = jax.tree.map(lambda x, i=i: x[i], targets)
    total += weights[i] * trajectory_distance(state[0], start, target)
  return total


def _check(targets: Stack, order: jax.Array, momentum: Any) -> int:
  count = trees.size(targets)
  if jnp.ndim(order) != 2 or len(order) < count:
    raise ValueError(
      f"matching_loss: order is {jnp.shape(order)}, expected [S, B] with at"
      f" least {count} steps for {count} targets"
    )
  if trees.concrete(momentum) and not 0.0 <= momentum < 1.0:
    raise ValueError(
      f"matching_loss: momentum is {momentum}, expected in [0, 1)"
    )
  return count
