"""The mean of the latest models: a window that moves along a stream.

>>> fold = window(2)
>>> state = fold.init({"w": jnp.zeros(1)})
>>> for x in (1.0, 2.0, 6.0):
...   state = fold.update(state, {"w": jnp.full(1, x)})
>>> fold.value(state)["w"].tolist()
[4.0]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.average.in_time import traces
from weightspace.types import Fold, Params


class Recent(NamedTuple):
  """The latest models: update number n lies in row n % size."""

  rows: Params  # [size, ...] in the input dtype; integers of the latest model
  seen: jax.Array  # [] int32


def window(size: int) -> Fold:
  """Return the fold whose value is the mean of the latest `size` models.

  LAWA; before `size` updates, the mean of those there are.  The models are kept
  as they came, so an update costs one write of one model.

  Args:
    size: how many models are kept.

  Returns:
    Fold over models; two parts of a stream merge, the earlier one first.
    Integer leaves are those of the latest model.

  Raises:
    ValueError: for a size below 1; from `value` when nothing was averaged; from
      `update`, for a model of another structure or other shapes.

  >>> from weightspace.average.in_time.streams import run
  >>> run(window(2), [{"w": 9.0}, {"w": 1.0}, {"w": 2.0}])["w"].item()
  1.5

  Kaddour 2022, "Stop wasting my time! Saving days of ImageNet and BERT training
  with latest weight averaging", https://arxiv.org/abs/2209.14981.
  """
  if not isinstance(size, int | np.integer) or size < 1:
    raise ValueError(f"window: size is {size!r}, expected at least 1")

  def init(params: Params) -> Recent:
    rows = jax.tree.map(lambda x: _rows(x, size), traces.arrays(params))
    return Recent(rows, jnp.zeros((), jnp.int32))

  def update(state: Recent, params: Params) -> Recent:
    place = state.seen % size
    held = jax.tree.map(lambda r: r[0] if trees.inexact(r) else r, state.rows)
    traces.check(held, params, "window")
    rows = jax.tree.map(lambda r, x: _put(r, x, place), state.rows, params)
    return Recent(rows, state.seen + 1)

  def value(state: Recent) -> Params:
    traces.check_count(state.seen, "window")
    held = jnp.minimum(state.seen, size)

    return jax.tree.map(lambda rows: _mean(rows, held), state.rows)

  def merge(a: Recent, b: Recent) -> Recent:
    count = a.seen + b.seen
    slot = jnp.arange(size)
    number = count - 1 - (count - 1 - slot) % size  # what lies in each row
    late, source = number >= a.seen, (number - a.seen) % size

    traces.check(a.rows, b.rows, "merge")

    def pick(x: jax.Array, y: jax.Array) -> jax.Array:
      if not trees.inexact(x):
        return traces.later(b.seen, y, x)
      chosen = late.reshape((-1,) + (1,) * (x.ndim - 1))
      return jnp.where(chosen, y[source], x)

    return Recent(jax.tree.map(pick, a.rows, b.rows), count)

  return Fold(init, update, value, merge)


def _rows(x: jax.Array, size: int) -> jax.Array:
  return jnp.zeros((size, *x.shape), x.dtype) if trees.inexact(x) else x


def _put(rows: jax.Array, x: Any, place: jax.Array) -> jax.Array:
  if not trees.inexact(x):
    return jnp.asarray(x)
  x = jnp.asarray(x, rows.dtype)
  return jax.lax.dynamic_update_index_in_dim(rows, x, place, 0)


def _mean(rows: jax.Array, held: jax.Array) -> jax.Array:
  """Return the mean of the rows in use; the others are zero."""
  if not trees.inexact(rows):
    return rows
  total = means.contract(rows, jnp.ones(len(rows)))
  return (total / held.astype(total.dtype)).astype(rows.dtype)
