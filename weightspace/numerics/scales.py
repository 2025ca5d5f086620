"""Cosines that do not see a scale: no product of norms under one root.

Squares of squares of numbers around 1e-10 or 1e10 leave the range of float32.
Arrays are first divided by a power of two as large as their largest entry,
which rounds nothing, and norms are divided by one after the other.

>>> tiny = jnp.array([1e-12, 0.0])
>>> round(cosine(tiny, jnp.array([1e12, 1e12])).item(), 4)
0.7071
"""

from typing import Any

import jax
import jax.numpy as jnp


def power(*arrays: Any, least: float = 1.0) -> jax.Array:
  """Return the least power of two above all entries, `least` of zeros.

  >>> power(jnp.array([0.3, -3.0])).item()
  4.0
  """
  tops = [jnp.abs(x).max(initial=0.0) for x in arrays]
  top = jnp.stack(tops).max()
  raised = jnp.ldexp(jnp.ones_like(top), jnp.frexp(top)[1])
  return jnp.where((top > 0) & jnp.isfinite(top), raised, least)


def ratio(inner: jax.Array, *squares: jax.Array) -> jax.Array:
  """Return an inner product over the norms whose squares are given.

  >>> ratio(jnp.array(2.0), jnp.array(4.0), jnp.array(1.0)).item()
  1.0
  """
  for square in squares:
    inner = inner / jnp.sqrt(square)
  return inner


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return <a, b> / (|a| |b|) of two arrays of one shape, NaN for zeros.

  >>> cosine(jnp.array([1e-12, 0.0]), jnp.array([1e12, 0.0])).item()
  1.0
  """
  a, b = (x / power(x) for x in (a, b))
  return ratio((a * b).sum(), (a**2).sum(), (b**2).sum())
