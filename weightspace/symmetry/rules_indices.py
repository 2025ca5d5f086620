"""How primitives that make, compare and follow indices treat axes.

Whole numbers that point into an axis (an arange, an argmax, the best k)
remember it: compared with each other, or used to look things up, they let the
axis move; used as numbers they pin it.

>>> "iota" in RULES
True
"""

from typing import Any

from weightspace.jaxpr.graph import Equation, Ref
from weightspace.symmetry import equations, rules_products, terms, values
from weightspace.symmetry.values import Rule, Value, Walk

# Whole numbers stay what they are under these.
CARRY = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "copy"}
CARRY |= {"expand_dims", "convert_element_type", "stop_gradient", "tile"}


def iota(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Each number points to its own place."""
  value = values.known(walk, eqn.params["shape"])
  return [value._replace(content=value.dims[eqn.params["dimension"]])]


def equal(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Places of one axis can be compared wherever they are."""
  a, b = given
  if a.content is None or b.content is None:
    return rules_products.elementwise(walk, eqn, given)
  if values.size(walk, a.content) != values.size(walk, b.content):
    return rules_products.elementwise(walk, eqn, given)
  equations.unify(walk.forest, a.content, b.content, eqn.primitive.name)
  plain = [v._replace(content=None) for v in given]
  return rules_products.elementwise(walk, eqn, plain)


def wrap(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """`i < 0`, `i + n`: how a negative index would be read, were there one."""
  x, other = given[0], eqn.inputs[1]
  if x.content is None or isinstance(other, Ref) or given[1].dims:
    return rules_products.elementwise(walk, eqn, given)
  number, less = int(other), eqn.primitive.name == "lt"
  if number != (0 if less else values.size(walk, x.content)):
    return rules_products.elementwise(walk, eqn, given)
  return [x._replace(content=None) if less else x]


def select(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """A choice between pointers into one axis points into it."""
  cases = given[1:]
  found = [v.content for v in cases if v.content is not None]
  if len(found) < len(cases):
    return rules_products.elementwise(walk, eqn, given)
  for other in found[1:]:
    equations.unify(walk.forest, found[0], other, "select_n")
  plain = [v._replace(content=None) for v in given]
  out = rules_products.elementwise(walk, eqn, plain)[0]
  return [out._replace(content=found[0])]


def argument(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """An argmax points into the axis that it reduces."""
  x, gone = given[0], eqn.params["axes"]
  walk.spent.append(x.dims[gone[0]])
  dims = tuple(d for a, d in enumerate(x.dims) if a not in gone)
  return [Value(dims, x.dims[gone[0]])]


def top_k(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """The best k, in order of size, point into the axis."""
  x, axis = given[0], eqn.params.get("axis", -1) % len(given[0].dims)
  walk.spent.append(x.dims[axis])
  count = terms.fresh(walk.forest, eqn.params["k"], "top_k")
  dims = (*x.dims[:axis], count, *x.dims[axis + 1 :])
  return [Value(dims), Value(dims, x.dims[axis])]


def sort(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """What is sorted has an order of its own, whatever it was before."""
  axis, forest = eqn.params["dimension"], walk.forest
  for other in given[1:]:
    values.unify(walk, given[0], other, "sort")
  old = given[0].dims[axis]
  walk.spent.append(old)
  new = terms.fresh(forest, values.size(walk, old), "sort")
  dims = (*given[0].dims[:axis], new, *given[0].dims[axis + 1 :])
  for value in given[: eqn.params["num_keys"]]:
    values.pin_content(walk, value)
  kept = [None] * eqn.params["num_keys"]
  contents = [*kept, *(v.content for v in given[len(kept) :])]
  return [Value(dims, content) for content in contents]


def gather(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Whole axes pass; an axis that is looked up moves with its pointers."""
  x, at = given[:2]
  numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
  pairs = dict(
    zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims)
  )
  followed = len(numbers.start_index_map) == 1
  windows = []
  for axis, d in enumerate(x.dims):
    looked, whole = axis in numbers.start_index_map, values.size(walk, d)
    if axis in pairs:
      equations.unify(walk.forest, d, at.dims[pairs[axis]], "gather")
      continue
    if looked or sizes[axis] != whole:
      _look_up(walk, d, at if looked and followed else None, sizes[axis])
    if axis not in numbers.collapsed_slice_dims:
      fresh = terms.fresh(walk.forest, sizes[axis], "gather")
      windows.append(d if sizes[axis] == whole and not looked else fresh)
  if not followed:
    values.pin_content(walk, at)
  rows = iter(at.dims[:-1])
  rest, shape = iter(windows), values.shape_of(eqn)
  dims = tuple(
    next(rest) if axis in numbers.offset_dims else next(rows)
    for axis in range(len(shape))
  )
  return [Value(dims)]


def _look_up(walk: Walk, axis: Any, at: Value | None, count: int) -> None:
  """Equate an axis with what points into it, or pin both."""
  if at is not None and at.content is not None and count == 1:
    if values.size(walk, at.content) == values.size(walk, axis):
      return equations.unify(walk.forest, axis, at.content, "gather")
  if at is not None:
    values.pin_content(walk, at)
  terms.pin(walk.forest, axis, "gather")


def scatter(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Whole axes of the updates are those of the operand; the rest is pinned."""
  x, at, update = given[:3]
  numbers, why = eqn.params["dimension_numbers"], eqn.primitive.name
  values.pin_content(walk, at)
  inner = iter(numbers.update_window_dims)
  apart = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
  for axis, d in enumerate(x.dims):
    u = None if axis in apart else update.dims[next(inner)]
    moved = axis in numbers.scatter_dims_to_operand_dims or u is None
    if u is not None and values.size(walk, u) == values.size(walk, d):
      equations.unify(walk.forest, u, d, why)
    elif u is not None:
      terms.pin(walk.forest, u, why)
      moved = True
    if moved:
      terms.pin(walk.forest, d, why)
  for axis, d in enumerate(update.dims):
    if axis not in numbers.update_window_dims:
      terms.pin(walk.forest, d, why)
  return [Value(x.dims)]


RULES: dict[str, Rule] = {
  "add": wrap,
  "argmax": argument,
  "argmin": argument,
  "eq": equal,
  "gather": gather,
  "iota": iota,
  "lt": wrap,
  "ne": equal,
  "select_n": select,
  "sort": sort,
  "top_k": top_k,
}
# Versions of jax spell them differently.
KINDS = [
  f"{dash}{kind}" for dash in "-_" for kind in "add mul sub min max".split()
]
RULES |= {f"scatter{kind}": scatter for kind in ("", *KINDS)}
