"""Sums over the models of a Stack: the one primitive of averaging.

Most methods only choose the weights of `weighted_mean`.  A reduction over M is
written over the slices (`contract`), since XLA on the CPU does not vectorise a
short leading reduction.

>>> models = {"w": jnp.array([[0.0, 1.0], [2.0, 5.0]])}
>>> weighted_mean(models)["w"].tolist()
[1.0, 3.0]
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Params, Stack, Weights

UNROLL = 64  # models; beyond it a loop keeps the program small


@jax.jit
def contract(x: jax.Array, weights: jax.Array) -> jax.Array:
  """Return sum_m weights[m] x[m] in float32: the one sum over models.

  Args:
    x: [M, ...].
    weights: [M], or the shape of `x`.

  Returns:
    [...], in the accumulator dtype of `x`.
  """
  dtype = trees.accumulator(x.dtype)
  weights = jnp.asarray(weights, dtype)
  if len(x) > UNROLL and weights.ndim == 1:
    precision = jax.lax.Precision.HIGHEST
    return jnp.tensordot(weights, x.astype(dtype), 1, precision=precision)

  def add(m: Any, total: jax.Array) -> jax.Array:
    return total + weights[m] * x[m].astype(dtype)

  total = weights[0] * x[0].astype(dtype)
  if len(x) > UNROLL:
    return jax.lax.fori_loop(1, len(x), add, total)
  for m in range(1, len(x)):
    total = add(m, total)
  return total


def spread_weights(stack: Stack, weights: Weights | None) -> Stack:
  """Give every leaf its own weights, from [M], a prefix tree, or a Stack.

  Raises:
    ValueError: when a tree is no prefix, or an array neither [M] nor shaped as
      its leaf, or holds a NaN.
  """
  count = trees.size(stack)
  if weights is None:
    weights = jnp.ones(count)
  if isinstance(weights, list | tuple) and all(map(np.isscalar, weights)):
    weights = jnp.asarray(weights, float)
  spread = trees.spread(weights, stack, "weights")

  def check(path: str, x: Any, w: Any) -> jax.Array:
    if np.shape(w) != (count,) and np.shape(w) != np.shape(x):
      raise ValueError(
        f"weights: {path!r} has shape {np.shape(w)}, expected ({count},) or"
        f" {np.shape(x)}"
      )
    return jnp.asarray(w)

  result = trees.map_named(check, stack, spread)
  for path, array in trees.named(weights).items():
    _check_numbers(path, array)
  return result


def _check_numbers(path: str, weights: Any) -> None:
  """Raise a ValueError at the first weight that is no finite number."""
  if not trees.concrete(weights) or not trees.inexact(weights):
    return
  bad = np.argwhere(~np.isfinite(np.asarray(weights, np.complex128)))
  if len(bad):
    where = f" of {path!r}" if path else ""
    value = np.asarray(weights)[tuple(bad[0])]
    kind = "NaN" if np.isnan(value) else str(value)
    place = ", ".join(map(str, bad[0].tolist()))
    raise ValueError(
      f"weights: {kind} at {place}{where}, expected finite numbers"
    )


def check_sum(weights: jax.Array, what: str) -> None:
  """Raise a ValueError where weights [M, ...] sum to zero, up to rounding."""
  if not trees.concrete(weights):
    return
  w = np.asarray(weights)
  noise = np.finfo(w.dtype).eps * np.abs(w).sum(0)
  if not (np.abs(w.sum(0)) > noise).all():
    raise ValueError(f"{what} sum to zero, expected a non-zero sum")


def weighted_sum(stack: Stack, weights: Weights) -> Params:
  """Return sum_m w_m theta_m, leaf by leaf, with the weights as they are.

  Args:
    stack: leaves [M, ...].
    weights: [M], a prefix tree of [M] arrays (one per layer or leaf), or a
      whole Stack (one per parameter).

  Returns:
    Params: summed in float32, each leaf in its input dtype.  Integer leaves are
    those of model 0.

  Raises:
    ValueError: naming the first path whose weights do not fit, or the model
      that holds a NaN.

  >>> weighted_sum({"w": jnp.array([1.0, 2.0])}, jnp.array([1.0, -1.0]))
  {'w': Array(-1., dtype=float32)}
  """
  trees.check_finite(stack, "stack", stacked=True)

  def leaf(x: jax.Array, w: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    return contract(x, w).astype(x.dtype) if trees.inexact(x) else x[0]

  return jax.tree.map(leaf, stack, spread_weights(stack, weights))


def weighted_mean(stack: Stack, weights: Weights | None = None) -> Params:
  """Return sum_m w_m theta_m / sum_m w_m: the one primitive of averaging.

  Most methods only choose the weights: [M] for soups and running averages, one
  [M] per layer for learned soups, a whole Stack for Fisher merging.

  Args:
    stack: leaves [M, ...].
    weights: [M], a prefix tree of [M] arrays, or a whole Stack; None for all
      equal.

  Returns:
    Params: accumulated in float32, cast once to the input dtype.  Integer
    leaves are those of model 0.

  Raises:
    ValueError: for weights of another shape, with a NaN, or (on concrete
      values) that sum to zero, naming the first path; for a NaN in a model.

  >>> models = {"w": jnp.array([[0.0], [4.0]])}
  >>> weighted_mean(models, jnp.array([3.0, 1.0]))["w"].tolist()
  [1.0]

  Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482.
  """
  trees.check_finite(stack, "stack", stacked=True)
  spread = spread_weights(stack, weights)

  def leaf(path: str, x: jax.Array, w: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if not trees.inexact(x):
      return x[0]
    w = w.astype(trees.accumulator(x.dtype))
    check_sum(w, f"weights: those of {path!r}")
    total = contract(w, jnp.ones(len(w)))
    if w.ndim == 1:
      return contract(x, w / total).astype(x.dtype)
    return (contract(x, w) / total).astype(x.dtype)

  return trees.map_named(leaf, stack, spread)
