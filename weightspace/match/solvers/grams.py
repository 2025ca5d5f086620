"""Products of the slices of two arrays: what an assignment is solved for.

Small ones on the host by NumPy, all others by one compiled program at full
precision: the default of accelerators would change which units are tied.  XLA's
threads wait for work asleep; those of NumPy's BLAS wait awake, which takes the
core from an assignment that is solved beside.

>>> gram(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]), 1, ()).tolist()
[[0.0, 1.0], [1.0, 0.0]]
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 2**18  # multiplications that BLAS does in one thread


def gram(a: Any, b: Any, axis: int, batch: Sequence[int]) -> Any:
  """Return [*batch, n, n]: products of the slices of a with those of b.

  Args:
    a: NumPy's, or `held`.
    b: NumPy's, as is what comes out then; or JAX's.
    axis: of the slices.
    batch: axes that are not contracted.
  """
  if not isinstance(b, np.ndarray):
    return _compiled(a, b, axis, tuple(batch))
  small = a.size * a.shape[axis] <= SMALL or a.ndim == len(batch) + 1
  if small or a.dtype != np.float32:
    return _gram(np, np.asarray(a), b, axis, tuple(batch))
  return np.asarray(_compiled(a, b, axis, tuple(batch)))


def held(arrays: Sequence[Any]) -> list[Any]:
  """Return arrays where they need not be copied for each product.

  >>> type(held([np.ones(3)])[0]) is np.ndarray  # float64 stays NumPy's
  True
  """
  return [jnp.asarray(x) if x.dtype == np.float32 else x for x in arrays]


def _gram(xp: Any, a: Any, b: Any, axis: int, batch: tuple[int, ...]) -> Any:
  if not batch and a.ndim > 1 and axis == a.ndim - 1:  # as it lies in memory
    x, y = (z.reshape(-1, z.shape[-1]) for z in (a, b))
    return _multiply(xp, x.T, y)
  first = (*batch, axis)
  if a.ndim == len(first):
    x, y = (xp.transpose(z, first) for z in (a, b))
    return x[..., :, None] * y[..., None, :]
  shape = [*(a.shape[k] for k in first), -1]
  x, y = (
    xp.moveaxis(z, first, range(len(first))).reshape(shape) for z in (a, b)
  )
  return _multiply(xp, x, xp.swapaxes(y, -1, -2))


def _multiply(xp: Any, x: Any, y: Any) -> Any:
  if xp is np:
    return x @ y
  return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


_compiled = jax.jit(
  functools.partial(_gram, jnp), static_argnames=("axis", "batch")
)
