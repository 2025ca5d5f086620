"""Steps of outer optimisers: what servers and peers do with what they heard.

Sums are kept in float32, and the optimiser's state with them; replicas come
back in their own dtype.

>>> anchor = {"w": np.zeros((1, 2), np.float32)}
>>> tx = optax.sgd(0.5)
>>> state = begin(tx, anchor)
>>> take(tx, {"w": np.ones((1, 2))}, state, anchor)[1]["w"].tolist()
[[-0.5, -0.5]]
"""

from typing import Any

import jax
import numpy as np
import optax

from weightspace import trees
from weightspace.types import Stack, State


def check(what: str, learning_rate: Any, momentum: Any = 0.0) -> None:
  """Raise a ValueError for numbers that no outer optimiser can go on with.

  Schedules and traced numbers pass.

  >>> check("diloco", 0.7, momentum=0.9)
  """
  plain = float, int, np.number
  if isinstance(learning_rate, plain) and not 0 < learning_rate < np.inf:
    raise ValueError(f"{what}: learning_rate {learning_rate}, expected above 0")
  if isinstance(momentum, plain) and not 0 <= momentum < 1:
    raise ValueError(f"{what}: momentum {momentum}, expected 0 <= momentum < 1")


def wide(stack: Stack) -> Stack:
  """Return the leaves in the dtype that sums are kept in."""
  return jax.tree.map(lambda x: x.astype(trees.accumulator(x.dtype)), stack)


def begin(tx: Any, anchor: Stack) -> State:
  """Return the state of an outer optimiser for each replica, in float32."""
  return jax.vmap(tx.init)(wide(anchor))


def take(
  tx: Any, gradient: Stack, state: State, anchor: Stack
) -> tuple[State, Stack]:
  """Take one step of an outer optimiser for each replica."""
  updates, state = jax.vmap(tx.update)(gradient, state, wide(anchor))
  moved = jax.vmap(optax.apply_updates)(wide(anchor), updates)
  return state, jax.tree.map(lambda x, y: x.astype(y.dtype), moved, anchor)
