"""Values that can be looked at from here: where they are, what is NaN.

>>> on_host(np.ones(2)), any_nan([np.float32([1.0, np.nan])])
(True, [True])
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def _have_nan(leaves: list[jax.Array]) -> jax.Array:
  return jnp.stack([jnp.isnan(leaf).any() for leaf in leaves])


def on_host(x: Any) -> bool:
  """Tell whether NumPy can look at an array without moving it."""
  devices = x.devices() if isinstance(x, jax.Array) else set()
  return len(devices) < 2 and all(d.platform == "cpu" for d in devices)


def any_nan(leaves: list[Any]) -> list[bool]:
  """Tell of each of some arrays of numbers whether it holds a NaN.

  >>> any_nan([np.float32([1.0, np.nan]), np.float32([1.0, -np.inf])])
  [True, False]
  """
  found = {i: _nan_on_host(x) for i, x in enumerate(leaves) if on_host(x)}
  far = [i for i in range(len(leaves)) if i not in found]
  if far:
    # Concrete values may be met while something else is traced.
    with jax.ensure_compile_time_eval():
      bad = np.asarray(_have_nan([leaves[i] for i in far]))
    found |= zip(far, bad.tolist())
  return [found[i] for i in range(len(leaves))]


def _nan_on_host(x: Any) -> bool:
  """Find NaN by their bits, at the speed of memory."""
  x = np.asarray(x)
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    return _nan_on_host(x.real) or _nan_on_host(x.imag)
  if not x.size or x.dtype.itemsize == 1:
    return bool(np.isnan(x.astype(np.float32)).any())
  (most, least), (top, low) = _ends(x, np.inf)
  return bool(most > top or least > low)


def all_below(x: np.ndarray, limit: float) -> bool:
  """Tell whether |x| < limit for all of some numbers, at the speed of memory.

  Beyond the largest number of a dtype, infinity is the limit.

  >>> all_below(np.float32([1.0, -2.0]), 2.5), all_below(np.ones(1), 1.0)
  (True, False)
  """
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    return all_below(x.real, limit) and all_below(x.imag, limit)
  if not x.size or x.dtype.itemsize == 1:
    return bool((np.abs(x.astype(np.float32)) < limit).all())
  limit = limit if limit < float(jnp.finfo(x.dtype).max) else np.inf
  (most, least), (top, low) = _ends(x, limit)
  return bool(most < top and least < low)


def _ends(x: np.ndarray, limit: float) -> tuple[Any, Any]:
  """Return the largest of x, and of -x, by their bits, and those of a limit.

  Bits of numbers without their sign are in the order of the numbers.
  """
  integer, word = f"i{x.dtype.itemsize}", f"u{x.dtype.itemsize}"
  ends = np.array([limit, -limit], x.dtype)
  found = x.view(integer).max(), x.view(word).max()
  return found, (ends.view(integer)[0], ends.view(word)[1])


def wide(leaf: Any) -> bool:
  """Tell whether JAX would shorten a leaf: NumPy's, of 64 bits a number.

  >>> wide(np.float64(1.0)), wide(np.ones(2, np.float32)), wide(1.0)
  (True, False, False)
  """
  if _long() or not isinstance(leaf, np.ndarray | np.generic):
    return False
  bits = 128 if leaf.dtype.kind == "c" else 64
  return leaf.dtype.kind in "iufc" and 8 * leaf.dtype.itemsize >= bits


def _long() -> bool:
  """Tell whether JAX has numbers of 64 bits."""
  return jnp.result_type(float) == np.float64


def in_bits(wide: bool) -> contextlib.AbstractContextManager[Any]:
  """Return a context with `jax_enable_x64` on, or one that changes nothing.

  What was computed there leaves it by `as_numpy`.
  """
  return jax.enable_x64(True) if wide else contextlib.nullcontext()


def as_numpy(tree: Any) -> Any:
  """Return a tree with its arrays of 64 bits as NumPy's.

  JAX shortens an array of its own as soon as one computes with it.
  """

  def leaf(x: Any) -> Any:
    if not isinstance(x, jax.Array) or _long():
      return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      return x
    return np.asarray(x) if wide(np.empty(0, x.dtype)) else x

  return jax.tree.map(leaf, tree)
