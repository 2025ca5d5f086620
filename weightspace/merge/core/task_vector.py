"""Task vectors as things: taken, put back, packed into bits.

>>> start, tuned = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([2.0, 0.0])}
>>> change = delta(tuned, start)
>>> apply(start, change, scale=0.5)["w"].tolist()
[1.5, 1.0]
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.types import Params

SCOPES = ("tensor", "row")
BITS = (8, 4, 1)
CODES = {8: "int8", 4: "int4", 1: "sign"}  # what a packed leaf calls its codes


def delta(model: Params, base: Params) -> Params:
  """Return the task vector model - base.

  Returns:
    Params in float32 (wider where the models are), so that bfloat16 loses
    nothing; zero for integer leaves, which are not fine-tuned.

  Raises:
    ValueError: naming the first path that differs in shape or dtype, or a NaN.

  >>> delta({"w": jnp.array(3.0)}, {"w": jnp.array(1.0)})["w"].item()
  2.0

  Ilharco et al. 2023, https://arxiv.org/abs/2212.04089.
  """
  trees.check_same(base, model, "model")
  trees.check_finite(model, "model")
  trees.check_finite(base, "base")

  def leaf(x: Any, start: Any) -> jax.Array:
    x, start = jnp.asarray(x), jnp.asarray(start)
    if not trees.inexact(x):
      return jnp.zeros(x.shape, jnp.int32)
    wide = trees.accumulator(x.dtype)
    return x.astype(wide) - start.astype(wide)

  return jax.tree.map(leaf, model, base)


def apply(
  base: Params, change: Params, scale: float | jax.Array = 1.0
) -> Params:
  """Return base + scale delta, in the dtype of the base.

  Raises:
    ValueError: naming the first path that differs in shape, or a scale that is
      not finite.

  >>> apply({"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}, -0.5)["w"].item()
  0.0

  https://arxiv.org/abs/2212.04089.
  """
  checks.number("apply: scale", scale)
  shapes = [
    jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), bool), tree)
    for tree in (base, change)
  ]
  trees.check_same(shapes[0], shapes[1], "delta")

  def leaf(start: Any, x: Any) -> jax.Array:
    start = jnp.asarray(start)
    if not trees.inexact(start):
      return start
    wide = trees.accumulator(start.dtype)
    return (start.astype(wide) + scale * x.astype(wide)).astype(start.dtype)

  return jax.tree.map(leaf, base, change)


def pack(change: Params, bits: int = 8, scope: str = "tensor") -> Params:
  """Return a task vector as a plain tree of small arrays, to be saved.

  For files: codes share bytes, and `unpack` needs the base's shapes.  For other
  numbers of bits and other curves, in memory, see `quantise`.

  8 and 4 bits: round(L x / max |x|), L = 127 or 7; the error of an entry is at
  most max |x| / (2 L), of its tensor or row, up to float32 rounding.
  1 bit: the signs, 0 as +, at the size mean |x|, which has the least squared
  error for given signs (BitDelta).

  Args:
    change: a task vector.
    bits: 8, 4 (two entries a byte) or 1 (eight).
    scope: one size for each "tensor", or each "row" (the last axis).

  Returns:
    The tree with each leaf as {"int8" | "int4" | "sign": codes, "size":
    float32}, which `checkpoints.save` takes as it is; {} for integer leaves.

  Raises:
    ValueError: for other bits, an unknown scope, or a NaN.

  >>> packed = pack({"w": jnp.array([1.0, -1.0, 3.0])}, bits=1)
  >>> packed["w"]["sign"].tolist(), round(packed["w"]["size"].item(), 3)
  ([160], 1.667)

  Liu et al. 2024, "BitDelta: your fine-tune may only be worth one bit",
  https://arxiv.org/abs/2402.10193.
  """
  if bits not in BITS:
    raise ValueError(f"pack: bits is {bits}, expected one of {list(BITS)}")
  checks.option("pack: scope", scope, SCOPES)
  trees.check_finite(change, "delta")

  def leaf(x: Any) -> dict[str, jax.Array]:
    x = jnp.asarray(x)
    if not trees.inexact(x):
      return {}
    return _pack(x.astype(jnp.float32), bits, scope)

  return jax.tree.map(leaf, change)


def _pack(x: jax.Array, bits: int, scope: str) -> dict[str, jax.Array]:
  axis = -1 if scope == "row" and x.ndim else None
  reduce: Any = jnp.mean if bits == 1 else jnp.max
  size = reduce(jnp.abs(x), axis=axis, keepdims=axis is not None)
  if bits == 1:
    return {"sign": jnp.packbits(x.reshape(-1) >= 0), "size": size}
  levels = 2 ** (bits - 1) - 1
  codes = jnp.round(levels * (x / jnp.where(size == 0, 1, size)))
  codes = codes.astype(jnp.int8)
  if bits == 8:
    return {"int8": codes, "size": size}
  flat = (codes.reshape(-1) + levels).astype(jnp.uint8)  # 0 .. 14
  flat = jnp.pad(flat, (0, flat.size % 2))
  return {"int4": flat[::2] * np.uint8(16) + flat[1::2], "size": size}


def unpack(packed: Params, like: Params) -> Params:
  """Return the float32 task vector of `pack`.

  Args:
    packed: what `pack` made, or a checkpoint of it.
    like: the base or any tree with its paths and shapes.

  Raises:
    ValueError: naming a path that is missing or whose size does not fit.

  >>> change = {"w": jnp.array([1.0, -1.0, 3.0])}
  >>> unpack(pack(change, bits=4), change)["w"].round(4).tolist()[2]
  3.0
  """
  arrays = trees.named(packed)

  def leaf(path: str, x: Any) -> jax.Array:
    if not trees.inexact(x):
      return jnp.zeros(jnp.shape(x), jnp.int32)
    kept = {}
    for name in (*CODES.values(), "size"):
      at = f"{path}/{name}" if path else name
      if at in arrays:
        kept[name] = jnp.asarray(arrays[at])
    if not kept:
      raise ValueError(f"unpack: {path!r} is missing")
    return _unpack(path, kept, jnp.shape(x))

  return trees.map_named(leaf, like)


def _unpack(path: str, kept: dict, shape: tuple[int, ...]) -> jax.Array:
  bits = next((bits for bits, name in CODES.items() if name in kept), 0)
  codes, count = kept.get(CODES.get(bits, ""), ()), int(np.prod(shape))
  if np.size(codes) != -(-count * bits // 8) or "size" not in kept:
    raise ValueError(
      f"unpack: {path!r} has {np.size(codes)} codes, expected those of {shape}"
    )
  if bits == 1:
    signs = jnp.unpackbits(codes, count=count).astype(jnp.float32)
    return (2 * signs - 1).reshape(shape) * kept["size"]
  levels = 2 ** (bits - 1) - 1
  if bits == 4:
    pairs = jnp.stack([codes // np.uint8(16), codes % np.uint8(16)], axis=1)
    codes = pairs.reshape(-1)[:count].astype(jnp.int8) - np.int8(levels)
  share = codes.reshape(shape).astype(jnp.float32) / levels
  return share * kept["size"]
