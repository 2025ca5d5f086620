"""Expert trajectories: a training run as data, and how far a student follows.

>>> start, target = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
>>> trajectory_distance({"w": jnp.full(2, 0.5)}, start, target).item()
0.25
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Apply, Data, Loss, Params, Stack


def trajectory_distance(
  student: Params, start: Params, target: Params
) -> jax.Array:
  """Return |student - target|^2 / |start - target|^2 over all parameters.

  1 for a student that stayed at the start, 0 for one at the target, and
  (1 - f)^2 a share f of the straight way between them.

  Args:
    student: where training on synthetic data came to.
    start: where it and the expert began.
    target: where the expert came to.

  Returns:
    [], float32 or wider.  Leaves that are not floating or complex do not count.

  Raises:
    ValueError: at the first path where two trees differ in shape or dtype; for
      NaN, or for an expert that did not move, where values can be looked at
      (under tracing the result then is NaN or infinite).

  >>> models = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 2.0])}
  >>> trajectory_distance(models[0], *models).item()
  1.0

  Cazenavette et al. 2022, https://arxiv.org/abs/2203.11932; used by Shen et al.
  2023, https://arxiv.org/abs/2310.10541.
  """
  what = "trajectory_distance"
  trees.check_same(start, student, f"{what}: student")
  trees.check_same(start, target, f"{what}: target")
  named = {"student": student, "start": start, "target": target}
  for name, tree in named.items():
    trees.check_finite(tree, f"{what}: {name}")
  path = _squared(start, target)
  if trees.concrete(path) and not float(path) > 0:
    raise ValueError(
      f"{what}: start and target are equal, expected an expert that moved"
    )
  return _squared(student, target) / path


def _squared(a: Params, b: Params) -> jax.Array:
  """Return |a - b|^2 over the leaves that take part in arithmetic."""
  total: Any = 0.0
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    if trees.inexact(x):
      wide = trees.accumulator(jnp.result_type(x))
      gap = jnp.asarray(x, wide) - jnp.asarray(y, wide)
      total = total + jnp.sum(jnp.abs(gap) ** 2)
  return jnp.asarray(total)


def step_lengths(snapshots: Stack) -> jax.Array:
  """Return |theta_{t+1} - theta_t| between the snapshots of a run.

  Args:
    snapshots: T models in order of time, leaves [T, ...].

  Returns:
    [T - 1]; an expert is smooth where the largest is small.

  >>> step_lengths({"w": jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])})
  Array([5., 1.], dtype=float32)
  """
  if trees.size(snapshots) < 2:
    raise ValueError("step_lengths: one snapshot, expected at least 2")
  before, after = (
    jax.tree.map(lambda x, part=part: x[part], snapshots)
    for part in (slice(-1), slice(1, None))
  )
  return jnp.sqrt(jax.vmap(_squared)(after, before))


def loss_factor(
  steps: int, first: float = 0.5, epochs: int = 10
) -> Callable[[Any], jax.Array]:
  """Return the schedule that weakens an expert's loss while it begins.

  first + (1 - first) e / epochs in epoch e, and 1 from epoch `epochs` on: .5,
  .55, ... .95, as the paper's code has what the paper calls a clipping loss.
  `optax.chain(optax.scale_by_schedule(loss_factor(steps)), optax.sgd(rate))`
  scales the gradient of the whole loss; a penalty too, where there is one.

  Args:
    steps: of an epoch.
    first: the factor in the first epoch, in (0, 1].
    epochs: after which it is 1.

  >>> factor = loss_factor(100)
  >>> [round(float(factor(step)), 2) for step in (0, 99, 100, 5000)]
  [0.5, 0.5, 0.55, 1.0]

  Shen et al. 2023, https://arxiv.org/abs/2310.10541, and its code.
  """
  if steps < 1 or epochs < 1 or not 0.0 < first <= 1.0:
    raise ValueError(
      f"loss_factor: {steps} steps, {epochs} epochs and first {first}, expected"
      " at least 1, at least 1, and in (0, 1]"
    )

  def factor(step: Any) -> jax.Array:
    epoch = jnp.asarray(step) // steps
    return jnp.minimum(first + (1 - first) * epoch / epochs, 1.0)

  return factor


def gradient_penalty(apply: Apply, norm: str = "channels") -> Loss:
  """Return the loss mean (|d sum_c logit_c / dx| - 1)^2, for each example.

  Args:
    apply: `apply(params, x)`, examples apart from each other.
    norm: "channels" (the paper's code: the norm of each pixel's channels, the
      mean over pixels) or "example" (the norm over all of x, as WGAN-GP has).

  Returns:
    `loss(params, batch)` of batches {"x": [B, ...]}, [B].  The paper's code
    adds it twice to the loss of its experts.

  Raises:
    ValueError: for another norm.

  >>> penalty = gradient_penalty(lambda params, x: x * params)
  >>> penalty(3.0, {"x": jnp.ones((2, 5, 1))}).tolist()
  [4.0, 4.0]

  Shen et al. 2023, https://arxiv.org/abs/2310.10541, and its code.
  """
  if norm not in ("channels", "example"):
    raise ValueError(
      f"gradient_penalty: norm is {norm!r}, expected 'channels' or 'example'"
    )

  def loss(params: Params, batch: Data) -> jax.Array:
    x = batch["x"]
    slope = jax.grad(lambda x: apply(params, x).sum())(x)
    axes = (-1,) if norm == "channels" else tuple(range(1, x.ndim))
    square = jnp.sum(slope**2, axes)
    # The root has no gradient at 0, where the penalty is at its flat top.
    positive = square > 0
    length = jnp.where(
      positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0
    )
    gap = (length - 1.0) ** 2
    return gap.reshape(len(x), -1).mean(1)

  return loss


def balance(start: Any, last: int) -> jax.Array:
  """Return the factor of the inner loss for an expert's epoch.

  log_5(t - T/2 + 8) from the middle of the starts on, 1 / log_5(T/2 - t + 8)
  before: early, steep epochs count less.

  Args:
    start: t, the epoch that the student begins at; may be traced.
    last: T, the largest start.

  >>> [round(float(balance(t, 20)), 2) for t in (9, 10)]
  [0.73, 1.29]

  Shen et al. 2023, https://arxiv.org/abs/2310.10541, and its code.
  """
  late = jnp.asarray(start) - last / 2
  factor = jnp.log(jnp.abs(late) + 8.0) / jnp.log(5.0)
  return jnp.where(late >= 0, factor, 1.0 / factor)
