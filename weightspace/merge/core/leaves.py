"""A leaf whose models lie apart, and pieces of it that stay in cache.

A merge of a list of models has M arrays [...] where a Stack has one [M, ...].
They are edited one by one as far as the steps allow, so that no stack is made.

>>> from weightspace.merge.core.steps import minus_base
>>> apart = (jnp.array([3.0]), jnp.array([5.0]))
>>> [x.item() for x in edited(minus_base, apart, steps.At(jnp.array([1.0])))]
[2.0, 4.0]
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.checkpoints import tensor_files
from weightspace.hosts import concrete
from weightspace.merge.core import steps

Leaf = jax.Array | tuple[Any, ...]  # [M, ...], or M arrays [...]

PIECE = 2**18  # entries of a leaf that are looked at at once, to stay in cache
MERGED = 2**20  # entries that are merged at once
STACKED = 8  # models that are stacked in one pass


def example(x: Leaf) -> Any:
  """Return an array with the dtype of a leaf."""
  return x[0] if isinstance(x, tuple) else x


def is_number(x: Leaf) -> bool:
  """Tell whether a leaf takes part in arithmetic."""
  return trees.inexact(example(x))


def stacked(x: Leaf) -> jax.Array:
  """Return a leaf as one array [M, ...].

  XLA on the CPU sees through a stack of few arrays; of more, it makes each one
  and copies it.  Written one after the other they are made in place.
  """
  if not isinstance(x, tuple):
    return x
  if len(x) <= STACKED or not trees.inexact(x[0]):
    return jnp.stack(x)
  stack = jnp.zeros((len(x), *x[0].shape), x[0].dtype)
  for index, one in enumerate(x):
    stack = jax.lax.dynamic_update_index_in_dim(stack, one, index, 0)
  return stack


def widen(x: Any, models: int = 0) -> Any:
  """Return numbers in the dtype that sums are kept in.

  Complex ones are two real numbers each, in a line: a method asks which numbers
  are large, or of one sign.  Of a Stack the first axis, its `models`, stays.
  """
  if x is None or not trees.inexact(x):
    return x
  x = jnp.asarray(x)
  if is_complex(x):
    parts = jnp.stack([x.real, x.imag], -1)
    return parts.reshape(*x.shape[:models], -1)
  return x.astype(trees.accumulator(x.dtype))


def widened(leaf: Leaf) -> Leaf:
  """Return all models of a leaf in the dtype that sums are kept in."""
  if isinstance(leaf, tuple):
    return tuple(widen(one) for one in leaf)
  return widen(leaf, models=1)


def is_complex(x: Any) -> bool:
  """Tell whether the numbers of a leaf are complex."""
  return jnp.issubdtype(jnp.result_type(x), jnp.complexfloating)


def paired(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Return complex numbers of a shape from their parts in a line."""
  parts = x.reshape(*shape, 2)
  return jax.lax.complex(parts[..., 0], parts[..., 1])


def edited(step: steps.Step, x: Leaf, at: steps.At) -> Leaf:
  """Return the edit of a leaf; models that come apart stay so where they can.

  XLA does not see through the stack of arrays that are edited after it.
  """
  if not isinstance(x, tuple) or not step.entrywise:
    return step.edit(stacked(x), at)
  if not step.reduces:
    return tuple(
      step.edit(one[None], at._replace(first=np.uint32(m)))[0]
      for m, one in enumerate(x)
    )
  if step.fold is None or len(x) > means.UNROLL:
    return step.edit(stacked(x), at)
  fold = step.fold(at)
  state = fold.init(x[0])
  for item in enumerate(x):
    state = fold.update(state, item)
  return fold.value(state)


def divides(
  chained: Sequence[steps.Step], leaf: Leaf, at: steps.At, size: int
) -> bool:
  """Tell whether a leaf is to be taken in pieces: long, and on the host."""
  return (
    isinstance(leaf, tuple)
    and trees.inexact(leaf[0])
    and not is_complex(leaf[0])
    and leaf[0].size >= 2 * size
    and all(step.entrywise for step in chained)
    and not at.given
    and all(map(concrete.on_host, leaf))
  )


def pieces(
  leaf: Leaf, at: steps.At, size: int
) -> Iterator[tuple[Leaf, steps.At]]:
  """Yield the models' entries `size` at a time."""
  flat = [np.asarray(x).reshape(-1) for x in leaf]
  base = None if at.base is None else np.asarray(at.base).reshape(-1)
  for start in range(0, len(flat[0]), size):
    cut = slice(start, start + size)
    there = at._replace(start=np.uint32((int(at.start) + start) % 2**32))
    if base is not None:
      there = there._replace(base=base[cut])
    yield tuple(x[cut] for x in flat), there


def empty(size: int, dtype: Any) -> np.ndarray:
  """Return an array that JAX can take over without a copy."""
  dtype = np.dtype(dtype)
  return tensor_files.aligned(size * dtype.itemsize).view(dtype)
