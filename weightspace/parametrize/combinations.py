"""Weights from other weights: mixtures, masks, and a bounded map of a latent.

>>> Mixture(jnp.eye(2), jnp.array([1.0, 3.0])).value().tolist()
[1.0, 3.0]
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.parametrize import leaf
from weightspace.parametrize.low_rank import Make
from weightspace.types import Key


@flax.struct.dataclass
class Mixture:
  """A sum of templates with coefficients."""

  templates: Any  # [J, ...]
  coefficients: Any  # [J]

  def value(self) -> jax.Array:
    """Return sum_j coefficients[j] templates[j], [...], in their dtype."""
    templates = leaf.array(self.templates)
    weights = leaf.array(self.coefficients)
    if weights.shape != templates.shape[:1] or not templates.ndim:
      raise ValueError(
        f"mixture: templates {templates.shape} and coefficients"
        f" {weights.shape}, expected [J, ...] and [J]"
      )
    return means.contract(templates, weights).astype(templates.dtype)


@flax.struct.dataclass
class Masked:
  """An array whose entries outside of a mask are zero."""

  w: Any
  mask: Any  # booleans, shaped as w

  frozen = ("mask",)

  def value(self) -> jax.Array:
    """Return w where the mask is true, and zero elsewhere."""
    w, mask = leaf.array(self.w), jnp.asarray(self.mask)
    if mask.shape != w.shape or mask.dtype != bool:
      raise ValueError(
        f"masked: the mask is {mask.shape} {mask.dtype}, expected {w.shape}"
        " bool"
      )
    return jnp.where(mask, w, jnp.zeros((), w.dtype))


@flax.struct.dataclass
class Companded:
  """An array computed from a latent one, a arctan(w / b), so below a pi / 2.

  The published text names no formula: this one is ours.
  """

  w: Any  # the latent array
  a: Any
  b: Any
  learned: bool = flax.struct.field(pytree_node=False, default=False)

  @property
  def frozen(self) -> tuple[str, ...]:
    """The fields that are not trained."""
    return () if self.learned else ("a", "b")

  def value(self) -> jax.Array:
    """Return a arctan(w / b), in the dtype of w."""
    w, (a, b) = leaf.wide(self.w), (leaf.wide(self.a), leaf.wide(self.b))
    if not self.learned:
      a, b = leaf.still(a), leaf.still(b)
    return (a * jnp.arctan(w / b)).astype(leaf.array(self.w).dtype)


def masked(mask: Any) -> Make:
  """Return what makes a `Masked` leaf of an array.

  >>> masked(jnp.array([True, False]))(None, jnp.ones(2)).value().tolist()
  [1.0, 0.0]
  """

  def make(key: Key | None, x: Any) -> Masked:
    return Masked(x, jnp.asarray(mask, bool).reshape(jnp.shape(x)))

  return make


def companded(a: float, b: float, learned: bool = False) -> Make:
  """Return what makes a `Companded` leaf whose value is the array given.

  The latent array is b tan(w / a).

  Args:
    a: above zero; every weight stays below a pi / 2.
    b: above zero; weights near zero move a / b times as fast as the latent.
    learned: train a and b too.

  Raises:
    ValueError: for a or b not above zero; when called, for a weight that is not
      below a pi / 2.

  >>> companded(1.0, 0.5)(None, jnp.array([0.25])).value().round(6).tolist()
  [0.25]

  Weight Compander, 2023, https://arxiv.org/abs/2306.16993, whose formula is not
  published; the arctangent is ours.
  """
  if not (a > 0 and b > 0):
    raise ValueError(f"companded: a is {a} and b {b}, expected both above 0")

  def make(key: Key | None, x: Any) -> Companded:
    if trees.concrete(x) and not np.all(np.abs(np.asarray(x)) < a * np.pi / 2):
      raise ValueError(
        f"companded: a weight is {np.abs(np.asarray(x)).max()}, expected"
        f" magnitudes below a pi / 2 = {a * np.pi / 2}"
      )
    y = leaf.wide(x)
    latent = (b * jnp.tan(y / a)).astype(leaf.array(x).dtype)
    return Companded(
      latent, jnp.asarray(a, y.dtype), jnp.asarray(b, y.dtype), learned
    )

  return make
