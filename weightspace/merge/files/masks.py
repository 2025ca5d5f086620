"""Entries that are no weights: infinities and the like, in checkpoints' masks.

Savers keep additive attention masks beside the weights, of -inf or of the least
number.  Such entries are equal in all models; a norm or a difference of them
is no number.  They are taken out before a merge and put back after it.

>>> models = [np.float32([-np.inf, 1.0]), np.float32([-np.inf, 3.0])]
>>> held, (a, b), _ = take("mask", models, None)
>>> a.tolist(), put(held, (a + b) / 2).tolist()
([0.0, 1.0], [-inf, 2.0])
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.hosts import concrete

LARGE = 1e18  # no weight is as large; its square is within float32
REAL = (jnp.floating, jnp.complexfloating)


class Held(NamedTuple):
  """The entries of some rows of a leaf that are equal and no weights."""

  where: np.ndarray  # bool
  values: np.ndarray  # of those


def plain(x: np.ndarray) -> bool:
  """Tell whether all entries could be weights: finite, and not huge."""
  return concrete.all_below(x, LARGE)


def take(
  path: str, models: Sequence[np.ndarray], base: np.ndarray | None
) -> tuple[Held | None, list[np.ndarray], np.ndarray | None]:
  """Return what is to be put back, the models and the base without it.

  Args:
    path: of the leaf.
    models: M arrays [...], without NaN.
    base: [...], where there is one.

  Raises:
    ValueError: naming a leaf that is infinite in some models only.
  """
  every = [*models, *([] if base is None else [base])]
  if all(map(plain, every)):
    return None, list(models), base
  first = every[0]
  where = ~(np.abs(first.astype(_wide(first.dtype))) < _limit(first.dtype))
  for other in every[1:]:
    where &= other == first
  for other in every:
    rest = np.where(where, np.zeros((), other.dtype), other)
    if not np.isfinite(rest.astype(_wide(other.dtype))).all():
      raise ValueError(
        f"{path!r} is infinite in some models and not in others, expected"
        " numbers, or the same entries in all"
      )
  zeros = [np.where(where, np.zeros((), x.dtype), x) for x in every]
  count = len(models)
  rest_base = None if base is None else zeros[count]
  return Held(where, first[where]), zeros[:count], rest_base


def put(held: Held | None, merged: np.ndarray) -> np.ndarray:
  """Return a merged leaf with the entries that were taken out."""
  if held is None:
    return merged
  made = np.array(merged)
  made[held.where] = held.values.astype(merged.dtype)
  return made


def hold(x: jax.Array, base: jax.Array | None) -> jax.Array:
  """Return which entries [...] of a Stack's leaf are to be held, traced.

  Args:
    x: [M, ...].
    base: [...], where there is one.
  """
  first = x[0]
  where = ~(jnp.abs(first.astype(_wide(x.dtype))) < _limit(x.dtype))
  where &= (x == first[None]).all(0)
  return where if base is None else where & (base == first)


def check(path: str, merged: np.ndarray) -> None:
  """Raise a ValueError for what a merge made infinite, or no number at all."""
  if concrete.all_below(merged, np.inf):
    return
  top = jnp.finfo(merged.dtype).max
  raise ValueError(
    f"{path!r}: the merge makes inf or NaN of numbers, expected at most"
    f" {float(top):.3g} in {merged.dtype}; out_dtype names a wider one"
  )


def _wide(dtype: np.dtype) -> np.dtype:
  """Return a dtype in which NumPy can compare numbers of `dtype`."""
  return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


def _limit(dtype: np.dtype) -> float:
  return min(LARGE, float(jnp.finfo(dtype).max))
