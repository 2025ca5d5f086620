"""Rich or lazy: how far training changed the network, not only its weights.

A lazy network keeps its features and fits the data through its tangent kernel
at the start; a rich one changes both.  Each measure compares the network before
and after; the alignments are cosines, and higher is lazier.

>>> def apply(p, x): return x @ p
>>> p, x = jnp.ones((3, 2)), jnp.eye(3)
>>> round(kernel_alignment(apply, p, 2.0 * p, x).item(), 4)  # linear: lazy
1.0
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.numerics import scales
from weightspace.probe.curvature import operators
from weightspace.types import Apply, Params

HIGHEST = jax.lax.Precision.HIGHEST
RANKS = ("eigenvalues", "stable", "entropy", "participation")


def representation_alignment(before: Any, after: Any) -> jax.Array:
  """Return <K_0, K_T> / (|K_0| |K_T|) with K = H H', not centred.

  Args:
    before: hidden activity [N, ...] of fixed inputs before training.
    after: that after training.

  Raises:
    ValueError: when they hold different numbers of examples.

  >>> h = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  >>> representation_alignment(h, 3.0 * h).round(4).item()
  1.0

  Liu et al. 2024, https://arxiv.org/abs/2310.08513 (uncentred, as their code).
  """
  flat = [_wide(x) for x in (before, after)]
  if any(x.ndim < 2 for x in flat) or len(flat[0]) != len(flat[1]):
    raise ValueError(
      f"representation_alignment: {flat[0].shape} and {flat[1].shape}, expected"
      " [N, ...] with one N"
    )
  grams = [
    jnp.matmul(x, x.T, precision=HIGHEST)
    for x in (x.reshape(len(x), -1) / scales.power(x) for x in flat)
  ]
  return scales.cosine(*grams)


def _wide(x: Any) -> jax.Array:
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def tangent_kernel(
  apply: Apply,
  params: Params,
  x: Any,
  *,
  only: Sequence[str] | None = None,
  full: bool = True,
) -> jax.Array:
  """Return the empirical tangent kernel J J' on N inputs.

  Args:
    apply: `apply(params, x) -> outputs` [N, ...].
    params: one model.
    x: [N, ...].
    only: paths or their beginnings whose parameters count, such as the
      recurrent weights alone; all by default.
    full: all pairs of outputs, [N C, N C]; else the mean over outputs of the
      kernels of single outputs, [N, N].

  Returns:
    The kernel.  The Jacobian [N C, P] of one leaf at a time is held.

  >>> tangent_kernel(lambda p, x: x @ p, jnp.ones((1, 1)), jnp.ones((2, 1)))
  Array([[1., 1.],
         [1., 1.]], dtype=float32)

  Jacot et al. 2018, https://arxiv.org/abs/1806.07572.
  """
  part, _ = operators.select(params, only, None, "tangent_kernel")
  free = part.take(params)
  total: Any = 0.0
  for n in range(len(free)):

    def outputs(leaf: jax.Array, n: int = n) -> jax.Array:
      one = [*free[:n], leaf, *free[n + 1 :]]
      values = apply(part.put(params, one), x)
      return _wide(values).reshape(len(values), -1)

    rows = jax.jacrev(outputs)(free[n])
    rows = rows.reshape(*rows.shape[:2], -1)
    if full:
      flat = rows.reshape(-1, rows.shape[-1])
      total = total + jnp.matmul(flat, flat.T, precision=HIGHEST)
    else:
      each = jnp.einsum("nci,mci->nm", rows, rows, precision=HIGHEST)
      total = total + each / rows.shape[1]
  return total


def kernel_alignment(
  apply: Apply,
  before: Params,
  after: Params,
  x: Any,
  *,
  only: Sequence[str] | None = None,
  full: bool = True,
) -> jax.Array:
  """Return the cosine of the tangent kernels before and after training.

  Args:
    apply: `apply(params, x) -> outputs`.
    before: parameters at the start.
    after: parameters at the end.
    x: [N, ...]; a few hundred are enough.
    only: as in `tangent_kernel`.
    full: as in `tangent_kernel`.

  >>> def apply(p, x): return jnp.tanh(x @ p)
  >>> p, x = jnp.full((2, 1), 0.1), jnp.array([[1.0, 0.0], [0.0, 3.0]])
  >>> bool(kernel_alignment(apply, p, 9.0 * p, x) < 0.99)
  True

  Liu et al. 2024, https://arxiv.org/abs/2310.08513: there of the recurrent
  weights only (`only`), over all times, samples and outputs.
  """
  kernels = [
    tangent_kernel(apply, p, x, only=only, full=full) for p in (before, after)
  ]
  return scales.cosine(*kernels)


def sign_agreement(before: Any, after: Any) -> jax.Array:
  """Return the share of hidden activities that kept their sign.

  >>> sign_agreement(jnp.array([1.0, -1.0]), jnp.array([2.0, 3.0])).item()
  0.5

  Recorded in the code of Liu et al. 2024, https://arxiv.org/abs/2310.08513.
  """
  same = jnp.sign(jnp.asarray(before)) == jnp.sign(jnp.asarray(after))
  return same.mean(dtype=jnp.float32)


def effective_rank(weights: Any, kind: str = "eigenvalues") -> jax.Array:
  """Return how many directions a matrix [n, m] uses, by one of four rules.

  eigenvalues: sum_i |lambda_i| / (n |lambda_1|), in (0, 1], of a square matrix;
  stable: |W|_F^2 / |W|_2^2; entropy: exp of the entropy of s_i / sum s;
  participation: (sum s_i^2)^2 / sum s_i^4.

  Raises:
    ValueError: for an unknown kind, or one that needs a square matrix.

  >>> [effective_rank(jnp.eye(4), kind).round(3).item() for kind in RANKS]
  [1.0, 4.0, 4.0, 4.0]

  eigenvalues: Liu et al. 2024, https://arxiv.org/abs/2310.08513; entropy: Roy
  and Vetterli 2007, https://doi.org/10.5281/zenodo.40594.
  """
  weights = _wide(weights)
  weights = weights / scales.power(weights)
  if kind not in RANKS:
    raise ValueError(f"kind: {kind!r}, expected one of {RANKS}")
  square = weights.ndim == 2 and weights.shape[0] == weights.shape[1]
  if weights.ndim != 2 or (kind == "eigenvalues" and not square):
    raise ValueError(
      f"effective_rank: {weights.shape}, expected a"
      f" {'square ' * (kind == 'eigenvalues')}matrix"
    )
  if kind == "eigenvalues":
    sizes = jnp.abs(jnp.linalg.eigvals(weights))
    return sizes.sum() / (len(sizes) * sizes.max())
  sizes = jnp.linalg.svd(weights, compute_uv=False)
  if kind == "stable":
    return (sizes**2).sum() / sizes.max() ** 2
  if kind == "participation":
    return (sizes**2).sum() ** 2 / (sizes**4).sum()
  shares = sizes / sizes.sum()
  return jnp.exp(jax.scipy.special.entr(shares).sum())
