"""What one filter of a leaf is, read off what a model does with it.

>>> import jax.numpy as jnp
>>> def apply(p, x): return jnp.tanh(p["table"][x]) @ p["w"].T + p["b"][None]
>>> p = {"b": jnp.ones(3), "table": jnp.ones((5, 2)), "w": jnp.ones((3, 2))}
>>> filters(apply, p, jnp.array([0, 4]))
{'b': (), 'table': (1,), 'w': (1,)}
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from weightspace import trees
from weightspace.jaxpr import graph, linear_maps
from weightspace.types import Apply, Params

MOVES = {"convert_element_type", "copy", "stop_gradient"}
BROADCASTS = MOVES | {"broadcast_in_dim", "reshape", "squeeze", "expand_dims"}
ALONG = {"add", "sub", "mul", "div"}  # with a vector, unit by unit


def filters(apply: Apply, params: Params, x: Any) -> dict[str, tuple[int, ...]]:
  """Return the axes within one filter of the leaves whose use tells.

  Those that inputs are contracted with, of a linear map; those of a row, where
  rows are looked up; none of what is only added or multiplied unit by unit.

  Args:
    apply: `apply(params, x) -> outputs`.
    params: parameters, or their shapes.
    x: a batch of inputs, or its shape.

  Ours.
  """
  paths, found = trees.names(params), {}
  uses: dict[int, set[Any]] = {n: set() for n in range(len(paths))}
  for at in linear_maps.find(apply, params, x):
    uses[at.leaf].add(tuple(at.inputs))
  program = graph.trace(apply, params, x)
  leaves = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
  for number, kind in _uses(program, len(paths), leaves):
    uses[number].add(kind)
  for number, path in enumerate(paths):
    if len(uses[number]) == 1:
      (kind,) = uses[number]
      found[path] = kind
  return dict(sorted(found.items()))


def _uses(
  program: graph.Program, count: int, shapes: list[tuple[int, ...]]
) -> Iterator[tuple[int, tuple[int, ...]]]:
  """Yield the number of a leaf and its filter, for each look-up or sum."""
  known: dict[Any, int] = dict(zip(program.inputs, range(count)))
  whole = set(program.inputs[:count])  # with the axes of the leaf itself
  for eqn in program.equations:
    name = eqn.primitive.name
    given = [i for i in eqn.inputs if isinstance(i, graph.Ref) and i in known]
    if not given:
      continue
    first = given[0]
    if name == "gather" and eqn.inputs[0] in whole:
      taken = eqn.params["dimension_numbers"].start_index_map
      dims = range(len(shapes[known[first]]))
      yield known[first], tuple(a for a in dims if a not in taken)
    elif name in BROADCASTS:
      known.update({ref: known[first] for ref in eqn.outputs})
      if name in MOVES and first in whole:
        whole.update(eqn.outputs)
    elif name in ALONG and len(given) == 1:
      yield known[first], ()
    elif isinstance(eqn.params.get("jaxpr"), jex.ClosedJaxpr):
      inner = graph.opened(eqn.params["jaxpr"])
      yield from _inside(eqn, inner, known, shapes)


def _inside(
  eqn: Any, inner: graph.Program, known: dict[Any, int], shapes: Any
) -> Iterator[tuple[int, tuple[int, ...]]]:
  """Yield the uses in the body of a scan, whose leaves have an axis more."""
  outer = [
    known.get(i) if isinstance(i, graph.Ref) else None for i in eqn.inputs
  ]
  pairs = [(ref, n) for ref, n in zip(inner.inputs, outer) if n is not None]
  numbers = [n for _, n in pairs]
  rest = [ref for ref in inner.inputs if ref not in {r for r, _ in pairs}]
  body = inner._replace(inputs=tuple([r for r, _ in pairs] + rest))
  lengths = [shapes[n][1:] for n in numbers]
  for number, kind in _uses(body, len(numbers), lengths):
    yield numbers[number], tuple(axis + 1 for axis in kind)
