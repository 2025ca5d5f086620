"""Losses at the best temperature: a control for barriers.

Between two models logits shrink, so the cross-entropy rises even where the
answers stay right.  The loss at the temperature that suits each point best
leaves this out: a barrier that remains is one of knowledge, not of confidence.

>>> logits = jnp.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
>>> temperature(logits, jnp.array([0, 0, 1, 1])).round(2).item()  # 3 of 4 right
3.6...
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import losses
from weightspace.losses.logits import wide
from weightspace.types import Apply, Data, Loss, Params

STEPS = 40
LOWEST = -1e30  # in place of logits of -inf
WIDEST = 10.0  # log inverse temperatures are searched in [-10, 10]


def temperature(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return T that minimises the mean cross-entropy of logits / T.

  In b = 1 / T the loss is convex; bisection on the sign of its slope in log b.

  Args:
    logits: [N, ..., C].
    labels: whole numbers [N, ...] or probabilities.

  Returns:
    [], between e^-10 and e^10: small where every answer is right (until the
    loss is 0 in float32), e^10 where logits are no better than chance.

  >>> bool(temperature(2.0 * jnp.eye(2), jnp.array([1, 0])) > 1e4)
  True

  Guo et al. 2017, https://arxiv.org/abs/1706.04599.
  """

  # Classes that are masked out: any number so low, but one with a gradient.
  logits = jnp.where(jnp.isneginf(logits), LOWEST, logits)

  @jax.grad
  def slope(log_b: jax.Array) -> jax.Array:
    return losses.cross_entropy(jnp.exp(log_b) * logits, labels).mean()

  def halve(_: int, ends: Any) -> Any:
    low, high = ends
    middle = (low + high) / 2
    falls = slope(middle) < 0
    return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

  ends = jnp.asarray(-WIDEST), jnp.asarray(WIDEST)
  low, high = jax.lax.fori_loop(0, STEPS, halve, ends)
  return jnp.exp(-(low + high) / 2)


def calibrated(apply: Apply) -> Loss:
  """Return the loss of a model at its best temperature on the data itself.

  Args:
    apply: `apply(params, x) -> logits`.

  Returns:
    `loss(params, {"x", "y"})`, one number: examples share the temperature.

  >>> loss = calibrated(lambda p, x: p * x)
  >>> batch = {"x": jnp.array([[1.0, 0.0]] * 4), "y": jnp.array([0, 0, 0, 1])}
  >>> loss(1.0, batch).round(4) == loss(50.0, batch).round(4)
  Array(True, dtype=bool)

  Temperature: Guo et al. 2017, https://arxiv.org/abs/1706.04599; as a control
  of barriers: ours.
  """

  def loss(params: Params, data: Data) -> jax.Array:
    logits = wide(jnp.asarray(apply(params, data["x"])))
    best = temperature(logits, data["y"])
    return losses.cross_entropy(logits / best, data["y"]).mean()

  return loss
