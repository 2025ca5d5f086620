"""Extreme eigenpairs by Lanczos, with bounds of their errors.

The eigenvalues of the tridiagonal matrix of a Krylov space are the Ritz values,
of which the outermost converge first.

>>> matrix = jnp.diag(jnp.array([3.0, -5.0, 1.0]))
>>> values, vectors = top_eigenpairs(matrix, 2, 3, jax.random.key(0))
>>> values.round(4).tolist(), jnp.abs(vectors[0]).round(3).tolist()
([3.0, 1.0], [1.0, 0.0, 0.0])
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.probe.curvature import krylov, matrices
from weightspace.probe.curvature.krylov import Tridiagonal
from weightspace.probe.curvature.operators import Operator
from weightspace.types import Key, Params, Stack

ORDERS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "largest": lambda values: -values,
  "smallest": lambda values: values,
  "magnitude": lambda values: -jnp.abs(values),
}


class Ritz(NamedTuple):
  """What m products know of a spectrum."""

  values: jax.Array  # [m], ascending
  weights: jax.Array  # [m], shares of the start vector; they sum to 1
  residuals: jax.Array  # [m], |A v - value v|: each has an eigenvalue so near


def _start(operator: Operator, key: Key, start: Params | Stack | None) -> Any:
  if start is None:
    return operator.draw(key)
  sample = operator.tree(jnp.zeros(operator.part.size))
  dims = [np.ndim(jax.tree.leaves(tree)[0]) for tree in (start, sample)]
  if dims[0] > dims[1]:  # a Stack of eigenvectors: their sum has a part of each
    start = jax.tree.map(lambda x: jnp.sum(x, 0), start)
  flat = operator.flat(start)
  if trees.concrete(flat) and not float(jnp.linalg.norm(flat)) > 0:
    raise ValueError("start: a zero vector, expected a direction")
  return flat


def ritz(
  operator: Any, steps: int, key: Key, *, start: Params | Stack | None = None
) -> Ritz:
  """Return all Ritz values of m steps, with error bounds.

  Args:
    operator: as in `top_eigenpairs`.
    steps: m products; more than the dimension are as many as it.
    key: of the start vector.
    start: as in `top_eigenpairs`.

  Raises:
    ValueError: as `top_eigenpairs`.

  >>> found = ritz(jnp.diag(jnp.array([1.0, 2.0])), 5, jax.random.key(0))
  >>> found.values.round(4).tolist()
  [1.0, 2.0]

  Parlett 1998, "The symmetric eigenvalue problem", chapter 13,
  https://doi.org/10.1137/1.9781611971163.
  """
  operator = matrices.as_operator(operator, "ritz")
  matrices.check_key(key, "ritz")
  steps = krylov.steps_of(operator, steps, "ritz")
  own, rest = jax.random.split(key)
  begin = _start(operator, own, start)
  found = krylov.run(operator, begin, steps, rest, "ritz")
  values, vectors = krylov.decompose(found)
  residuals = jnp.abs(found.betas[-1] * vectors[-1])
  if steps == operator.size:
    residuals = jnp.zeros_like(residuals)
  return Ritz(values, vectors[0] ** 2, residuals)


def top_eigenpairs(
  operator: Any,
  k: int,
  steps: int,
  key: Key,
  *,
  which: str = "largest",
  start: Params | Stack | None = None,
) -> tuple[jax.Array, Stack]:
  """Return k extreme eigenvalues and their eigenvectors.

  Args:
    operator: an Operator, or a symmetric array [n, n].
    k: how many, at most `steps` and the dimension.
    steps: m products; more than the dimension are as many as it.
    key: of the start vector.
    which: "largest" (algebraically, descending), "smallest" (ascending) or
      "magnitude" (descending in absolute value).
    start: a tree to begin with instead, or a Stack such as the eigenvectors of
      an earlier checkpoint: a warm start.

  Returns:
    values [k] and vectors, a Stack [k, ...] of trees of norm 1.  `ritz` bounds
    their errors.

  Raises:
    ValueError: for k or steps out of range, an unknown `which`, an operator
      that is not symmetric beyond rounding, or products that are not finite.

  >>> matrix = jnp.diag(jnp.array([1.0, -4.0, 2.0]))
  >>> key = jax.random.key(0)
  >>> top_eigenpairs(matrix, 1, 3, key, which="magnitude")[0].round(4).tolist()
  [-4.0]

  Lanczos 1950, https://doi.org/10.6028/jres.045.026.
  """
  operator = matrices.as_operator(operator, "top_eigenpairs")
  matrices.check_key(key, "top_eigenpairs")
  steps = krylov.steps_of(operator, steps, "top_eigenpairs")
  if which not in ORDERS:
    raise ValueError(f"which: {which!r}, expected one of {[*ORDERS]}")
  if not 1 <= k <= steps:
    raise ValueError(
      f"top_eigenpairs: k is {k} with {steps} steps in dimension"
      f" {operator.size}, expected 1 to {steps}"
    )
  own, rest = jax.random.split(key)
  begin = _start(operator, own, start)
  found = krylov.run(operator, begin, steps, rest, "top_eigenpairs")
  return _pairs(operator, found, k, which)


@functools.partial(jax.jit, static_argnames=("k", "which"))
def _pairs(
  operator: Operator, found: Tridiagonal, k: int, which: str
) -> tuple[jax.Array, Stack]:
  values, vectors = krylov.decompose(found)
  order = jnp.argsort(ORDERS[which](values))[:k]
  highest = jax.lax.Precision.HIGHEST
  flat = jnp.matmul(vectors[:, order].T, found.basis, precision=highest)
  flat = flat / jnp.linalg.norm(flat, axis=1, keepdims=True)
  return values[order], jax.vmap(operator.tree)(flat)
