"""Linear layers of a model, what goes in and what comes out, for many models.

>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> params = {"v": jnp.ones((2, 1)), "w": jnp.eye(2)}
>>> maps = find(apply, params, jnp.ones((3, 2)), "repair")
>>> [at.path for at in maps]
['w', 'v']
>>> outputs(apply, params, jnp.ones((3, 2)), maps)[1].shape
(1, 3, 1)
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import graph, linear_maps
from weightspace.jaxpr.weight_products import Map
from weightspace.types import Apply, Params


def find(
  apply: Apply,
  params: Params,
  x: Any,
  what: str,
  only: Collection[str] | None = None,
) -> list[Map]:
  """Return the linear maps of a model, one for each parameter.

  Raises:
    ValueError: when there is none, or `only` names one that is not there.
  """
  maps = linear_maps.find(apply, params, x)
  uses: dict[Any, Map] = {}
  for at in maps:
    uses.setdefault((at.leaf, at.taken), at)
  found = [at for at in uses.values() if only is None or at.path in only]
  missing = sorted(set(only or ()) - {at.path for at in maps})
  if missing:
    raise ValueError(f"{what}: {missing[0]!r} is no linear map of the model")
  if not found:
    raise ValueError(f"{what}: no linear map in apply, expected at least one")
  return found


def seen(
  apply: Apply, params: Params, x: Any, maps: Sequence[Map], read: Callable
) -> list[Any]:
  """Return `read(map, input, output)` of each map, its uses joined."""
  known = {(at.leaf, at.taken): k for k, at in enumerate(maps)}
  rows: list[list[Any]] = [[] for _ in maps]

  def visit(number: int, at: Map, a: jax.Array, b: jax.Array) -> jax.Array:
    place = known.get((at.leaf, at.taken))
    if place is not None:
      rows[place].append(read(at, a, b))
    return b

  linear_maps.run(apply, params, x, maps, visit)
  return [
    jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *row) for row in rows
  ]


def outputs(
  apply: Apply, params: Params, x: Any, maps: Sequence[Map]
) -> list[jax.Array]:
  """Return what comes out of each map, [batch, tokens, out] in float32."""

  def read(at: Map, a: jax.Array, b: jax.Array) -> jax.Array:
    return trees.widened(at.results(b))

  return seen(apply, params, x, maps, read)


def matrix(at: Map, leaf: Any) -> jax.Array:
  """Return a parameter as [batch, in, out], at the place it is taken at."""
  array = jnp.asarray(leaf)
  taken = dict(at.taken)
  for axis, place in taken.items():
    array = jax.lax.slice_in_dim(array, place, place + 1, axis=axis)
  order = _order(at)
  sizes = [
    math.prod(array.shape[a] for a in axes)
    for axes in (at.batch, at.inputs, at.outputs)
  ]
  return array.transpose(order).reshape(sizes)


def _order(at: Map) -> tuple[int, ...]:
  """Return the axes by role; those of size one have none."""
  known = (*at.batch, *at.inputs, *at.outputs)
  return (*known, *(a for a in range(len(at.shape)) if a not in known))


def put(at: Map, leaf: Any, value: jax.Array) -> jax.Array:
  """Return the parameter with its matrix [batch, in, out] replaced."""
  array = jnp.asarray(leaf)
  taken, order = dict(at.taken), _order(at)
  shape = [1 if a in taken else array.shape[a] for a in order]
  back = sorted(range(len(order)), key=order.__getitem__)
  part = value.reshape(shape).transpose(back).astype(array.dtype)
  index = tuple(taken.get(a, slice(None)) for a in range(array.ndim))
  squeezed = part.reshape(
    [n for a, n in enumerate(part.shape) if a not in taken]
  )
  return array.at[index].set(squeezed)


MOVES = {"broadcast_in_dim", "reshape", "transpose", "convert_element_type"}
MOVES |= {"squeeze", "expand_dims", "copy"}


def biases(apply: Apply, params: Params, x: Any) -> dict[str, str]:
  """Return {path of a weight: path of the bias that is added to its product}.

  >>> def apply(p, x): return x @ p["w"] + p["b"][None]
  >>> biases(apply, {"b": jnp.ones(2), "w": jnp.eye(2)}, jnp.ones((3, 2)))
  {'w': 'b'}
  """
  program, paths = graph.trace(apply, params, x), trees.names(params)
  leaf: dict[Any, Any] = dict(zip(program.inputs, range(len(paths))))
  sizes = [jnp.size(x) for x in jax.tree.leaves(params)]
  product: dict[Any, Any] = {}  # the parameter, its outputs
  found: dict[str, str] = {}
  for eqn in program.equations:
    refs = [i for i in eqn.inputs if isinstance(i, graph.Ref)]
    name, out = eqn.primitive.name, eqn.outputs[:1]
    if name in MOVES and refs:
      for kind in (leaf, product):
        kind.update({o: kind[refs[0]] for o in out if refs[0] in kind})
    elif name in ("dot_general", "conv_general_dilated"):
      for side, r in enumerate(eqn.inputs):
        if isinstance(r, graph.Ref) and r in leaf:
          product.update({o: (leaf[r], _results(eqn, side)) for o in out})
    elif name == "add" and len(refs) == 2:
      for w, b in (refs, refs[::-1]):
        # A table of positions is added too, and is no bias.
        if w in product and b in leaf and sizes[leaf[b]] == product[w][1]:
          found.setdefault(paths[product[w][0]], paths[leaf[b]])
  return found


def multiplied(apply: Apply, params: Params, x: Any) -> set[str]:
  """Return the paths of the parameters that a product takes, however often.

  >>> def apply(p, x): return p[x] @ p.T
  >>> multiplied(apply, jnp.eye(2), jnp.array([0]))
  {''}
  """
  program, paths = graph.trace(apply, params, x), trees.names(params)
  leaf: dict[Any, str] = dict(zip(program.inputs, paths))
  found = set()
  for eqn in program.equations:
    refs = [i for i in eqn.inputs if isinstance(i, graph.Ref) and i in leaf]
    if eqn.primitive.name in MOVES and refs:
      leaf.update({o: leaf[refs[0]] for o in eqn.outputs})
    elif eqn.primitive.name in ("dot_general", "conv_general_dilated"):
      found |= {leaf[ref] for ref in refs}
  return found


def _results(eqn: graph.Equation, side: int) -> int:
  """Return how many outputs a product gives for each row of its input."""
  shape = eqn.avals[side].shape
  if eqn.primitive.name == "conv_general_dilated":
    return int(shape[eqn.params["dimension_numbers"].rhs_spec[0]])
  (contracted, _) = eqn.params["dimension_numbers"]
  inner = math.prod(shape[axis] for axis in contracted[side])
  return math.prod(shape) // inner
