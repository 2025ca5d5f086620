"""What an operator is made of, checked; its data cut into blocks.

>>> from weightspace.probe.curvature.products import Hessian
>>> def loss(w, x): return x * w**2
>>> x = jnp.array([1.0, 3.0])
>>> made = build(Hessian(loss), "hessian", loss, jnp.ones(()), x, batch_size=1)
>>> made.given[0].shape, made(1.0).item()
((2, 1), 4.0)
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures
from weightspace.losses import objectives
from weightspace.probe.curvature import operators
from weightspace.probe.curvature.operators import Operator, Product
from weightspace.types import Data, Loss, Params


def build(
  open_: Callable[..., Product],
  what: str,
  loss: Loss,
  params: Params,
  data: Data,
  *,
  only: Sequence[str] | None = None,
  mask: Params | None = None,
  batch_size: int | None = None,
  weights: Any = None,
) -> Operator:
  """Check all that an operator is made of, cut the data, and return it."""
  objectives.check_loss(loss, what)
  trees.check_finite(params, what)
  loss = closures.fixed(loss)
  count = objectives.examples(loss, params, data, what)
  share = np.ones(count or 1) / (count or 1)
  if weights is not None:
    own = objectives.check_weights(weights, count, what)
    share = np.asarray(own, float) / np.asarray(own, float).sum()
  part, kept = operators.select(params, only, mask, what)
  if batch_size is not None and count is None:
    objectives.check_mean(loss, params, data, what, batch_size)
  if batch_size is None:
    given = jax.tree.map(lambda x: jnp.asarray(x)[None], (data, share))
  else:
    given = _blocks(data, share, count, batch_size, what)
  return Operator(params, given, kept, open_, part, symmetric=True)


def _blocks(
  data: Data, share: np.ndarray, count: int | None, size: int, what: str
) -> tuple[Data, jax.Array]:
  """Return data [K, B, ...] and weights [K, B], the last block filled up."""
  lengths = {np.shape(x)[:1] for x in jax.tree.leaves(data)}
  total = count or (next(iter(lengths)) or (0,))[0] if lengths else 0
  if len(lengths) != 1 or not 1 <= size <= total:
    raise ValueError(
      f"{what}: batch_size is {size} for data with leading axes"
      f" {sorted(lengths)}, expected 1 to N of [N, ...]"
    )
  if count is None and total % size:
    raise ValueError(
      f"{what}: batches of {size} of {total} examples are not equal, expected a"
      " loss that returns [N]"
    )
  index = np.arange(-(-total // size) * size).reshape(-1, size)
  spread = share if count else np.full(total, 1 / total)
  at = np.minimum(index, total - 1)
  weights = np.where(index < total, spread[at], 0.0)
  blocks = jax.tree.map(lambda x: jnp.asarray(x)[at], data)
  return blocks, jnp.asarray(weights)
