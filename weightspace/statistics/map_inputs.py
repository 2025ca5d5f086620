"""What goes into each linear map, and in how large parts it may be looked at.

>>> import jax.numpy as jnp
>>> maps = checked("gram", lambda w, x: x @ w, jnp.ones((2, 3)), jnp.eye(2))
>>> rows = seen(lambda w, x: x @ w, jnp.ones((2, 3)), jnp.eye(2), maps)
>>> [x.shape for _, x in rows]
[(1, 2, 2)]
"""

import functools
import math
from collections.abc import Collection
from typing import Any

import jax

from weightspace import trees
from weightspace.jaxpr import graph, linear_maps
from weightspace.jaxpr.weight_products import Map
from weightspace.statistics import streams
from weightspace.types import Apply, Params

MEMORY = 2**28  # bytes that the inputs of one part of a batch may take


def checked(
  what: str,
  apply: Apply,
  params: Params,
  x: Any,
  only: Collection[str] | None = None,
) -> list[Map]:
  """Return the linear maps of a model, or of `only` these parameters.

  Raises:
    ValueError: when there is none.
  """
  maps = linear_maps.find(apply, params, streams.example(x))
  if not maps:
    raise ValueError(
      f"{what}: no linear map found in apply, expected a product of inputs with"
      f" a parameter such as {trees.names(params)[:3]}"
    )
  return [at for at in maps if only is None or at.path in only]


def seen(
  apply: Apply, params: Params, x: Any, maps: list[Map]
) -> list[tuple[Map, jax.Array]]:
  """Return each map with its inputs, [batch, tokens, in] in float32."""
  rows = []

  def visit(number: int, at: Map, a: jax.Array, b: jax.Array) -> jax.Array:
    rows.append((at, trees.widened(at.features(a))))
    return b

  linear_maps.run(apply, params, x, maps, visit)
  return rows


def most(apply: Apply, params: Params, x: Any) -> int:
  """Return how many examples may be taken at a time."""
  return _most(apply, *streams.shapes((params, x)))


@functools.lru_cache(maxsize=64)
def _most(apply: Apply, structure: Any, leaves: Any) -> int:
  params, x = jax.tree.unflatten(structure, leaves)
  one = streams.example(x)
  maps = checked("statistics", apply, params, one)
  sizes: list[int] = []

  def values(params: Params, x: Any) -> list[jax.Array]:
    rows = [row for _, row in seen(apply, params, x, maps)]
    sizes.extend(math.prod(row.shape) for row in rows)
    return rows

  jax.eval_shape(values, params, one)
  widest = graph.widest(graph.trace(apply, params, one))
  return max(1, MEMORY // (4 * max(sizes) + 4 * widest))
