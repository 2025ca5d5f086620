"""Soft permutations: doubly stochastic matrices in place of indices.

A soft permutation is `{name: [n, n]}`, rows and columns summing to one;
`out = matrix @ units`.  Only names that hold no units and lie in no blocks can
be soft; the others keep their place.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "a"}, {"a": 2}, {})
>>> half = {"a": jnp.full((2, 2), 0.5)}
>>> soft_permute(axes, half, {"w": jnp.array([1.0, 3.0])})["w"].tolist()
[2.0, 2.0]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.match.solvers import assignment
from weightspace.symmetry import checks, moving
from weightspace.symmetry.axes import Axes, Perm, base, blocks, free, parse
from weightspace.types import Params

Soft = dict[str, Any]  # {name: [n, n]}


def flat_names(axes: Axes) -> list[str]:
  """Return the names that can be soft: not blocks, and in none.

  >>> flat_names(Axes({}, {"h": 2, "h>d": 3, "a": 4}, {}))
  ['a']
  """
  names = free(axes)
  held = {block for name in names for block in blocks(name)}
  return [n for n in names if not blocks(n) and base(n) not in held]


def mix(xp: Any, soft: Soft, x: Any, labels: Any) -> Any:
  """Multiply the axes of an array by the matrices of their names."""
  for axis, name in enumerate(labels):
    if name in soft:
      x = xp.moveaxis(xp.tensordot(soft[name], x, axes=(1, axis)), 0, axis)
  return x


def soft_permute(axes: Axes, soft: Soft, params: Params) -> Params:
  """Return the model whose units are means of units, `matrix @ units`.

  Differentiable in the matrices and in the parameters.

  Args:
    axes: from `trace_axes`.
    soft: `{name: [n, n]}`.
    params: of the model.
  """
  checks.check_params(axes, params, "soft_permute")
  patterns = trees.named(axes.tree)
  change = functools.partial(mix, jnp, soft)

  def leaf(path: str, x: Any) -> Any:
    if not trees.inexact(x):
      return x
    x = jnp.asarray(x)
    return moving.by_parts(x, parse(patterns[path]), axes.sizes, change)

  return trees.map_named(leaf, params)


def harden(soft: Soft, solver: str = "scipy") -> Perm:
  """Return the permutation nearest to each matrix.

  >>> harden({"a": np.array([[0.4, 0.6], [0.6, 0.4]])})["a"].tolist()
  [1, 0]
  """
  return {n: assignment.solve(np.asarray(m), solver) for n, m in soft.items()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def sinkhorn(scores: jax.Array, iterations: int = 50) -> jax.Array:
  """Return the doubly stochastic matrix of scores: exp(scores + u_i + v_j).

  Rows and columns are normalised in turn, in logarithms.  The gradient is that
  of the limit, from the implicit function theorem: one linear system of order
  2 n - 1, whatever the iterations.

  Args:
    scores: [n, n], divided by the temperature; large ones are near 0 or 1.
    iterations: of both normalisations.

  >>> sinkhorn(jnp.array([[9.0, 0.0], [0.0, 9.0]])).round(2).tolist()
  [[1.0, 0.0], [0.0, 1.0]]

  Mena et al. 2018, https://arxiv.org/abs/1802.08665; the implicit gradient:
  Eisenberger et al. 2022, https://arxiv.org/abs/2205.06688, and Peña et al.
  2023, https://arxiv.org/abs/2212.12042.
  """
  return _normalised(scores, iterations)


def _normalised(scores: jax.Array, iterations: int) -> jax.Array:
  def step(_: Any, x: jax.Array) -> jax.Array:
    x = x - jax.nn.logsumexp(x, 0, keepdims=True)
    return x - jax.nn.logsumexp(x, 1, keepdims=True)

  return jnp.exp(jax.lax.fori_loop(0, iterations, step, scores))


def _forward(scores: jax.Array, iterations: int) -> tuple[Any, Any]:
  result = _normalised(scores, iterations)
  return result, result


def _backward(iterations: int, p: jax.Array, g: jax.Array) -> tuple[jax.Array]:
  """Project p * g onto what keeps rows and columns: p * (g - u_i - v_j)."""
  n = len(p)
  rows, columns = p.sum(1), p.sum(0)
  whole = jnp.block([[jnp.diag(rows), p], [p.T, jnp.diag(columns)]])
  side = jnp.concatenate([(p * g).sum(1), (p * g).sum(0)])
  # One equation depends on the others: u + c, v - c is the same.
  short = jnp.linalg.solve(whole[:-1, :-1], side[:-1])
  u, v = short[:n], jnp.append(short[n:], 0.0)
  return (p * (g - u[:, None] - v[None]),)


sinkhorn.defvjp(_forward, _backward)
