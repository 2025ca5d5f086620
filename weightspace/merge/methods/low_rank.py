"""Task vectors of low rank: truncated SVD, with the error reported.

A task vector's matrices are kept as two factors of `share` of their rank; the
first 10 % of singular triplets often carry 99 % of a task's accuracy.

>>> delta = {"w": jnp.diag(jnp.array([4.0, 3.0]))}
>>> kept = compress(delta, share=0.5)
>>> round(float(kept.error["w"]), 4)  # 3 / 5
0.6
>>> expand(kept, delta)["w"].round(4).tolist()
[[4.0, 0.0], [0.0, 0.0]]
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks, matrix_view
from weightspace.merge.core.matrix_view import (
  View,
  dot,
  kernels,
  norm,
  thin_svd,
)
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.types import Key, Params

METHODS = ("exact", "random")
EXTRA = 8  # columns beyond the rank that the random range finder draws
POWERS = 2  # its power iterations


class LowRank(NamedTuple):
  """Factors of each matrix, and how far their product is from it."""

  left: Params  # [batch, in, k]; leaves that are no matrix, as they are
  right: Params  # [batch, k, out]; None for those leaves
  error: Params  # [], |leaf - left right| / |leaf|


def compress(
  delta: Params,
  share: float,
  method: str = "exact",
  key: Key | None = None,
  view: View = kernels,
) -> LowRank:
  """Return the matrices of a task vector as factors of low rank.

  U_k S_k and V_k' of U S V', k = max(1, floor(share min(in, out) + 1e-6)): the
  closest matrix of that rank.

  Args:
    delta: a task vector, a pytree.
    share: of the rank, in [0, 1].
    method: "exact", or "random": the same from a random sketch with two power
      iterations, much faster for k << min(in, out), never closer than exact.
    key: for the sketch.
    view: which leaves are matrices.

  Returns:
    LowRank: the factors, and the relative error of each leaf, measured.

  Raises:
    ValueError: for a share outside [0, 1], an unknown method, no key for a
      random one, or a NaN.

  >>> compress({"w": jnp.eye(4)}, 0.25).left["w"].shape
  (1, 4, 1)

  TSV-C of Gargiulo et al. 2025, https://arxiv.org/abs/2412.00081; the sketch:
  Halko, Martinsson and Tropp 2011, https://arxiv.org/abs/0909.4061.
  """
  checks.number("compress: share", share, least=0.0, most=1.0)
  checks.option("compress: method", method, METHODS)
  if method == "random" and key is None:
    raise ValueError("compress: the random method needs key=")
  key = key if method == "random" else None
  trees.check_finite(delta, "delta")

  def leaf(path: str, x: jax.Array) -> tuple:
    x = jnp.asarray(x)
    y = matrix_view.matrix(x[None], path, view) if trees.inexact(x) else None
    if y is None:
      return x, None, jnp.zeros(())
    y = y[0].astype(trees.accumulator(x.dtype))
    rank = _rank(y, share)
    left, right = (
      _exact(y, rank) if method == "exact" else _random(y, rank, key)
    )
    size = norm(y - dot(left, right))
    error = jnp.linalg.norm(size) / jnp.maximum(jnp.linalg.norm(y), 1e-30)
    return left.astype(x.dtype), right.astype(x.dtype), error

  found = trees.map_named(leaf, delta)
  pick = [jax.tree.map(lambda _, t, i=i: t[i], delta, found) for i in range(3)]
  return LowRank(*pick)


def expand(kept: LowRank, like: Params) -> Params:
  """Return the task vector of its factors, in the shapes of `like`.

  >>> kept = compress({"w": jnp.ones((2, 3))}, 1.0)
  >>> expand(kept, {"w": jnp.zeros((2, 3))})["w"].shape
  (2, 3)
  """

  def leaf(x: jax.Array, left: jax.Array, right: jax.Array | None) -> jax.Array:
    if right is None:
      return left
    wide = trees.accumulator(left.dtype)
    product = dot(left.astype(wide), right.astype(wide))
    return product.reshape(jnp.shape(x)).astype(left.dtype)

  return jax.tree.map(leaf, like, kept.left, kept.right)


def truncated(share: float, view: View = kernels) -> Recipe:
  """Return the recipe that cuts matrices to `share` of their rank.

  For task vectors, before any merge: `on_deltas(chain(truncated(0.1), mean))`.

  Args:
    share: of the rank, in [0, 1]; at least one triplet stays.
    view: which leaves are matrices.

  Raises:
    ValueError: for a share outside [0, 1].

  >>> models = {"w": jnp.diag(jnp.array([4.0, 3.0]))[None]}
  >>> truncated(0.5)(models)["w"].round(4).tolist()
  [[[4.0, 0.0], [0.0, 0.0]]]

  https://arxiv.org/abs/2412.00081.
  """
  checks.number("truncated: share", share, least=0.0, most=1.0)

  def cut(y: jax.Array) -> jax.Array:
    return dot(*_exact(y, _rank(y, share)))

  return chain(matrix_view.each_matrix("truncated", cut, view))


def _rank(y: jax.Array, share: float) -> int:
  return max(1, int(share * min(y.shape[-2:]) + 1e-6))


def _exact(y: jax.Array, rank: int) -> tuple[jax.Array, jax.Array]:
  u, s, vt = thin_svd(y)
  return (u * s[..., None, :])[..., :rank], vt[..., :rank, :]


@functools.partial(jax.jit, static_argnames="rank")
def _random(y: jax.Array, rank: int, key: Key) -> tuple[jax.Array, jax.Array]:
  columns = min(rank + EXTRA, *y.shape[-2:])
  shape = (*y.shape[:-2], y.shape[-1], columns)
  basis = jnp.linalg.qr(dot(y, jax.random.normal(key, shape, y.dtype)))[0]
  for _ in range(POWERS):
    basis = jnp.linalg.qr(dot(y.mT, basis))[0]
    basis = jnp.linalg.qr(dot(y, basis))[0]
  left, right = _exact(dot(basis.mT, y), rank)
  return dot(basis, left), right
