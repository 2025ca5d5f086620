"""A teacher moved uphill on one batch: adversarial steps of a fixed length.

>>> def loss(params, x): return (params["w"] * x).sum()
>>> teacher = {"w": jnp.zeros(2)}
>>> directed_ascent(loss, teacher, jnp.array([3.0, 4.0]), 0.5, 5)["w"].round(3)
Array([0.3, 0.4], dtype=float32)
"""

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import convolutions
from weightspace.losses import objectives
from weightspace.types import Data, Loss, Params


def directed_ascent(
  loss: Loss, params: Params, data: Data, rho: float | jax.Array, steps: int
) -> Params:
  """Return parameters moved up the loss of one batch by K short steps.

  theta_{k+1} = theta_k + (rho / K) g_k / |g_k|, g_k the gradient at theta_k,
  |g_k| its norm over all parameters.  So |theta_K - theta_0| <= rho, with
  equality for K = 1 or parallel gradients.

  Args:
    loss: `loss(params, data)`, one number or one per example, of which the mean
      is raised.
    params: the teacher, which stays as it is: start from it for every batch.
    data: one batch.
    rho: the length of the way, at least 0.
    steps: K, at least 1.

  Returns:
    A tree like `params`.  Leaves that are not floating are the caller's own;
    where the gradient is 0 nothing moves.

  Raises:
    ValueError: for rho below 0 or not finite, steps below 1, NaN in the
      parameters, or a loss that is neither a number nor [N].

  >>> def loss(w, x): return 0.5 * (w * w).sum()
  >>> directed_ascent(loss, jnp.array([3.0, 4.0]), None, 1.0, 4).round(3)
  Array([3.6..., 4.8...], dtype=float32)

  Du et al. 2024, "Diversity-driven synthesis", https://arxiv.org/abs/2409.17612
  (rho 0.015, K 12 in its code, which goes on from one batch's teacher to the
  next within a group of images; starting anew for each batch is the paper's).
  """
  if steps < 1:
    raise ValueError(f"directed_ascent: steps is {steps}, expected at least 1")
  if trees.concrete(rho) and not 0.0 <= float(rho) < float("inf"):
    raise ValueError(f"directed_ascent: rho is {rho}, expected at least 0")
  trees.check_finite(params, "directed_ascent")
  objectives.examples(loss, params, data, "directed_ascent")
  moving = objectives.inexact_leaves(params, "directed_ascent")
  leaves, structure = jax.tree.flatten(params)
  wide = [_wide(leaves[i]) for i in moving]

  def together(free: list[jax.Array]) -> Params:
    filled = list(leaves)
    for i, x in zip(moving, free):
      filled[i] = x.astype(jnp.result_type(leaves[i]))
    return jax.tree.unflatten(structure, filled)

  @convolutions.canonical
  @jax.grad
  def slope(free: list[jax.Array]) -> jax.Array:
    return objectives.mean(loss, together(free), data)

  def step(_: int, free: list[jax.Array]) -> list[jax.Array]:
    gradient = slope(free)
    length = jnp.sqrt(sum((g * g).sum() for g in gradient))
    size = rho / steps / jnp.where(length > 0, length, 1.0)
    return [x + (size * g).astype(x.dtype) for x, g in zip(free, gradient)]

  return together(jax.lax.fori_loop(0, steps, step, wide))


def _wide(x: jax.Array) -> jax.Array:
  """Return a leaf in the dtype that short steps are added up in."""
  x = jnp.asarray(x)
  return x.astype(trees.accumulator(x.dtype))
