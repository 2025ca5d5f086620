"""Krylov spaces: Lanczos steps that keep their basis orthogonal.

m products with a matrix give an orthonormal basis Q of m vectors in which it is
tridiagonal.  Rounding makes Q lose its orthogonality as soon as Ritz values
converge, so each new vector is projected off all earlier ones twice, by matrix
products over blocks of them.  When the space is exhausted the recursion begins
anew in what is left.

matfree has a Lanczos of its own; it is not used: it has no second pass of
reorthogonalisation by matrix products, no restart, no warm start and no check
of symmetry, and would add a dependency for thirty lines.

>>> from weightspace.probe.curvature.matrices import from_function
>>> matrix = from_function(lambda v: 2.0 * v, jnp.zeros(3))
>>> found = tridiagonalize(matrix, jnp.ones(3), 2, jax.random.key(0))
>>> found.alphas.round(4).tolist(), found.betas.round(4).tolist()
([2.0, 2.0], [0.0, 0.0])
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.probe.curvature.operators import Operator
from weightspace.types import Key

BLOCK = 16  # basis vectors that a projection takes at a time


class Tridiagonal(NamedTuple):
  """Q A Q' = T, with T tridiagonal up to rounding."""

  alphas: jax.Array  # [m], the diagonal
  betas: jax.Array  # [m]: beside it; the last leads out of the space
  basis: jax.Array  # [m, n], orthonormal rows
  asymmetry: jax.Array  # [], largest entry that symmetry forbids, over |T|


def tridiagonalize(
  operator: Operator, start: jax.Array, steps: int, key: Key
) -> Tridiagonal:
  """Run m steps of Lanczos from a flat vector [n]; traceable.

  Args:
    operator: its product is opened once.
    start: [n], not zero.
    steps: m, at most the dimension.
    key: of the vectors that the recursion begins anew with.

  Lanczos 1950; two passes are enough: Giraud et al. 2005,
  https://doi.org/10.1007/s00211-005-0615-4.
  """
  product = operator.product()
  loop: Any = jax.lax.fori_loop
  if operator.on_host:
    loop = _python_loop
  rows = -(-steps // BLOCK) * BLOCK
  eps = jnp.finfo(start.dtype).eps

  def body(i: Any, state: Any) -> Any:
    basis, alphas, betas, asymmetry, scale = state
    w = product(basis[i])
    w, first = _project(basis, w, i)
    w, second = _project(basis, w, i)
    alpha, beta = first[i] + second[i], jnp.linalg.norm(w)
    above = _forbidden(first, betas, i)
    scale = jnp.maximum(scale, jnp.maximum(jnp.abs(alpha), beta))
    ends = beta <= 10.0 * eps * scale
    fresh = jax.lax.cond(
      ends,
      lambda: _fresh(operator, basis, i, jax.random.fold_in(key, i), w.dtype),
      lambda: w / jnp.where(beta > 0, beta, 1.0),
    )
    # The row after the last one is not kept.
    place = jnp.minimum(i + 1, rows - 1)
    row = jnp.where(i + 1 < steps, fresh, basis[place])
    basis = basis.at[place].set(row)
    alphas = alphas.at[i].set(alpha)
    betas = betas.at[i].set(jnp.where(ends, 0.0, beta))
    return basis, alphas, betas, jnp.maximum(asymmetry, above), scale

  zero = jnp.zeros((), start.dtype)
  basis = jnp.zeros((rows, len(start)), start.dtype)
  basis = basis.at[0].set(start / jnp.linalg.norm(start))
  state = basis, jnp.zeros(rows, zero.dtype), jnp.zeros(rows, zero.dtype)
  basis, alphas, betas, asymmetry, scale = loop(
    0, steps, body, (*state, zero, zero)
  )
  ratio = asymmetry / jnp.where(scale > 0, scale, 1.0)
  return Tridiagonal(alphas[:steps], betas[:steps], basis[:steps], ratio)


def _forbidden(parts: jax.Array, betas: jax.Array, i: Any) -> jax.Array:
  """Return the largest part that a product has where symmetry has none."""
  places = jnp.arange(len(parts))
  due = jnp.where(places == i - 1, betas[jnp.maximum(i - 1, 0)], 0.0)
  return jnp.where(places < i, jnp.abs(parts - due), 0.0).max()


def _python_loop(low: int, high: int, body: Any, state: Any) -> Any:
  for i in range(low, high):
    state = body(i, state)
  return state


def _project(
  basis: jax.Array, w: jax.Array, i: Any
) -> tuple[jax.Array, jax.Array]:
  """Take the parts along the first i + 1 rows off w; return them too."""
  rows, count = basis.shape
  highest = jax.lax.Precision.HIGHEST

  def off(block: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    parts = jnp.matmul(block, w, precision=highest)
    return w - jnp.matmul(parts, block, precision=highest), parts

  if rows == BLOCK:  # rows that are not there yet are zero
    return off(basis, w)

  def one(b: Any, state: Any) -> Any:
    w, parts = state
    block = jax.lax.dynamic_slice(basis, (b * BLOCK, 0), (BLOCK, count))
    w, own = off(block, w)
    return w, jax.lax.dynamic_update_slice(parts, own, (b * BLOCK,))

  return jax.lax.fori_loop(
    0, i // BLOCK + 1, one, (w, jnp.zeros(rows, w.dtype))
  )


def _fresh(
  operator: Operator, basis: jax.Array, i: Any, key: Key, dtype: Any
) -> jax.Array:
  """Return a random unit vector orthogonal to the basis."""
  w = operator.draw(key).astype(dtype)
  w = w / jnp.linalg.norm(w)
  for _ in range(2):
    w, _ = _project(basis, w, i)
    w = w / jnp.linalg.norm(w)
  return w


_tridiagonalize = jax.jit(tridiagonalize, static_argnames="steps")


def run(
  operator: Operator, start: jax.Array, steps: int, key: Key, what: str
) -> Tridiagonal:
  """Run Lanczos, compiled unless products run on the host, and check it.

  Raises:
    ValueError: when the operator is not symmetric beyond rounding, or its
      product is not finite.
  """
  whole = tridiagonalize if operator.on_host else _tridiagonalize
  found = whole(operator, start, steps, key)
  check(operator, found, what)
  return found


def check(operator: Operator, found: Tridiagonal, what: str) -> None:
  """Raise a ValueError for a spectrum that cannot be: see `run`."""
  if not trees.concrete(found):
    return
  if not np.isfinite(found.alphas).all() or not np.isfinite(found.betas).all():
    raise ValueError(f"{what}: a product of the operator is not finite")
  worst = float(jnp.max(found.asymmetry))
  rounding = 3.0 * float(jnp.finfo(found.asymmetry.dtype).eps) ** 0.5
  if worst > rounding and not operator.symmetric:
    raise ValueError(
      f"{what}: the operator is not symmetric: entries differ by {worst:.2g} of"
      " its norm, expected rounding only"
    )


def steps_of(operator: Operator, steps: int, what: str) -> int:
  """Return the number of steps, at most the dimension.

  After as many the space is exhausted and the spectrum exact.
  """
  if steps < 1:
    raise ValueError(f"{what}: steps is {steps}, expected at least 1")
  return min(steps, operator.size)


@jax.jit
def decompose(found: Tridiagonal) -> tuple[jax.Array, jax.Array]:
  """Return eigenvalues [m], ascending, and eigenvectors [m, m] of T."""
  beside = jnp.diag(found.betas[:-1], 1)
  return jnp.linalg.eigh(jnp.diag(found.alphas) + beside + beside.T)
