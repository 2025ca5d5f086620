"""Low rank plus sparse: a matrix as two thin factors and a few entries.

Merged experts are nearly of low rank; what the factors miss most is kept entry
by entry.

>>> x = jnp.eye(4).at[0, 3].set(9.0)
>>> kept = low_rank_sparse({"w": x}, share=0.25, keep=0.25)
>>> bool(kept.error["w"] < 0.2)
True
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.merge.core.matrix_view import dot, norm, thin_svd
from weightspace.types import Params


class LowRankSparse(NamedTuple):
  """Factors and entries of each matrix, and how far they are from it."""

  left: Params  # [batch, in, k]; leaves that are no matrix, as they are
  right: Params  # [batch, k, out]; None for those leaves
  values: Params  # [batch, s]
  places: Params  # [batch, s] in the flattened matrix
  error: Params  # [], |leaf - what is kept| / |leaf|


def low_rank_sparse(
  params: Params, share: float, keep: float, only: str = ""
) -> LowRankSparse:
  """Return matrices as left right + S, S the largest entries of what is left.

  k = max(1, floor(share min(in, out))) singular triplets; S has
  floor(keep in out) entries.  One step of each: the paper trains on.

  Args:
    params: a pytree; the last two axes of a leaf with two axes or more are a
      matrix, the others a batch (experts).
    share: of the rank, in [0, 1].
    keep: of the entries, in [0, 1].
    only: part of a path; other leaves are kept as they are.

  Returns:
    LowRankSparse; `dense` puts it together, `stored` counts its bytes.

  Raises:
    ValueError: for shares outside [0, 1], or a NaN.

  >>> kept = low_rank_sparse({"w": jnp.ones((2, 3))}, 0.5, 0.0)
  >>> dense(kept, {"w": jnp.ones((2, 3))})["w"].round(4).tolist()
  [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

  Li et al. 2024, "Merge, then compress", https://arxiv.org/abs/2310.01334,
  whose sparse part keeps columns by importance; entries by size are ours.
  """
  checks.number("low_rank_sparse: share", share, 0, 1)
  checks.number("low_rank_sparse: keep", keep, 0, 1)
  trees.check_finite(params, "low_rank_sparse")

  def leaf(path: str, x: jax.Array) -> tuple:
    x = jnp.asarray(x)
    if x.ndim < 2 or only not in path or not trees.inexact(x):
      return x, None, None, None, jnp.zeros(())
    y = x.astype(jnp.float32).reshape(-1, *x.shape[-2:])
    u, s, vt = thin_svd(y)
    rank = max(1, int(share * s.shape[-1] + 1e-6))
    left, right = u[..., :rank] * s[..., None, :rank], vt[..., :rank, :]
    rest = (y - dot(left, right)).reshape(len(y), -1)
    count = int(keep * rest.shape[1] + 1e-6)
    _, places = jax.lax.top_k(jnp.abs(rest), count)
    values = jnp.take_along_axis(rest, places, 1)
    whole = _whole(left, right, values, places)
    lost = jnp.linalg.norm(norm(y - whole)) / jnp.linalg.norm(norm(y))
    kept = (part.astype(x.dtype) for part in (left, right, values))
    return (*kept, places, lost)

  found = trees.map_named(leaf, params)
  parts = [
    jax.tree.map(lambda _, t, i=i: t[i], params, found) for i in range(5)
  ]
  return LowRankSparse(*parts)


def _whole(
  left: jax.Array, right: jax.Array, values: jax.Array, places: jax.Array
) -> jax.Array:
  product = dot(left, right)
  flat = product.reshape(len(product), -1)
  rows = jnp.arange(len(flat))[:, None]
  return flat.at[rows, places].add(values).reshape(product.shape)


def dense(kept: LowRankSparse, like: Params) -> Params:
  """Return the tree that was compressed, in the shapes of `like`."""

  def leaf(
    x: jax.Array,
    left: jax.Array,
    right: jax.Array,
    values: jax.Array,
    places: jax.Array,
  ) -> jax.Array:
    if right is None:
      return left
    wide = [part.astype(jnp.float32) for part in (left, right, values)]
    whole = _whole(wide[0], wide[1], wide[2], places)
    return whole.reshape(jnp.shape(x)).astype(left.dtype)

  return jax.tree.map(leaf, like, *kept[:4])


def stored(kept: LowRankSparse) -> int:
  """Return the bytes of the factors, the entries and their places.

  >>> stored(low_rank_sparse({"w": jnp.ones((4, 4))}, 0.25, 0.125))
  48
  """
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept[:4]))


def stable_rank(x: jax.Array) -> jax.Array:
  """Return |X|_F^2 / |X|_2^2 of matrices [..., in, out]: their stable rank.

  >>> round(stable_rank(jnp.eye(3)).item(), 4)
  3.0
  """
  s = jnp.linalg.svd(x.astype(jnp.float32), compute_uv=False)
  return (s**2).sum(-1) / jnp.maximum(s[..., 0] ** 2, 1e-30)
