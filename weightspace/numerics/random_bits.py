"""Random bits by position: the masks of methods that drop entries.

Bits are a hash of (key, model, leaf, position in the leaf), so that a mask does
not depend on devices, shardings, the order of leaves, the slice that is looked
at, or the version of JAX.  The hash is a counter under two rounds of the 32-bit
finaliser of MurmurHash3 with the words of the key mixed in; it is elementwise
and fuses with what it masks.

>>> key, leaf = jax.random.key(0), 7
>>> bits = draw(key, 0, leaf, positions((2, 3)))
>>> bool((bits[1] == draw(key, 0, leaf, positions((3,), start=3))).all())
True
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Key

WORD = 2**32


def mix(word: Any) -> jax.Array:
  """Return a bijection of 32-bit words in which each bit moves half the others.

  The finaliser of MurmurHash3 (A. Appleby, public domain).

  >>> hex(mix(1).item())
  '0x514e28b7'
  """
  word = jnp.asarray(word, jnp.uint32)
  word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
  word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
  return word ^ (word >> 16)


def positions(shape: tuple[int, ...], start: Any = 0) -> jax.Array:
  """Return the row-major position of each entry of a leaf, modulo 2^32.

  Args:
    shape: of the leaf, or of a slice of whole rows of it.
    start: position of the slice's first entry in the leaf; traced ones are
      taken modulo 2^32 already.

  >>> positions((2, 2)).tolist()
  [[0, 1], [2, 3]]
  """
  start = start % WORD if isinstance(start, int) else start
  total = jnp.full(shape, start, jnp.uint32)
  for axis in range(len(shape)):
    stride = np.uint32(math.prod(shape[axis + 1 :]) % WORD)
    total += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
  return total


def draw(key: Key, model: Any, leaf: Any, position: jax.Array) -> jax.Array:
  """Return 32 random bits for each position of one leaf of one model.

  Args:
    key: a typed PRNG key; only its words are used.
    model: index of the model, an integer or an array that broadcasts.
    leaf: uint32 hash of the leaf's path.
    position: uint32, `positions(shape)`.  Leaves of more than 2^32 entries use
      a position twice.

  Returns:
    uint32, the shape of `position` and `model` together.

  >>> draw(jax.random.key(0), 0, 0, positions((2,))).tolist()
  [2529969561, 1863825805]
  """
  first = mix(jnp.asarray(leaf, jnp.uint32) + np.uint32(0x9E3779B9))
  for word in jax.random.key_data(key).reshape(-1):
    first = mix(first ^ word) + np.uint32(0x9E3779B9)
  first = mix(first + jnp.asarray(model, jnp.uint32))
  second = mix(first ^ np.uint32(0x85A308D3))
  return mix(mix(position ^ first) + second)


def uniform(
  key: Key,
  leaf: Any,
  shape: tuple[int, ...],
  first: Any = 0,
  start: Any = 0,
) -> jax.Array:
  """Return uniform numbers in [0, 1), multiples of 2^-24, for a leaf [M, ...].

  Args:
    key: a typed PRNG key.
    leaf: uint32 hash of the leaf's path.
    shape: [M, ...], of the leaf or of some models and rows of it.
    first: the number of its first model.
    start: the position in the leaf of its first entry.

  >>> uniform(jax.random.key(0), 7, (2, 3)).shape
  (2, 3)
  """
  models = np.arange(shape[0], dtype=np.uint32)
  models = models.reshape(-1, *[1] * (len(shape) - 1))
  numbers = models + jnp.asarray(first, jnp.uint32)
  drawn = draw(key, numbers, leaf, positions(shape[1:], start)[None])
  return (drawn >> 8).astype(jnp.float32) * np.float32(2**-24)
