"""Spectral merges: task vectors by their singular vectors and values.

Each method maps the task vectors of a matrix, [M, in, out], to one matrix;
biases and other leaves get the mean of theirs, and `scale` multiplies both, as
in the papers' code.  `view=` says which leaves are which matrices.

>>> models = {"w": jnp.array([[[3.0, 0.0], [0.0, 1.0]]])}
>>> iso_c()(models, base={"w": jnp.zeros((2, 2))})["w"].round(4).tolist()
[[2.0, 0.0], [0.0, 2.0]]
"""

import jax
import jax.numpy as jnp

from weightspace import means
from weightspace.merge.core import checks
from weightspace.merge.core.matrix_view import (
  View,
  dot,
  kernels,
  norm,
  per_map,
  per_matrix,
  polar,
  thin_svd,
)
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import Step
from weightspace.merge.methods import task_arithmetic


def scaled(step: Step, scale: float | jax.Array) -> Recipe:
  """Return base + scale step(stack - base)."""
  return on_deltas(chain(step, task_arithmetic.scaled(scale)))


def tsv(
  scale: float | jax.Array = 1.0,
  lossless: bool = False,
  view: View = kernels,
) -> Recipe:
  """Return TSV-M: the leading singular triplets of each task, decorrelated.

  With U_m S_m V_m' the SVD of task vector m cut to its first
  max(1, floor(min(in, out) / M)) triplets, and U, S, V their concatenation over
  m: base + scale P(U) S P(V)', where P(U) is the nearest matrix with
  orthonormal columns (or rows).

  Args:
    scale: multiplies the merged task vector.
    lossless: keep all triplets of each task.
    view: which leaves are matrices.

  Raises:
    ValueError: for a scale that is not a number, or (when called) no base.

  >>> start = {"w": jnp.zeros((2, 2))}
  >>> tsv()({"w": jnp.eye(2)[None]}, base=start)["w"].tolist()
  [[1.0, 0.0], [0.0, 1.0]]

  Gargiulo et al. 2025, "Task singular vectors: reducing task interference in
  model merging", https://arxiv.org/abs/2412.00081.  At least one triplet a
  task, and no arbitrary vectors where rank is lacking, are ours.
  """
  checks.number("tsv: scale", scale)

  def merge(deltas: jax.Array) -> jax.Array:
    kept = min(deltas.shape[1:]) // (1 if lossless else len(deltas))
    u, s, vt = _joined(*thin_svd(deltas), max(1, kept))
    return dot(polar(u) * s[None], polar(vt))

  return scaled(per_matrix("tsv", merge, view), scale)


def iso_c(scale: float | jax.Array = 1.0, view: View = kernels) -> Recipe:
  """Return Iso-C: the sum of task vectors with all singular values equal.

  base + scale mean(S) U V' with U S V' the SVD of sum_m delta_m, the mean over
  all min(in, out) singular values.

  Args:
    scale: multiplies the merged task vector.
    view: which leaves are matrices.

  Raises:
    ValueError: for a scale that is not a number, or (when called) no base.

  >>> models, start = {"w": jnp.eye(2)[None] * 3}, {"w": jnp.zeros((2, 2))}
  >>> iso_c()(models, base=start)["w"].tolist()
  [[3.0, 0.0], [0.0, 3.0]]

  Marczak et al. 2025, "No task left behind: isotropic model merging with common
  and task-specific subspaces", https://arxiv.org/abs/2502.04959.  A sum that
  lacks rank is flattened within its row and column space (ours).
  """
  checks.number("iso_c: scale", scale)

  def merge(deltas: jax.Array) -> jax.Array:
    u, s, vt = thin_svd(total(deltas), norm(deltas).sum())
    return s.mean() * dot(u, vt)

  return scaled(per_matrix("iso_c", merge, view), scale)


def iso_cts(
  scale: float | jax.Array = 1.0,
  common: float = 0.8,
  view: View = kernels,
  inputs: str = "first",
) -> Recipe:
  """Return Iso-CTS: Iso-C with room for what only one task has.

  Of r = min(in, out) directions, s belong to the sum of task vectors and
  (r - s) / M to each task: the leading triplets of its task vector outside the
  sum's output directions.  Both sides are made orthonormal by the polar factor,
  all singular values are set to the mean of those collected.

  Args:
    scale: multiplies the merged task vector.
    common: share of directions for the sum, rounded so that M divides the rest.
    view: which leaves are matrices.
    inputs: "first" where matrices are [in, out], as flax keeps them, or "last"
      where they are [out, in], as PyTorch does (the papers' way).

  Raises:
    ValueError: for a share outside [0, 1], or (when called) no base.

  >>> models, start = {"w": jnp.eye(2)[None] * 3}, {"w": jnp.zeros((2, 2))}
  >>> iso_cts()(models, base=start)["w"].round(4).tolist()
  [[3.0, 0.0], [0.0, 3.0]]

  Marczak et al. 2025, https://arxiv.org/abs/2502.04959, sec. 4; the rounding as
  in its code.
  """
  checks.number("iso_cts: scale", scale)
  checks.number("iso_cts: common", common, least=0.0, most=1.0)

  def merge(deltas: jax.Array) -> jax.Array:
    count, rank = len(deltas), min(deltas.shape[1:])
    own = (rank - int(common * rank)) / count
    own = min(round(own), rank // count)
    sizes = norm(deltas)
    u, s, vt = thin_svd(total(deltas)[None], sizes.sum()[None])
    shared = _joined(u, s, vt, rank - count * own)
    # [in, out] here is [out, in] in the paper: its left side is our right.
    inside = dot(dot(deltas, shared[2].mT), shared[2])
    tasks = _joined(*thin_svd(deltas - inside, sizes), own)
    u = jnp.concatenate([shared[0], tasks[0]], 1)
    s = jnp.concatenate([shared[1], tasks[1]])
    vt = jnp.concatenate([shared[2], tasks[2]])
    return s.mean() * dot(polar(u), polar(vt))

  return scaled(per_map("iso_cts", merge, view, inputs), scale)


def _joined(
  u: jax.Array, s: jax.Array, vt: jax.Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Put the first `count` singular triplets of M matrices side by side."""
  u, s, vt = u[:, :, :count], s[:, :count], vt[:, :count]
  columns = jnp.moveaxis(u, 0, 1).reshape(u.shape[1], -1)
  return columns, s.reshape(-1), vt.reshape(-1, vt.shape[-1])


def total(deltas: jax.Array) -> jax.Array:
  """Return the sum of the task vectors, [M, in, out] -> [in, out]."""
  return means.contract(deltas, jnp.ones(len(deltas), jnp.float32))
