"""Linear maps of a model, found in its own jaxpr: no hooks written per model.

A linear map is a product of values that depend on the inputs with one
parameter: a dense layer, a convolution, an attention projection, an expert.  A
parameter that is used in any other way as well (an embedding that is looked up,
tied or not) is left out.  The model is run equation by equation, so that what
goes into each map can be seen and what comes out of it be changed; layers that
are scanned over are unrolled.

>>> def apply(params, x):
...   return jnp.tanh(x @ params["w"] + params["b"][None]) @ params["v"].T
>>> params = {"w": jnp.ones((3, 4)), "b": jnp.ones(4), "v": jnp.ones((2, 4))}
>>> maps = find(apply, params, jnp.ones((5, 3)))
>>> [(m.path, m.inputs, m.outputs) for m in maps]
[('w', (0,), (1,)), ('v', (1,), (0,))]
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import graph, leaf_labels, weight_products
from weightspace.jaxpr.leaf_labels import Label
from weightspace.jaxpr.weight_products import Map
from weightspace.types import Apply, Params

# Custom derivatives stay whole: inlined, they would lose their rule.
INLINED = {n: p for n, p in graph.CALLS.items() if not n.startswith("custom")}
INLINED |= {"remat2": "jaxpr"}


# visit(number of the map, map, input, output) -> output
Visit = Callable[[int, Map, jax.Array, jax.Array], jax.Array]


class _Value(NamedTuple):
  """A value, what it is of a parameter, and whether it depends on inputs."""

  value: Any
  label: Label | None = None
  data: bool = False


class _Walk(NamedTuple):
  """What one run of a model gathers and obeys."""

  leaves: list[tuple[str, tuple[int, ...]]]  # path and shape of each
  elsewhere: set[int]  # parameters that are used in another way
  found: list[Map]
  keep: frozenset[int] | None  # the parameters whose maps are visited
  visit: Visit


def find(apply: Apply, params: Params, x: Any) -> list[Map]:
  """Return the linear maps of a model, in the order in which they are applied.

  Args:
    apply: `apply(params, x) -> outputs`.
    params: parameters, or their shapes.
    x: a batch of inputs, or its shape.

  Returns:
    A Map for each use; parameters used in another way too are left out.

  >>> [m.shape for m in find(lambda p, x: x @ p, jnp.eye(2), jnp.ones((3, 2)))]
  [(2, 2)]
  """
  leaves, structure = jax.tree.flatten((params, x))
  shapes = (
    jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
    for leaf in leaves
  )
  return list(_find(apply, structure, tuple(shapes)))


@functools.lru_cache(maxsize=256)  # asked again for every batch
def _find(apply: Apply, structure: Any, leaves: Any) -> tuple[Map, ...]:
  params, x = jax.tree.unflatten(structure, leaves)
  walk = _start(params, None, lambda number, at, x, y: y)
  # Values are not needed: the walk itself is traced.
  jax.eval_shape(functools.partial(_run, apply, walk), params, x)
  kinds: dict[int, set[Any]] = {}
  for at in walk.found:
    kinds.setdefault(at.leaf, set()).add((at.batch, at.inputs, at.outputs))
  mixed = {leaf for leaf, roles in kinds.items() if len(roles) > 1}
  return tuple(m for m in walk.found if m.leaf not in walk.elsewhere | mixed)


def run(
  apply: Apply, params: Params, x: Any, maps: Sequence[Map], visit: Visit
) -> Any:
  """Return `apply(params, x)`, each of `maps` seen and changed by `visit`.

  Args:
    apply, params, x: as in `find`.
    maps: from `find`, for inputs of one batch size or another.
    visit: `visit(number, map, x, y) -> y`, called with the map's input and
      output as they are in the program.

  >>> seen = []
  >>> def visit(number, at, x, y):
  ...   seen.append(at.path)
  ...   return 10.0 * y
  >>> w, x = jnp.eye(2), jnp.ones((1, 2))
  >>> maps = find(lambda p, x: x @ p, w, x)
  >>> run(lambda p, x: x @ p, w, x, maps, visit).tolist()
  [[10.0, 10.0]]
  """
  walk = _start(params, frozenset(m.leaf for m in maps), visit)
  return _run(apply, walk, params, x)


def _start(params: Params, keep: frozenset[int] | None, visit: Visit) -> _Walk:
  leaves = jax.tree.leaves(params)
  shapes = [tuple(jnp.shape(leaf)) for leaf in leaves]
  named = list(zip(trees.names(params), shapes))
  return _Walk(named, set(), [], keep, visit)


def _run(apply: Apply, walk: _Walk, params: Params, x: Any) -> Any:
  closed, shape = jax.make_jaxpr(apply, return_shape=True)(params, x)
  leaves = jax.tree.leaves(params)
  given = [
    _Value(leaf, leaf_labels.of_leaf(i, walk.leaves[i][1]))
    for i, leaf in enumerate(leaves)
  ]
  given += [_Value(leaf, data=True) for leaf in jax.tree.leaves(x)]
  outputs = _walk(walk, closed.jaxpr, closed.consts, given)
  _used(walk, outputs)
  values = [output.value for output in outputs]
  return jax.tree.unflatten(jax.tree.structure(shape), values)


def _walk(
  walk: _Walk, jaxpr: Any, consts: Any, inputs: Sequence[_Value]
) -> list[_Value]:
  """Run the equations of a jaxpr, calls inlined."""
  env = dict(zip(jaxpr.constvars, map(_Value, consts)))
  env |= dict(zip(jaxpr.invars, inputs))

  def read(atom: Any) -> _Value:
    return _Value(atom.val) if isinstance(atom, jex.Literal) else env[atom]

  for eqn in jaxpr.eqns:
    given = [read(atom) for atom in eqn.invars]
    name = eqn.primitive.name
    inner = eqn.params.get(INLINED.get(name, ""))
    if inner is not None:
      closed = isinstance(inner, jex.ClosedJaxpr)
      body, own = (inner.jaxpr, inner.consts) if closed else (inner, ())
      outputs = _walk(walk, body, own, given)
    elif name == "scan" and _over_layers(eqn, given):
      outputs = _unroll(walk, eqn, given)
    else:
      outputs = _bind(walk, eqn, given)
    env.update(zip(eqn.outvars, outputs))
  return [read(atom) for atom in jaxpr.outvars]


def _bind(walk: _Walk, eqn: Any, given: Sequence[_Value]) -> list[_Value]:
  """Run one equation; visit it where it is a linear map."""
  params = eqn.primitive.get_bind_params(eqn.params)
  values = eqn.primitive.bind(*(v.value for v in given), **params)
  outputs = values if eqn.primitive.multiple_results else [values]
  data = any(v.data for v in given)
  if len(given) == 1 and given[0].label:
    label = leaf_labels.through(given[0].label, eqn)
    if label:
      return [_Value(outputs[0], label, data)]
  found = _as_map(walk, eqn, given)
  if found is None:
    _used(walk, given)
    return [_Value(output, None, data) for output in outputs]
  at, x = found
  _used(walk, [v for v in given if v.label and v.label.leaf != at.leaf])
  if walk.keep is not None and at.leaf not in walk.keep:
    return [_Value(outputs[0], None, data)]
  walk.found.append(at)
  changed = walk.visit(len(walk.found) - 1, at, x, outputs[0])
  return [_Value(changed, None, data)]


def _used(walk: _Walk, values: Sequence[_Value]) -> None:
  """Note the parameters among values that something else is done with."""
  walk.elsewhere.update(v.label.leaf for v in values if v.label)


def _over_layers(eqn: Any, given: Sequence[_Value]) -> bool:
  """Tell whether a scan runs over the leading axis of a parameter."""
  fixed, carried = _scan_parts(eqn)
  return any(value.label for value in given[fixed + carried :])


def _scan_parts(eqn: Any) -> tuple[int, int]:
  """Return how many inputs of a scan are fixed, and how many are carried.

  Read off the shapes (what is scanned over has one more axis outside of the
  body), since jax versions name these numbers differently.
  """
  body = eqn.params["jaxpr"].jaxpr

  def same(outer: Any, inner: Any) -> bool:
    return len(outer.aval.shape) == len(inner.aval.shape)

  carried = sum(map(same, eqn.outvars, body.outvars))
  return sum(map(same, eqn.invars, body.invars)) - carried, carried


def _unroll(walk: _Walk, eqn: Any, given: Sequence[_Value]) -> list[_Value]:
  """Run a scan step by step."""
  params = eqn.params
  fixed, carried = _scan_parts(eqn)
  consts, xs = list(given[:fixed]), given[fixed + carried :]
  carry = list(given[fixed : fixed + carried])
  steps, rows = range(params["length"]), []
  for step in reversed(steps) if params["reverse"] else steps:
    row = [_at(walk, value, step) for value in xs]
    body = params["jaxpr"]
    outputs = _walk(walk, body.jaxpr, body.consts, consts + carry + row)
    carry = outputs[:carried]
    rows.append(outputs[carried:])
  rows = rows[::-1] if params["reverse"] else rows
  stacked = []
  for column in zip(*rows):
    _used(walk, column)
    data = any(value.data for value in column)
    stacked.append(_Value(jnp.stack([v.value for v in column]), None, data))
  return carry + stacked


def _at(walk: _Walk, value: _Value, step: int) -> _Value:
  """Return value[step], labelled."""
  row = jax.lax.index_in_dim(value.value, step, keepdims=False)
  label = leaf_labels.indexed(value.label, step) if value.label else None
  if value.label and label is None:
    _used(walk, [value])
  return _Value(row, label, value.data)


def _as_map(
  walk: _Walk, eqn: Any, given: Sequence[_Value]
) -> tuple[Map, jax.Array] | None:
  """Return the linear map that an equation is, and its input; None if none."""
  name = eqn.primitive.name
  if name == "dot_general":
    for side in (1, 0):
      weight, x = given[side], given[1 - side]
      if weight.label and x.data and not weight.data:
        ranks = jnp.ndim(x.value), jnp.ndim(weight.value)
        return weight_products.dot(
          walk.leaves, eqn, weight.label, side, ranks, x.value
        )
  if name == "conv_general_dilated":
    x, weight = given
    groups = eqn.params["feature_group_count"], eqn.params["batch_group_count"]
    if weight.label and x.data and not weight.data and groups == (1, 1):
      return weight_products.conv(walk.leaves, eqn, weight.label, x.value)
  return None
