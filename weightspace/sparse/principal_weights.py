"""Principal weights: the largest entries of a low-rank approximation (LIFT).

>>> w = jnp.outer(jnp.array([1.0, 3.0]), jnp.array([2.0, 1.0]))
>>> principal(w, rank=1, count=1).tolist()
[[False, False], [True, False]]
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import matrix_views, trees
from weightspace.numerics import counts, top_k
from weightspace.sparse import selection
from weightspace.types import Params


def principal(
  params: Params,
  rank: int,
  density: float | None = None,
  *,
  count: int | None = None,
  adapter: int | None = None,
  largest: bool = True,
  only: str | Sequence[str] | None = None,
  view: matrix_views.View = matrix_views.kernels,
) -> Params:
  """Return the mask of the largest entries of each matrix's low-rank part.

  W = U S V' cut to its first `rank` singular triplets; the k largest |entries|
  of that are kept, in each matrix.

  Args:
    params: of one model, or one matrix.
    rank: of the approximation, at least 1; from the rank of a matrix on it is
      the matrix itself, and the mask that of its magnitudes.
    density: k = floor(density n + 1e-6), at least 1, of the n of a leaf.
    count: k of each matrix, in place of a density.
    adapter: k = min((m + n) adapter, m n) of each matrix [m, n]: as many as
      a LoRA of this rank trains; the budget of the paper's code.
    largest: False keeps the smallest, as the configs of the paper's code do
      (their mask is named `lift_sparse`, and without "largest" in the name it
      takes the smallest), against the paper.
    only: patterns of paths; None for the kernels.  Other leaves are kept out
      of the mask: biases and scales are not trained.
    view: which axes of a leaf are a batch of matrices (scanned layers,
      experts), inputs and outputs; see `matrix_views.scanned`.

  Returns:
    Booleans, shaped as `params`.

  Raises:
    ValueError: for a rank below 1, no or several budgets, one out of range, a
      count above a matrix's size (which the code cuts off), or no matrix.

  >>> mask = principal({"w": jnp.eye(4), "b": jnp.ones(4)}, 2, density=0.25)
  >>> int(mask["w"].sum()), int(mask["b"].sum())
  (4, 0)

  Liu et al. 2025, "LIFT the veil for the truth: principal weights emerge after
  rank reduction for reasoning-focused supervised fine-tuning",
  https://arxiv.org/abs/2506.00772.  Its code takes a randomised decomposition;
  this one is exact.
  """
  given = [density, count, adapter]
  if rank < 1 or sum(x is not None for x in given) != 1:
    raise ValueError(
      f"principal: rank {rank}, density {density}, count {count}, adapter"
      f" {adapter}, expected a rank of 1 or more and one budget"
    )
  if density is not None:
    selection.check_density("principal", density)
  leaves = selection.pruned(params, only, "principal")
  trees.check_finite(leaves, "principal")

  def leaf(path: str, x: Any) -> jax.Array:
    if path not in leaves:
      return jnp.zeros(jnp.shape(x), bool)
    y = _matrices(path, jnp.asarray(x), view)
    k = _budget(path, y.shape[1:], density, count, adapter)
    words = top_k.words(jnp.abs(approximation(y, rank)))
    words = (words if largest else ~words).reshape(len(y), -1)
    return top_k.first([words], k)[0].reshape(x.shape)

  return trees.map_named(leaf, params)


def approximation(x: jax.Array, rank: int) -> jax.Array:
  """Return the best approximation of matrices [..., m, n] of a rank.

  >>> approximation(jnp.diag(jnp.array([2.0, 1.0])), 1).tolist()
  [[2.0, 0.0], [0.0, 0.0]]
  """
  wide = x.astype(trees.accumulator(x.dtype))
  if rank >= min(x.shape[-2:]):
    return wide
  u, s, vt = jnp.linalg.svd(wide, full_matrices=False)
  part = u[..., :rank] * s[..., None, :rank]
  return jnp.matmul(
    part, vt[..., :rank, :], precision=jax.lax.Precision.HIGHEST
  )


def _matrices(path: str, x: jax.Array, view: matrix_views.View) -> jax.Array:
  """View a leaf as matrices [b, in, out]."""
  shape = view(path)(x.shape)
  if shape is None:
    raise ValueError(f"principal: {path!r} {x.shape} is no matrix of the view")
  return x.reshape(shape)


def _budget(
  path: str,
  shape: tuple[int, ...],
  density: float | None,
  count: int | None,
  adapter: int | None,
) -> Any:
  """Return how many entries of one matrix are kept."""
  size = math.prod(shape)
  if density is not None:
    return counts.kept(density, size)
  k = min(sum(shape) * adapter, size) if adapter is not None else count
  if k is None or not 1 <= k <= size:
    raise ValueError(
      f"principal: count {k} of {path!r}, expected 1 to {size} of {shape}"
    )
  return k
