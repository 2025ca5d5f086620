"""Task vectors and signatures in a few bits for each parameter.

>>> kept = quantise({"w": jnp.array([1.0, -0.5, 0.0])}, bits=8)
>>> kept.codes["w"].tolist()
[127, -64, 0]
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.parametrize import curves
from weightspace.types import Params


class Quantised(NamedTuple):
  """Codes in -L .. L with L = 2^(bits - 1) - 1, and one size for each leaf.

  It stands for a tree, as `weightspace.parametrize` has leaves that stand for
  arrays; `parametrize.quantise` has a scale for each output.
  """

  codes: Params  # int8
  top: Params  # [], largest magnitude
  spread: Params  # [], root mean square; the tanh curve's unit
  bits: int
  curve: str

  def value(self) -> Params:
    """Return the float32 tree that the codes stand for."""
    return dequantise(self)


def quantise(tree: Params, bits: int = 8, curve: str = "linear") -> Quantised:
  """Return a tree in `bits` bits for each parameter, leaf by leaf.

  For arithmetic and studies of how few bits a change needs: any bits, three
  curves, one int8 a code.  `pack` is what makes a task vector small in a file.

  With a = |x| / max |x|, L = 2^(bits - 1) - 1 and s the root mean square, the
  code of x has its sign and the size
    "linear": round(L a), evenly spaced;
    "log2": L + round(log2 a), powers of two, and zero below them;
    "tanh": round(L tanh(|x| / s) / tanh(max |x| / s)), finest around zero.

  Args:
    tree: a task vector, or any real pytree.
    bits: 2 to 8; codes are int8 in memory whatever the bits.
    curve: "linear", "log2" or "tanh".

  Raises:
    ValueError: for other bits, an unknown curve, a leaf that is not real, or a
      NaN.

  >>> quantise({"w": jnp.array([4.0, 1.0, 0.1])}, 3, "log2").codes["w"].tolist()
  [3, 1, 0]

  The curves of Cai et al. 2023, https://arxiv.org/abs/2302.12480; their exact
  form is ours.
  """
  checks.option("quantise: curve", curve, curves.CURVES)
  checks.number("quantise: bits", bits, least=2, most=8)
  trees.check_finite(tree, "quantise")
  for path, x in trees.named(tree).items():
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
      raise ValueError(
        f"quantise: {path!r} is {jnp.result_type(x)}, expected real numbers"
      )
  wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)
  top = jax.tree.map(lambda x: jnp.max(jnp.abs(x), initial=0.0), wide)
  spread = jax.tree.map(lambda x: jnp.sqrt(jnp.mean(x**2)), wide)
  levels = 2 ** (bits - 1) - 1

  codes = jax.tree.map(
    lambda x, top, unit: curves.encode(curve, x, top, unit, levels),
    wide,
    top,
    spread,
  )
  return Quantised(codes, top, spread, bits, curve)


def dequantise(kept: Quantised) -> Params:
  """Return the float32 tree that codes stand for.

  >>> kept = quantise({"w": jnp.array([1.0, -0.5])}, bits=8)
  >>> dequantise(kept)["w"].round(2).tolist()
  [1.0, -0.5]
  """
  levels = 2 ** (kept.bits - 1) - 1

  return jax.tree.map(
    lambda code, top, unit: curves.decode(kept.curve, code, top, unit, levels),
    kept.codes,
    kept.top,
    kept.spread,
  )


def smaller(kept: Quantised, than: Params) -> float:
  """Return how many times fewer bits the codes take than a tree's arrays.

  >>> smaller(quantise({"w": jnp.ones(64)}, bits=4), {"w": jnp.ones(64)})
  8.0
  """
  codes = sum(
    math.ceil(x.size * kept.bits) for x in jax.tree.leaves(kept.codes)
  )
  whole = sum(8 * jnp.asarray(x).nbytes for x in jax.tree.leaves(than))
  return whole / codes
