"""Curves along which the levels of rounded weights lie.

With a = |x| / top and L levels on each side, a code has the sign of x and the
size
  "linear": round(L a), evenly spaced;
  "log2": L + round(log2 a), powers of two, and zero below them;
  "tanh": round(L tanh(|x| / unit) / tanh(top / unit)), finest around zero.

>>> x = jnp.array([4.0, 1.0, 0.1])
>>> encode("log2", x, jnp.array(4.0), jnp.array(1.0), 3).tolist()
[3, 1, 0]
>>> decode("linear", jnp.array([2, -1, 0]), 4.0, 1.0, 2).tolist()
[4.0, -2.0, 0.0]
"""

from typing import Any

import jax
import jax.numpy as jnp

CURVES = ("linear", "log2", "tanh")
BELOW = 1 - 1e-7  # arctanh of one is infinite


def encode(
  curve: str, x: jax.Array, top: Any, unit: Any, levels: int
) -> jax.Array:
  """Return the codes of weights, int8.

  Args:
    curve: one of CURVES.
    x: the weights.
    top: their largest magnitude, of each row or of all.
    unit: of the tanh curve.
    levels: L.
  """
  size, top = jnp.abs(x), not_zero(top)
  if curve == "linear":
    code = jnp.round(levels * (size / top))
  elif curve == "log2":
    octave = jnp.log2(not_zero(size) / top)
    code = jnp.where(size > 0, levels + jnp.round(octave), 0.0)
  else:
    unit = not_zero(unit)
    code = jnp.tanh(size / unit) / jnp.tanh(top / unit)
    code = jnp.round(levels * code)
  return (jnp.sign(x) * jnp.maximum(code, 0.0)).astype(jnp.int8)


def decode(
  curve: str, codes: jax.Array, top: Any, unit: Any, levels: int
) -> jax.Array:
  """Return the weights that codes stand for, in the dtype of `top`.

  The arguments are those of `encode`.
  """
  top = jnp.asarray(top)
  share = jnp.abs(codes).astype(top.dtype) / levels
  if curve == "linear":
    size = top * share
  elif curve == "log2":
    size = top * jnp.exp2(levels * (share - 1.0))
    size = jnp.where(codes == 0, 0.0, size)
  else:
    unit = not_zero(unit)
    # A code of L means tanh(top / unit), which rounds to 1 for large tops.
    bent = jnp.minimum(share * jnp.tanh(top / unit), BELOW)
    size = jnp.where(share == 1, top, unit * jnp.arctanh(bent))
  return jnp.sign(codes).astype(top.dtype) * size


def not_zero(x: Any) -> jax.Array:
  """Return an array with one in place of zeros."""
  return jnp.where(jnp.asarray(x) == 0, 1.0, x)
