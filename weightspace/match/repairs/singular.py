"""Why matching works: what it does to the singular directions of the layers.

Permutations keep singular values, and bring two models little nearer in
distance; what they change is which way the leading singular vectors point.

>>> def apply(w, x): return x @ w
>>> a, b = jnp.diag(jnp.array([2.0, 0.1])), jnp.diag(jnp.array([3.0, 0.1]))
>>> layer = singular_alignment(apply, a, b, jnp.ones((1, 2)))[0]
>>> round(layer.left, 3), layer.rank
(1.0, 1)
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.match.repairs import layers
from weightspace.symmetry import checks
from weightspace.types import Apply, Params


class Layer(NamedTuple):
  """How alike a layer is in two models."""

  path: str
  distance: float  # |W_a - W_b|
  norm: float  # sqrt(|W_a|^2 + |W_b|^2): the distance of unrelated layers
  cosine: float  # <W_a, W_b> / (|W_a| |W_b|)
  left: float  # overlap of the leading directions of the outputs, in [0, 1]
  right: float  # and of the inputs
  rank: int  # how many are leading


def singular_alignment(
  apply: Apply, a: Params, b: Params, x: Any, share: float = 0.3
) -> list[Layer]:
  """Compare the linear layers of two models by their singular vectors.

  With U, V the singular vectors whose singular values are at least `share` of
  the largest in their model, k of them in the smaller set: |U_a' U_b|_F^2 / k,
  and likewise V.  Unrelated directions in dimension n have about k / n.

  Args:
    apply: apply(params, x), to find the layers.
    a, b: the models; permute b to see what a permutation did.
    x: an example batch.
    share: what counts as leading, in (0, 1].

  Returns:
    A Layer for each matrix of each linear map.

  Raises:
    ValueError: for models that differ or are not finite, or another share.

  >>> def apply(w, x): return x @ w
  >>> turned = jnp.array([[0.0, 1.0], [1.0, 0.0]])
  >>> singular_alignment(apply, jnp.eye(2), turned, jnp.ones((1, 2)))[0].cosine
  0.0

  Ito et al. 2024, "Analysis of linear mode connectivity via permutation-based
  weight matching", https://arxiv.org/abs/2402.04051.  The overlap of subspaces
  is our measure: it does not ask singular values to come in one order.
  """
  if not 0 < share <= 1:
    raise ValueError(f"share: {share}, expected above 0 and at most 1")
  trees.check_same(a, b, "singular_alignment: b")
  for name, model in (("a", a), ("b", b)):
    checks.check_finite(model, f"singular_alignment: {name}")
  left, right = trees.named(a), trees.named(b)
  result = []
  for at in layers.find(apply, a, x, "singular_alignment"):
    pair = [np.asarray(layers.matrix(at, t[at.path])) for t in (left, right)]
    for u, v in zip(*pair):
      result.append(_compare(at.path, u, v, share))
  return result


def _compare(path: str, a: np.ndarray, b: np.ndarray, share: float) -> Layer:
  a, b = a.astype(np.float64), b.astype(np.float64)
  found = [_leading(w, share) for w in (a, b)]
  rank = min(f[0].shape[1] for f in found)
  ins, outs = (
    float((np.square(found[0][k].T @ found[1][k])).sum()) / rank for k in (0, 1)
  )
  sizes = np.linalg.norm(a), np.linalg.norm(b)
  product = float((a * b).sum())
  return Layer(
    path,
    float(np.linalg.norm(a - b)),
    float(np.hypot(*sizes)),
    product / float(sizes[0] * sizes[1] or 1.0),
    min(outs, 1.0),
    min(ins, 1.0),
    rank,
  )


def _leading(w: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
  """Return the leading singular vectors of inputs and of outputs."""
  u, s, vt = np.linalg.svd(w, full_matrices=False)
  kept = max(1, int((s >= share * s[0]).sum()))
  return u[:, :kept], vt[:kept].T


def distance(a: Params, b: Params) -> float:
  """Return |a - b| over all parameters.

  >>> distance({"w": jnp.array([3.0])}, {"w": jnp.array([0.0])})
  3.0
  """
  total = 0.0
  named = trees.named(b)
  for path, x in trees.named(a).items():
    apart = np.asarray(x, np.float64) - np.asarray(named[path], np.float64)
    total += float((apart**2).sum())
  return float(jnp.sqrt(total))
