"""Losses as functions to probe: what one returns, and its exact mean.

A loss is `loss(params, data)`, one number or one per example.  Of numbers per
example any set of batches has an exact mean, padding included; of one number a
batch only the mean over batches of equal size is known.

>>> def loss(p, x): return (p["w"] - x) ** 2
>>> examples(loss, {"w": jnp.zeros(())}, jnp.ones(3), "probe")
3
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Data, Loss, Params


def examples(loss: Loss, params: Params, data: Data, what: str) -> int | None:
  """Return N of a loss per example, None of one that is a single number.

  Raises:
    ValueError: for a loss that returns anything else, such as a vector of
      another length or a pair (loss, state).

  >>> examples(lambda p, x: p["w"] * x.sum(), {"w": 1.0}, jnp.ones(3), "probe")
  """
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


def check_weights(weights: Any, count: int | None, what: str) -> jax.Array:
  """Return the weights of examples as float32 [N].

  Raises:
    ValueError: when they are not [N], negative or all zero, or when the loss is
      one number.
  """
  if count is None:
    raise ValueError(f"{what}: weights need a loss that returns [N]")
  array = np.asarray(weights, np.float32)
  if array.shape != (count,):
    raise ValueError(f"{what}: weights are {array.shape}, expected ({count},)")
  if not (array >= 0).all() or not array.any():
    raise ValueError(f"{what}: weights expected >= 0 and not all zero")
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
