"""Spectral densities by stochastic Lanczos quadrature.

A random vector sees the spectrum with the weights (e_1' y_k)^2 at the Ritz
values of its Krylov space: a Gauss quadrature, exact for polynomials of degree
2 m - 1.  Nodes and weights are kept raw, and smoothed only to be drawn: peaks
narrower than the Ritz spacing mean nothing.  A single outlier has weight 1/n
and is better read off `ritz`.

>>> matrix = jnp.diag(jnp.array([1.0, 1.0, 4.0]))
>>> nodes, weights = density(matrix, jax.random.key(0), steps=3, probes=2)
>>> (nodes * weights).sum().round(4).item()  # the mean eigenvalue
2.0
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.numerics.densities import smooth
from weightspace.probe.curvature import krylov, matrices
from weightspace.probe.curvature.krylov import Tridiagonal
from weightspace.probe.curvature.operators import Operator
from weightspace.types import Key

__all__ = ["density", "smooth"]


def density(
  operator: Any, key: Key, steps: int, probes: int
) -> tuple[jax.Array, jax.Array]:
  """Return nodes and weights of the spectral density.

  (1/n) sum_i f(lambda_i) ~= sum_vk w_vk f(node_vk): each row is the quadrature
  of one probe, and all weights together sum to 1.

  Args:
    operator: an Operator, or a symmetric array [n, n].
    key: of the probes (random signs).
    steps: m products for each probe; more than the dimension are as many as it.
    probes: V; the spread of their rows is the error of the density.

  Returns:
    nodes [V, m], ascending in each row, and weights [V, m].

  Raises:
    ValueError: for steps or probes below 1, or as `top_eigenpairs`.

  >>> nodes, weights = density(jnp.eye(4), jax.random.key(0), 2, 3)
  >>> nodes.shape, round(weights.sum().item(), 4)
  ((3, 2), 1.0)

  Ubaru et al. 2017, https://doi.org/10.1137/16M1104974; of networks: Ghorbani
  et al. 2019, https://arxiv.org/abs/1901.10159.
  """
  operator = matrices.as_operator(operator, "density")
  matrices.check_key(key, "density")
  steps = krylov.steps_of(operator, steps, "density")
  if probes < 1:
    raise ValueError(f"density: {probes} probes, expected at least 1")
  keys = jax.random.split(key, probes)
  if operator.on_host:
    each = [_quadrature(operator, steps, one) for one in keys]
    nodes, weights, found = jax.tree.map(lambda *x: jnp.stack(x), *each)
  else:
    nodes, weights, found = _compiled(operator, steps, keys)
  krylov.check(operator, found, "density")
  return nodes, weights / probes


def _quadrature(
  operator: Operator, steps: int, key: Key
) -> tuple[jax.Array, jax.Array, Tridiagonal]:
  own, rest = jax.random.split(key)
  start = operator.draw(own, "rademacher")
  found = krylov.tridiagonalize(operator, start, steps, rest)
  nodes, vectors = krylov.decompose(found)
  return nodes, vectors[0] ** 2, found._replace(basis=jnp.zeros(()))


@functools.partial(jax.jit, static_argnames="steps")
def _compiled(operator: Operator, steps: int, keys: jax.Array) -> Any:
  return jax.lax.map(functools.partial(_quadrature, operator, steps), keys)
