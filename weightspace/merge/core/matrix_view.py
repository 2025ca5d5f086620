"""Leaves as matrices: what spectral methods see of a leaf.

One view says which axes of a leaf are inputs and which are outputs.  Leaves
that are not matrices (biases, scales, scalars, complex leaves) are averaged.

>>> matrix(jnp.zeros((2, 3, 3, 4, 5)), "conv/kernel").shape  # [M, b, in, out]
(2, 1, 36, 5)
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from weightspace import means
from weightspace.matrix_views import (
  Rule,
  View,
  inputs_first,
  kernels,
  outputs_first,
)
from weightspace.merge.core import checks, steps
from weightspace.merge.core.steps import At, Measure, Step

ROWS = ("last", "output")
INPUTS = ("first", "last")


def matrix(x: jax.Array, path: str, view: View = kernels) -> jax.Array | None:
  """Return a stacked leaf [M, ...] as [M, batch, in, out]; None: no matrix."""
  return _as_matrix(x, view(path))


def _as_matrix(x: jax.Array, rule: Rule) -> jax.Array | None:
  shape = None if jnp.iscomplexobj(x) else rule(x.shape[1:])
  return None if shape is None else x.reshape(len(x), *shape)


def per_matrix(
  name: str, merge: Callable[[jax.Array], jax.Array], view: View = kernels
) -> Step:
  """Return the step that merges matrices by `merge`, other leaves by the mean.

  Args:
    name: of the step.
    merge: [M, in, out] -> [in, out].
    view: from a path to the rule that makes its leaf a matrix.

  >>> step = per_matrix("first", lambda x: x[0])
  >>> step.edit(jnp.array([[2.0], [4.0]]), None).tolist()  # a vector: the mean
  [3.0]
  """

  def edit(x: jax.Array, rule: Rule) -> jax.Array:
    y = _as_matrix(x, rule)
    if y is None:
      return means.contract(x, jnp.full(len(x), 1 / len(x), jnp.float32))
    return jax.vmap(merge, in_axes=1)(y).reshape(x.shape[1:])

  return _by_rule(Step(name, lambda x, at: x, reduces=True), edit, view)


def per_map(
  name: str,
  merge: Callable[[jax.Array], jax.Array],
  view: View = kernels,
  inputs: str = "first",
) -> Step:
  """Return `per_matrix` for a method in which inputs and outputs differ.

  Args:
    name: of the step.
    merge: [M, in, out] -> [in, out].
    view: from a path to the rule that makes its leaf a matrix.
    inputs: "first" where matrices are [in, out], as flax keeps them, or "last"
      where they are [out, in], as PyTorch does; without a view of one's own,
      [out, in, h, w] then is (out, in h w).

  >>> step = per_map("first", lambda x: x[0] * jnp.ones((2, 1)), inputs="last")
  >>> step.edit(jnp.ones((1, 3, 2)), None).shape
  (3, 2)
  """
  checks.option(f"{name}: inputs", inputs, INPUTS)
  if inputs == "first":
    return per_matrix(name, merge, view)
  view = (lambda path: outputs_first) if view is kernels else view
  return per_matrix(name, lambda x: merge(x.mT).mT, view)


def each_matrix(
  name: str, change: Callable[[jax.Array], jax.Array], view: View = kernels
) -> Step:
  """Return the step that changes each model's matrices, [..., in, out]."""

  def edit(x: jax.Array, rule: Rule) -> jax.Array:
    y = _as_matrix(x, rule)
    return x if y is None else change(y).reshape(x.shape)

  return _by_rule(Step(name, lambda x, at: x), edit, view)


def _by_rule(
  step: Step, edit: Callable[[jax.Array, Rule], jax.Array], view: View
) -> Step:
  """Return `step` with the edit that the view has for each leaf."""

  # One step for each rule, so that leaves of one shape share a program.
  @functools.cache
  def of(rule: Rule) -> Step:
    return step._replace(edit=lambda x, at: edit(x, rule))

  return of(inputs_first)._replace(resolve=lambda path: of(view(path)))


def by_rows(rows: str, step: Step, view: View = kernels) -> Step:
  """Return a step that works on rows, with the rows that are asked for.

  Args:
    rows: "last" for the last axis of a leaf as given, or "output" for what
      comes to one output unit: [batch, out, in] of the view.  Leaves that are
      no matrices stay as they are.
    step: whose rows are the last axis.
    view: which leaves are matrices.

  >>> first = Step("first", lambda x, at: x.at[..., 1:].set(0))
  >>> by_rows("output", first).edit(jnp.ones((1, 2, 2)), None).tolist()
  [[[1.0, 1.0], [0.0, 0.0]]]
  """
  checks.option("rows", rows, ROWS)
  if rows == "last":
    return step

  def edit(x: jax.Array, rule: Rule, at: At) -> jax.Array:
    y = step.edit(_turned(x, rule), at)
    shape = x.shape[1:] if step.reduces else x.shape
    return (y if _as_matrix(x, rule) is None else y.mT).reshape(shape)

  @functools.cache
  def of(rule: Rule) -> Step:
    return step._replace(
      edit=lambda x, at: edit(x, rule, at),
      local=tuple(_of_rows(measure, rule) for measure in step.local),
    )

  return of(inputs_first)._replace(resolve=lambda path: of(view(path)))


def _of_rows(measure: Measure, rule: Rule) -> Measure:
  """Return the measure that sees a leaf as [M, batch, out, in]."""
  return measure._replace(
    view=lambda x, at: steps.view(measure, _turned(x, rule), at)
  )


def check_rows(name: str, rows: str, scope: str) -> None:
  """Refuse rows="output" where there are no rows."""
  checks.option(f"{name}: rows", rows, ROWS)
  if rows != "last" and scope != "row":
    raise ValueError(
      f"{name}: rows={rows!r} with scope={scope!r}, expected scope='row'"
    )


def _turned(x: jax.Array, rule: Rule) -> jax.Array:
  """Return a leaf [M, ...] as [M, batch, out, in]."""
  y = _as_matrix(x, rule)
  return x if y is None else y.mT


def thin_svd(
  x: jax.Array, size: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return U [..., n, r], s [..., r], V' [..., r, m] with r = min(n, m).

  Singular vectors of what rounding leaves of zero are set to zero: LAPACK
  chooses them freely, and methods that raise small singular values would turn
  that choice into weights.  They count as zero up to max(n, m) eps size.

  Args:
    x: [..., n, m].
    size: [...], norm of what `x` was computed from, where that is more than the
      norm of `x`.

  >>> thin_svd(jnp.diag(jnp.array([2.0, 0.0])))[0].tolist()
  [[1.0, 0.0], [0.0, 0.0]]
  """
  size = norm(x) if size is None else size
  u, s, vt = jnp.linalg.svd(x, full_matrices=False)
  kept = s > max(x.shape[-2:]) * jnp.finfo(x.dtype).eps * size[..., None]
  zero = jnp.zeros((), x.dtype)
  u = jnp.where(kept[..., None, :], u, zero)
  return u, jnp.where(kept, s, zero), jnp.where(kept[..., None], vt, zero)


def norm(x: jax.Array) -> jax.Array:
  """Return the Frobenius norms [...] of matrices [..., n, m]."""
  return jnp.sqrt(jnp.sum(x**2, axis=(-2, -1)))


def polar(x: jax.Array) -> jax.Array:
  """Return the orthogonal factor nearest to [n, m]: U V' of its thin SVD.

  Where `x` lacks rank, the partial isometry of its row and column space.
  """
  u, _, vt = thin_svd(x)
  return dot(u, vt)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return a @ b at full precision on every device."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
