"""Values that can be looked at from here: where they are, what is NaN.

>>> on_host(np.ones(2)), any_nan([np.float32([1.0, np.nan])])
(True, [True])
"""

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
  """Find NaN by their bits, at the speed of memory.

  The positive ones are the largest integers, the negative ones the largest
  unsigned integers.
  """
  x = np.asarray(x)
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    return _nan_on_host(x.real) or _nan_on_host(x.imag)
  if not x.size or x.dtype.itemsize == 1:
    return bool(np.isnan(x.astype(np.float32)).any())
  integer, word = f"i{x.dtype.itemsize}", f"u{x.dtype.itemsize}"
  ends = np.array([np.inf, -np.inf], x.dtype)
  return bool(
    x.view(integer).max() > ends.view(integer)[0]
    or x.view(word).max() > ends.view(word)[1]
  )
