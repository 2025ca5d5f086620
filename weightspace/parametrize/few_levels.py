"""Weights in few levels: integer codes, a scale for each output, a curve.

A code is round(f(w) / s), round half to even, with f(w) = w for the linear
curve and sign(w) |w|^a for the power curve.

>>> kept = quantise(jnp.array([[7.0, 0.7], [-3.0, 0.2]]))
>>> kept.codes.tolist(), kept.scale.tolist()
([[7, 7], [-3, 2]], [[1.0, 0.10000000149011612]])
"""

import fnmatch
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.parametrize import curves, leaf
from weightspace.types import Key, Params

CURVES = ("linear", "power", "log2", "tanh")
SCOPES = ("row", "leaf")


@flax.struct.dataclass
class Quantised:
  """An array in codes -L .. L, L = 2^(bits - 1) - 1."""

  codes: Any  # int8, shaped as the array
  scale: Any  # float32 or wider, of f(w): [1, ..., 1, out], or all ones
  power: Any = 1.0  # a of the power curve
  unit: Any = 1.0  # of the tanh curve: the root mean square of a row
  bits: int = flax.struct.field(pytree_node=False, default=4)
  curve: str = flax.struct.field(pytree_node=False, default="linear")
  dtype: str = flax.struct.field(pytree_node=False, default="float32")
  frozen = ("codes", "scale", "power", "unit")

  def value(self) -> jax.Array:
    """Return the array that the codes stand for, in its first dtype."""
    scale = jnp.asarray(self.scale)
    if self.curve in ("log2", "tanh"):
      levels = 2 ** (self.bits - 1) - 1
      codes, top = jnp.asarray(self.codes), scale * levels
      unit = jnp.asarray(self.unit, scale.dtype)
      found = curves.decode(self.curve, codes, top, unit, levels)
      return found.astype(self.dtype)
    found = jnp.asarray(self.codes).astype(scale.dtype) * scale
    if self.curve == "power":
      found = bent(found, 1.0 / jnp.asarray(self.power, scale.dtype))
    return found.astype(self.dtype)


def quantise(
  tree: Params,
  bits: int = 4,
  scope: str = "row",
  curve: str = "linear",
  power: Any = None,
  *,
  only: str = "*",
) -> Params:
  """Return arrays as `Quantised` leaves, or one array as one.

  s = max |f(w)| / L over a row or the leaf, L = 2^(bits - 1) - 1;
  code = round(f(w) / s), half to even; value = f^-1(s code).

  Args:
    tree: a pytree; floating arrays are quantised.
    bits: 2 to 8.
    scope: "row", one scale for each output, the last axis of a flax kernel; or
      "leaf", one scale.  An array of one axis is one row.
    curve: "linear", f(w) = w; "power", f(w) = sign(w) |w|^power; or "log2" and
      "tanh", as in `merge.quantise`.
    power: above zero, for the power curve: a number, or a tree of them as
      `best_power` returns.
    only: a shell pattern of the paths to quantise.

  Returns:
    The tree with `Quantised` leaves: `.codes`, `.scale`, `.value()`.

  Raises:
    ValueError: for other bits, an unknown scope or curve, a power out of range,
      a pattern that fits nothing, or naming a leaf that holds a NaN, an
      infinity or no entries, or that is no array of real numbers.

  >>> kept = quantise(jnp.array([1.0, -0.2]), 4, "leaf", "power", 0.5)
  >>> kept.codes.tolist(), kept.value().round(3).tolist()
  ([7, -3], [1.0, -0.18400001525878906])

  Zeng et al. 2023, "GLM-130B", https://arxiv.org/abs/2210.02414, whose code
  rounds the scale to half precision first, which this does not; the power
  curve: Yvinec et al. 2023, "PowerQuant", https://arxiv.org/abs/2301.09858.
  """
  _check(bits, scope, curve, power)
  powers = 1.0 if power is None else power
  spread = leaf_powers(powers, tree)
  names = trees.names(tree)
  chosen = {path for path in names if fnmatch.fnmatchcase(path, only)}
  if not chosen:
    raise ValueError(f"quantise: {only!r} fits no path of {names[:3]}")

  def one(path: str, x: Any, power: Any) -> Any:
    if path not in chosen or (only == "*" and not trees.inexact(x)):
      return x
    _check_leaf(path, x)
    return _quantised(x, bits, scope, curve, power)

  return trees.map_named(one, tree, spread)


def quantised(bits: int = 4, **settings: Any) -> Any:
  """Return what makes a `Quantised` leaf of an array, for `attach`.

  >>> quantised(8)(None, jnp.ones((2, 2))).bits
  8
  """

  def make(key: Key | None, x: Any) -> Quantised:
    return quantise(x, bits, **settings)

  return make


def leaf_powers(powers: Any, tree: Params) -> Params:
  """Return a power for each leaf, from one number or a prefix tree.

  Raises:
    ValueError: for a power that is not above zero.
  """
  for value in jax.tree.leaves(powers):
    if trees.concrete(value) and not np.all(np.asarray(value) > 0):
      raise ValueError(f"quantise: power is {value}, expected a number above 0")
  return trees.spread(powers, tree, "powers")


def bent(x: jax.Array, power: Any) -> jax.Array:
  """Return sign(x) |x|^power, whose slopes at zero are zero."""
  size = jnp.abs(x)
  return jnp.sign(x) * jnp.where(size > 0, size, 1.0) ** power


def top(x: jax.Array, scope: str) -> jax.Array:
  """Return the largest magnitude of each row or of the leaf, axes kept."""
  return jnp.max(jnp.abs(x), axis=_axes(x, scope), keepdims=True)


def _mean(x: jax.Array, scope: str) -> jax.Array:
  return jnp.mean(x, axis=_axes(x, scope), keepdims=True)


def _axes(x: jax.Array, scope: str) -> tuple[int, ...] | None:
  """Return the axes that one scale is for; None for all."""
  rows = scope == "row" and x.ndim > 1
  return tuple(range(x.ndim - 1)) if rows else None


def _quantised(
  x: Any, bits: int, scope: str, curve: str, power: Any
) -> Quantised:
  dtype = str(jnp.asarray(x).dtype)
  y = leaf.wide(x)
  if curve == "power":
    power = jnp.asarray(power, y.dtype)
    y = bent(y, power)
  levels = 2 ** (bits - 1) - 1
  most = top(y, scope)
  scale = most / levels
  if curve in ("log2", "tanh"):
    unit = jnp.sqrt(_mean(y**2, scope))
    codes = curves.encode(curve, y, most, unit, levels)
    return Quantised(codes, scale, power, unit, bits, curve, dtype)
  codes = jnp.round(y / jnp.where(scale == 0, 1.0, scale))
  codes = jnp.clip(codes, -levels, levels).astype(jnp.int8)
  return Quantised(codes, scale, power, 1.0, bits, curve, dtype)


def pack(kept: Quantised) -> np.ndarray:
  """Return the codes in `bits` bits each, uint8: what a file holds.

  >>> pack(quantise(jnp.array([1.0, -1.0, 0.0, 1.0]), bits=4)).tolist()
  [224, 126]
  """
  levels = 2 ** (kept.bits - 1) - 1
  codes = (np.asarray(kept.codes).reshape(-1).astype(np.int16) + levels).astype(
    np.uint8
  )
  places = np.arange(kept.bits - 1, -1, -1, dtype=np.uint8)
  return np.packbits((codes[:, None] >> places[None]) & 1)


def unpack(packed: Any, bits: int, shape: tuple[int, ...]) -> np.ndarray:
  """Return the codes of `pack`, int8.

  Raises:
    ValueError: for another number of bytes than the shape has.

  >>> unpack(np.array([224, 126], np.uint8), 4, (4,)).tolist()
  [7, -7, 0, 7]
  """
  packed, count = np.asarray(packed), int(np.prod(shape, dtype=np.int64))
  if packed.shape != (-(-count * bits // 8),) or packed.dtype != np.uint8:
    raise ValueError(
      f"codes are {packed.shape} {packed.dtype}, expected"
      f" {-(-count * bits // 8)} bytes for {shape} in {bits} bits"
    )
  digits = np.unpackbits(packed, count=count * bits).reshape(count, bits)
  places = 1 << np.arange(bits - 1, -1, -1)
  codes = digits.astype(np.int16) @ places.astype(np.int16)
  return (codes - (2 ** (bits - 1) - 1)).astype(np.int8).reshape(shape)


def _check(bits: int, scope: str, curve: str, power: Any) -> None:
  if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
    raise ValueError(f"quantise: bits is {bits}, expected 2 to 8")
  if scope not in SCOPES:
    raise ValueError(f"quantise: scope is {scope!r}, expected one of {SCOPES}")
  if curve not in CURVES:
    raise ValueError(f"quantise: curve is {curve!r}, expected one of {CURVES}")
  if (curve == "power") != (power is not None):
    raise ValueError(
      f"quantise: power is {power} with curve={curve!r}, expected a power with"
      " the power curve only"
    )


def _check_leaf(path: str, x: Any) -> None:
  dtype = jnp.result_type(x)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f"quantise: {path!r} is {dtype}, expected real numbers")
  if not np.size(x):
    raise ValueError(f"quantise: {path!r} is empty, expected entries")
  if trees.concrete(x) and not np.isfinite(np.asarray(x, np.float64)).all():
    raise ValueError(
      f"quantise: {path!r} holds NaN or an infinity, expected numbers"
    )
