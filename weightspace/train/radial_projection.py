"""The part of an update along the weights, and where it means nothing.

Before a normalisation the length of a weight has no effect, but momentum keeps
adding to it, and the longer the weight the smaller the effective step.  A
gradient that is orthogonal to its weights tells such a leaf.

>>> project_radial(jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0])).round(2)
Array([ 0.64, -0.48], dtype=float32)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.matrix_views import View
from weightspace.types import Params

# rule(path, direction, gradient, weights) -> direction with its decay
Rule = Callable[[str, jax.Array, jax.Array, jax.Array], jax.Array]


def project_radial(update: Params, weight: Params) -> Params:
  """Return the update less its part along the weight, u - w <w, u> / <w, w>.

  Args:
    update: an array, or a tree of them: each leaf is one vector.
    weight: of the same structure and shapes.

  Returns:
    A tree like `update`, orthogonal to the weight leaf by leaf; where a weight
    is all 0, and for leaves that are not floating, the update as it is.

  Raises:
    ValueError: at the first path where the two differ in shape.

  >>> project_radial(jnp.array([5.0, 1.0]), jnp.array([0.0, 2.0])).tolist()
  [5.0, 0.0]

  Heo et al. 2021, "AdamP", https://arxiv.org/abs/2006.08217 (equation 8; its
  code adds 1e-8 to the norm of the weight).
  """
  check_alike(update, weight, "project_radial")

  def leaf(u: Any, w: Any) -> Any:
    if not trees.inexact(u):
      return u
    u, w = jnp.asarray(u), jnp.asarray(w)
    wide = trees.accumulator(jnp.promote_types(u.dtype, w.dtype))
    flat = _tangent(*(x.astype(wide).reshape(1, -1) for x in (u, w)))
    return flat.reshape(u.shape).astype(u.dtype)

  return jax.tree.map(leaf, update, weight)


def _tangent(u: jax.Array, w: jax.Array) -> jax.Array:
  """Return rows u [..., n] less their parts along rows w."""
  # Scaled first: squares of small weights would vanish.
  top = jnp.max(jnp.abs(w), -1, keepdims=True, initial=0.0)
  w = w / jnp.where(top > 0, top, 1.0)
  square = jnp.sum(jnp.abs(w) ** 2, -1, keepdims=True)
  along = jnp.sum(jnp.conj(w) * u, -1, keepdims=True)
  return u - w * (along / jnp.where(square > 0, square, 1.0))


def decayed_tangent(
  delta: float, wd_ratio: float, decay: float, eps: float, view: View
) -> Rule:
  """Return the rule of AdamP: the decay added, the radial part left out.

  Of each matrix, first by output units, then as a whole: where max |cos(g, w)|
  < delta / sqrt(n) for weights w of n entries, d <- d - w <w, d> / <w, w> and
  the decay is multiplied by `wd_ratio`.  Scanned layers and experts, the batch
  of the view, are matrices of their own; vectors are never projected.

  Args:
    delta: the largest cosine that counts as orthogonal.
    wd_ratio: what remains of the decay where the radial part is left out.
    decay: of the weights.
    eps: norms below it count as it, where cosines are taken.
    view: which leaves are matrices, and what their output units are.

  Heo et al. 2021, https://arxiv.org/abs/2006.08217, and its code.
  """

  def rule(path: str, d: jax.Array, g: jax.Array, w: jax.Array) -> jax.Array:
    vector = w.ndim < 2 or jnp.iscomplexobj(w)
    shape = None if vector else view(path)(w.shape)
    if shape is None:
      return d + decay * w
    units = [x.reshape(shape).mT for x in (d, g, w)]  # [batch, out, in]
    layers = [x.reshape(len(x), 1, -1) for x in units]
    by_unit = _orthogonal(units[1], units[2], delta, eps)
    by_layer = ~by_unit & _orthogonal(layers[1], layers[2], delta, eps)
    d, _, w = units
    whole = _tangent(layers[0], layers[2])
    kept = jnp.where(by_unit | by_layer, wd_ratio, 1.0)
    d = jnp.where(by_layer, whole.reshape(d.shape), d)
    d = jnp.where(by_unit, _tangent(units[0], w), d)
    return (d + decay * kept * w).mT.reshape(g.shape)

  return rule


def _orthogonal(
  g: jax.Array, w: jax.Array, delta: float, eps: float
) -> jax.Array:
  """Tell of each batch [b, 1, 1] whether all rows of g are orthogonal to w's.

  Cosines of independent rows of n entries are about 1 / sqrt(n).
  """
  norms = [jnp.maximum(jnp.linalg.norm(x, axis=-1), eps) for x in (g, w)]
  cosines = jnp.abs(jnp.sum(g * w, -1)) / (norms[0] * norms[1])
  largest = jnp.max(cosines, -1, keepdims=True)[..., None]
  return largest < delta / w.shape[-1] ** 0.5


def check_alike(update: Params, weight: Params, what: str) -> None:
  """Raise a ValueError at the first path where two trees differ in shape."""
  shapes = [
    {p: np.shape(x) for p, x in trees.named(t).items()}
    for t in (update, weight)
  ]
  for path in [*shapes[1], *shapes[0]]:
    got, wanted = (s.get(path) for s in shapes)
    if got != wanted:
      raise ValueError(
        f"{what}: update of {path!r} is {got}, expected {wanted} as the weight"
      )
