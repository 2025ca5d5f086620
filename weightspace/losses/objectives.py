"""Losses as functions to probe: what one returns, and its exact mean.

A loss is `loss(params, data)`, one number or one per example.  Of numbers per
example any set of batches has an exact mean, padding included; of one number a
batch only the mean over batches of equal size is known.

>>> def loss(p, x): return (p["w"] - x) ** 2
>>> examples(loss, {"w": jnp.zeros(())}, jnp.ones(3), "probe")
3
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Data, Loss, Params

TOLERANCE = 1e-3  # between a loss and the mean of its parts, which are rounded


def examples(loss: Loss, params: Params, data: Data, what: str) -> int | None:
  """Return N of a loss per example, None of one that is a single number.

  Raises:
    ValueError: for a loss that returns anything else, such as a vector of
      another length or a pair (loss, state).

  >>> examples(lambda p, x: p["w"] * x.sum(), {"w": 1.0}, jnp.ones(3), "probe")
  """
  check_loss(loss, what)
  out = jax.eval_shape(loss, params, data)
  shape = getattr(out, "shape", None)
  if shape is None:
    raise ValueError(
      f"{what}: the loss returned a {type(out).__name__}, expected one number"
      " or one per example (a loss with state: fix the state first)"
    )
  if not jnp.issubdtype(out.dtype, jnp.floating):
    # Errors counted as booleans are numbers too; they only have no gradient.
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
      raise ValueError(
        f"{what}: the loss is {out.dtype}, expected real numbers"
      )
  if shape == ():
    return None
  lengths = {np.shape(x)[:1] for x in jax.tree.leaves(data)}
  if len(shape) != 1 or lengths != {shape}:
    raise ValueError(
      f"{what}: the loss returned {shape}, expected one number, or one per"
      f" example of data with leading axes {sorted(lengths)}"
    )
  return int(shape[0])


def check_loss(loss: Any, what: str) -> None:
  """Raise a ValueError for what is no function, as in another order.

  >>> check_loss({"w": 1.0}, "barrier")
  Traceback (most recent call last):
  ...
  ValueError: barrier: the loss is a dict, expected a function ...
  """
  if not callable(loss):
    raise ValueError(
      f"{what}: the loss is a {type(loss).__name__}, expected a function"
      " loss(params, data)"
    )


def mean(
  loss: Loss, params: Params, data: Data, weights: jax.Array | None = None
) -> jax.Array:
  """Return the mean loss, or sum_n w_n l_n / sum_n w_n, in float32.

  >>> loss, data = (lambda p, x: x), jnp.array([1.0, 3.0, 9.0])
  >>> mean(loss, None, data, jnp.array([1.0, 1.0, 0.0])).item()
  2.0
  """
  values = jnp.asarray(loss(params, data))
  values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
  if weights is None:
    return jnp.mean(values)
  # A padded example may have any loss, NaN too: 0 * NaN would not vanish.
  kept = jnp.where(weights > 0, values, 0.0)
  return (weights * kept).sum() / weights.sum()


def check_mean(
  loss: Loss, params: Params, data: Data, what: str, size: int | None = None
) -> None:
  """Raise a ValueError for one number that is no mean over its examples.

  The loss of all is compared with the mean of those of parts of one size, as a
  sum, or what else depends on how many examples there are, would tell.

  Args:
    loss: of one number.
    params: one model.
    data: [N, ...]; without such an axis there is nothing to compare.
    what: for errors.
    size: of the parts; half of the examples by default.

  >>> def total(p, x): return (p * x).sum()
  >>> check_mean(total, jnp.ones(()), jnp.ones(4), "hessian")
  Traceback (most recent call last):
  ...
  ValueError: hessian: the loss of 4 examples is 4, the mean of its parts 2, ...
  """
  lengths = {np.shape(x)[:1] for x in jax.tree.leaves(data)}
  if len(lengths) != 1 or lengths == {()} or not trees.concrete(params, data):
    return
  ((count,),) = lengths
  size = size if size and 2 * size <= count else count // 2
  if not size:
    return
  whole, parts = map(np.asarray, _parts(loss, params, data, size))
  gap = abs(float(whole) - float(parts.mean()))
  if gap > TOLERANCE * max(abs(float(whole)), float(np.abs(parts).max())):
    raise ValueError(
      f"{what}: the loss of {size * len(parts)} examples is {whole:.4g}, the"
      f" mean of its parts {parts.mean():.4g}, expected a mean over examples"
      " (reduction='mean', not 'sum'), or one number for each"
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _parts(loss: Loss, params: Params, data: Data, size: int) -> Any:
  """Return the loss of all that fill parts, and of each part."""
  count = len(jax.tree.leaves(data)[0]) // size
  some = jax.tree.map(lambda x: jnp.asarray(x)[: count * size], data)
  blocks = jax.tree.map(lambda x: x.reshape(count, size, *x.shape[1:]), some)
  return loss(params, some), jax.lax.map(lambda d: loss(params, d), blocks)


def check_weights(weights: Any, count: int | None, what: str) -> jax.Array:
  """Return the weights of examples, [N] of jax's default float.

  Raises:
    ValueError: when they are not [N], negative or all zero, or when the loss is
      one number.
  """
  if count is None:
    raise ValueError(f"{what}: weights need a loss that returns [N]")
  array = np.asarray(weights, float)
  if array.shape != (count,):
    raise ValueError(f"{what}: weights are {array.shape}, expected ({count},)")
  bad = np.flatnonzero(~((array >= 0) & np.isfinite(array)))
  if len(bad):
    raise ValueError(
      f"{what}: weight {bad[0]} is {array[bad[0]]}, expected a number >= 0"
    )
  if not array.any():
    raise ValueError(f"{what}: weights are all zero, expected some above")
  return jnp.asarray(array)


def inexact_leaves(params: Params, what: str) -> list[int]:
  """Return the numbers of the leaves that a probe moves: the floating ones.

  Raises:
    ValueError: for a complex leaf, or when there is no floating leaf.
  """
  chosen = []
  for number, (path, leaf) in enumerate(trees.named(params).items()):
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
      raise ValueError(f"{what}: {path!r} is {dtype}, expected real numbers")
    if jnp.issubdtype(dtype, jnp.floating):
      chosen.append(number)
  if not chosen:
    raise ValueError(f"{what}: no floating leaves, expected at least one")
  return chosen
