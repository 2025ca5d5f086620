"""Expert trajectories: a training run as data, and how far a student follows.

>>> start, target = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
>>> trajectory_distance({"w": jnp.full(2, 0.5)}, start, target).item()
0.25
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Params


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
