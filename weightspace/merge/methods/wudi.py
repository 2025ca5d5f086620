"""Merges that minimise interference between tasks: WUDI and OptMerge.

A task vector's columns span the inputs that it was trained on, so a merged
matrix M disturbs task m by R_m (M - L_m), with L_m the task vector and R_m its
transpose (WUDI) or the leading part of it (OptMerge).  The sum of squares is a
quadratic in M, which has a closed form.  Matrices are [in, out] as flax keeps
them: the papers' [out, in] transposed, which is `inputs="last"`.

>>> models, start = {"w": jnp.eye(2)[None]}, {"w": jnp.zeros((2, 2))}
>>> wudi()(models, base=start)["w"].round(4).tolist()
[[1.0, 0.0], [0.0, 1.0]]
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from weightspace.merge.core import checks
from weightspace.merge.core.matrix_view import (
  View,
  dot,
  kernels,
  norm,
  per_map,
  thin_svd,
)
from weightspace.merge.core.recipe import Recipe
from weightspace.merge.methods import iso_tsv

SOLVERS = ("closed", "adam")
RIGHTS = ("centred", "raw")


def wudi(
  solver: str = "closed",
  scale: float | jax.Array = 1.0,
  steps: int = 300,
  learning_rate: float = 1e-5,
  view: View = kernels,
  inputs: str = "first",
) -> Recipe:
  """Return WUDI: base + the matrix that disturbs the tasks' inputs least.

  Minimise sum_m |delta_m' (M - delta_m)|^2 / |delta_m|^2 over M, from the sum
  of the task vectors; directions that no task vector has stay as they start.

  Args:
    solver: "closed" for the minimum, by one SVD; "adam" for the paper's
      optimisation, which stops early.
    scale: multiplies the merged task vector; the paper has none.
    steps: of Adam; 300 in the paper.
    learning_rate: of Adam.
    view: which leaves are matrices.
    inputs: "first" where matrices are [in, out], as flax keeps them, or "last"
      where they are [out, in], as PyTorch does (the papers' way).

  Raises:
    ValueError: for an unknown solver, less than one step, or (when called) no
      base.

  >>> models = {"w": jnp.array([[[1.0], [0.0]], [[0.0], [2.0]]])}
  >>> start = {"w": jnp.zeros((2, 1))}
  >>> wudi()(models, base=start)["w"].round(4).tolist()
  [[1.0], [2.0]]

  Cheng et al. 2025, "Whoever started the interference should end it: guiding
  data-free model merging via task vectors", https://arxiv.org/abs/2503.08099;
  the closed form follows from its eq. 1.
  """
  solve = _solver("wudi", solver, steps, learning_rate)
  checks.number("wudi: scale", scale)

  def merge(deltas: jax.Array) -> jax.Array:
    return solve(_weighted(deltas.mT, deltas), deltas, iso_tsv.total(deltas))

  return iso_tsv.scaled(per_map("wudi", merge, view, inputs), scale)


def optmerge(
  scale: float | jax.Array = 1.0,
  right: str = "centred",
  solver: str = "adam",
  steps: int = 300,
  learning_rate: float = 1e-5,
  view: View = kernels,
  inputs: str = "first",
) -> Recipe:
  """Return OptMerge: WUDI on task vectors without their noise.

  With C_m = delta_m - mean delta, L_m = lowrank_k(C_m) + mean delta and R_m the
  first k singular values times input vectors of C_m, minimise
  sum_m |R_m (M - L_m)|^2 / |delta_m|^2 from the sum of the task vectors;
  k = max(1, floor(min(in, out) / M)).

  Args:
    scale: multiplies the merged task vector; the paper searches 0.1 to 1.5.
    right: R_m of the "centred" C_m (the paper), or of the "raw" delta_m (its
      code).
    solver: "adam" (the paper), or "closed" for the minimum.  The minimum fits
      directions that tasks nearly share by very large weights; stopping early
      does not.
    steps, learning_rate, view, inputs: as in `wudi`.

  Raises:
    ValueError: for an unknown option, less than one step, or (when called) no
      base.

  >>> models, start = {"w": jnp.eye(2)[None]}, {"w": jnp.zeros((2, 2))}
  >>> optmerge(solver="closed")(models, base=start)["w"].round(4).tolist()
  [[1.0, 0.0], [0.0, 1.0]]

  Wei et al. 2025, "Unifying multimodal large language model capabilities and
  modalities via model merging", eq. 2-3, https://arxiv.org/abs/2505.19892.
  """
  solve = _solver("optmerge", solver, steps, learning_rate)
  checks.option("optmerge: right", right, RIGHTS)
  checks.number("optmerge: scale", scale)

  def merge(deltas: jax.Array) -> jax.Array:
    kept = max(1, min(deltas.shape[1:]) // len(deltas))
    total, sizes = iso_tsv.total(deltas), norm(deltas)
    mean = total[None] / len(deltas)
    u, s, vt = _cut(*thin_svd(deltas - mean, sizes), kept)
    targets = dot(u * s[:, None], vt) + mean
    if right == "raw":
      u, s, _ = _cut(*thin_svd(deltas), kept)
    rows = _weighted((u * s[:, None]).mT, deltas)
    return solve(rows, targets, total)

  return iso_tsv.scaled(per_map("optmerge", merge, view, inputs), scale)


def interference(merged: jax.Array, deltas: jax.Array) -> jax.Array:
  """Return WUDI's loss of one matrix, sum_m |d_m' (M - d_m)|^2 / |d_m|^2.

  Args:
    merged: [in, out], a merged task vector.
    deltas: [M, in, out], the tasks'; those that are zero count for nothing.

  >>> interference(jnp.eye(2), jnp.eye(2)[None]).item()
  0.0

  https://arxiv.org/abs/2503.08099, eq. 1.
  """
  return _loss(merged, _weighted(deltas.mT, deltas), deltas)


def _solver(
  name: str, solver: str, steps: int, learning_rate: float
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
  """Return solve(rows [M, k, in], targets [M, in, out], start [in, out])."""
  checks.option(f"{name}: solver", solver, SOLVERS)
  checks.number(f"{name}: steps", steps, least=1)
  if solver == "closed":
    return _minimise
  return functools.partial(_descend, steps=steps, learning_rate=learning_rate)


def _minimise(
  rows: jax.Array, targets: jax.Array, start: jax.Array
) -> jax.Array:
  """Return the minimum of `_loss` that is nearest to `start`."""
  # By the SVD of the rows, not of their Gram matrix: that squares the error.
  u, s, vt = thin_svd(rows.reshape(-1, rows.shape[-1]))
  missing = dot(rows, targets - start[None]).reshape(len(u), -1)
  found = dot(u.mT, missing) / jnp.where(s == 0, 1.0, s)[:, None]
  return start + dot(vt.mT, found)


@jax.jit
def _descend(
  rows: jax.Array,
  targets: jax.Array,
  start: jax.Array,
  steps: int,
  learning_rate: float,
) -> jax.Array:
  """Take Adam steps on `_loss` from `start`."""
  optimiser = optax.adam(learning_rate)

  def step(_: jax.Array, carry: tuple) -> tuple:
    merged, state = carry
    gradient = jax.grad(_loss)(merged, rows, targets)
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(merged, updates), state

  return jax.lax.fori_loop(0, steps, step, (start, optimiser.init(start)))[0]


def _loss(merged: jax.Array, rows: jax.Array, targets: jax.Array) -> jax.Array:
  """sum_m |rows_m (merged - targets_m)|^2."""
  return jnp.sum(dot(rows, merged[None] - targets) ** 2)


def _weighted(rows: jax.Array, deltas: jax.Array) -> jax.Array:
  """Divide the rows of each task by the norm of its task vector."""
  sizes = norm(deltas)
  return rows / jnp.where(sizes == 0, 1.0, sizes)[:, None, None]


def _cut(
  u: jax.Array, s: jax.Array, vt: jax.Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  return u[:, :, :count], s[:, :count], vt[:, :count]
