"""The trace of a matrix from its products, with its standard error.

>>> value, error = trace(jnp.diag(jnp.array([1.0, 2.0])), jax.random.key(0), 4)
>>> value.item(), error.item()  # exact for a diagonal matrix
(3.0, 0.0)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.probe.curvature import matrices
from weightspace.probe.curvature.operators import Operator
from weightspace.types import Key

METHODS = ("hutchinson", "hutch++")


def trace(
  operator: Any, key: Key, probes: int, *, method: str = "hutchinson"
) -> tuple[jax.Array, jax.Array]:
  """Return an unbiased estimate of tr A and its standard error.

  hutchinson: mean of v' A v over random signs v; the variance of one is
  2 (|A|_F^2 - sum_i A_ii^2), so a diagonal matrix needs one probe.  hutch++:
  the trace within the range of A S, exactly, plus Hutchinson off it; a third of
  the products each, error O(1/m) instead of O(1/sqrt m) for semi-definite A.

  Args:
    operator: an Operator, or a symmetric array [n, n].
    key: of the probes.
    probes: m, the number of products; there is no early stop, whose rule would
      bias the estimate.
    method: "hutchinson", or "hutch++", which holds m / 3 vectors [n].

  Returns:
    value [] and standard error []: the spread of the probes over sqrt of their
    number, infinite for one probe.  Of hutch++ only the random part has one.

  Raises:
    ValueError: for an unknown method, too few probes (1; hutch++ 3), or
      products that are not finite.

  >>> matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
  >>> value, error = trace(matrix, jax.random.key(0), 6, method="hutch++")
  >>> value.round(3).item()
  5.0

  Hutchinson 1990, https://doi.org/10.1080/03610919008812866; Meyer et al. 2021,
  "Hutch++", https://arxiv.org/abs/2010.09649.
  """
  if method not in METHODS:
    raise ValueError(f"method: {method!r}, expected one of {METHODS}")
  operator = matrices.as_operator(operator, "trace")
  matrices.check_key(key, "trace")
  least = 3 if method == "hutch++" else 1
  if probes < least:
    raise ValueError(
      f"trace: {probes} probes, expected at least {least} for {method}"
    )
  whole = _hutchinson if method == "hutchinson" else _hutch
  if not operator.on_host:
    whole = functools.partial(_compiled, whole)
  found = whole(operator, key, probes)
  # One probe has no error, which is infinite.
  if trees.concrete(found) and not bool(jnp.isfinite(found[0])):
    raise ValueError("trace: a product of the operator is not finite")
  return found


@functools.partial(jax.jit, static_argnums=(0, 3))
def _compiled(
  whole: Any, operator: Operator, key: Key, probes: int
) -> tuple[jax.Array, jax.Array]:
  return whole(operator, key, probes)


def _map(operator: Operator, function: Any, items: jax.Array) -> jax.Array:
  """Map over the leading axis, in sequence: products fill the machine."""
  if operator.on_host:
    return jnp.stack([function(item) for item in items])
  return jax.lax.map(function, items)


def _mean(values: jax.Array) -> tuple[jax.Array, jax.Array]:
  count = len(values)
  if count == 1:
    return values[0], jnp.full((), jnp.inf, values.dtype)
  return values.mean(), values.std(ddof=1) / count**0.5


def _hutchinson(
  operator: Operator, key: Key, probes: int
) -> tuple[jax.Array, jax.Array]:
  product = operator.product()

  def one(key: Key) -> jax.Array:
    v = operator.draw(key, "rademacher")
    return jnp.vdot(v, product(v))

  return _mean(_map(operator, one, jax.random.split(key, probes)))


def _hutch(
  operator: Operator, key: Key, probes: int
) -> tuple[jax.Array, jax.Array]:
  product, third = operator.product(), min(probes // 3, operator.size)
  keys = jax.random.split(key, probes)
  highest = jax.lax.Precision.HIGHEST

  def signs(key: Key) -> jax.Array:
    return operator.draw(key, "rademacher")

  def sketch(key: Key) -> jax.Array:
    return product(signs(key))

  basis = _orthonormal(_map(operator, sketch, keys[:third]))
  inside = _map(operator, lambda q: jnp.vdot(q, product(q)), basis)
  if third == operator.size:
    return inside.sum(), jnp.zeros((), inside.dtype)

  def off(v: jax.Array) -> jax.Array:
    parts = jnp.matmul(basis, v, precision=highest)
    return v - jnp.matmul(parts, basis, precision=highest)

  def outside(key: Key) -> jax.Array:
    v = off(signs(key))
    return jnp.vdot(v, product(v))

  value, error = _mean(_map(operator, outside, keys[2 * third :]))
  return inside.sum() + value, error


def _orthonormal(rows: jax.Array) -> jax.Array:
  """Return an orthonormal basis [k, n]; what the rows do not span is zero."""
  basis, upper = jnp.linalg.qr(rows.T)
  size = jnp.abs(jnp.diagonal(upper))
  kept = size > 10 * jnp.finfo(rows.dtype).eps * size.max()
  return jnp.where(kept[:, None], basis.T, 0.0)
