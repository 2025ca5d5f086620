"""How primitives that move, join and cut axes treat them.

Each rule takes the walk, an equation and its input values, and returns its
output values; on the way it equates and pins axes.

>>> sorted(RULES)[:3]
['broadcast_in_dim', 'concatenate', 'dynamic_slice']
"""

from weightspace.graph import Equation, Ref
from weightspace.match import equations, terms, values
from weightspace.match.terms import ONE, Term
from weightspace.match.values import Rule, Value, Walk


def _keep(value: Value, dims: tuple[Term, ...]) -> Value:
  return value._replace(dims=dims)


def broadcast(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """New axes are free: nothing changes along them."""
  x, shape = given[0], eqn.params["shape"]
  places = dict(zip(eqn.params["broadcast_dimensions"], x.dims))
  dims = []
  for axis, n in enumerate(shape):
    old = places.get(axis, ONE)
    kept = values.size(walk, old) == n
    dims.append(old if kept else terms.fresh(walk.forest, n))
  return [_keep(x, tuple(dims))]


def reshape(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """The factors of all axes, in order, are dealt out again."""
  x, shape = given[0], eqn.params["new_sizes"]
  dims = None if eqn.params.get("dimensions") else _deal(walk, x.dims, shape)
  if dims is None:
    values.pin(walk, x._replace(content=None), "reshape")
    return [_keep(x, values.known(walk, shape, "reshape").dims)]
  return [_keep(x, dims)]


def _deal(
  walk: Walk, dims: tuple[Term, ...], shape: tuple[int, ...]
) -> tuple[Term, ...] | None:
  """Return the new axes; None where they cut across the old ones."""
  if 0 in shape:
    return None
  left, result = terms.product(dims), []
  for n in shape:
    halves = equations.split_product(
      walk.forest, values.resolve(walk, left), n, "reshape"
    )
    if halves is None:
      return None
    result.append(halves[0])
    left = halves[1]
  return tuple(result)


def transpose(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Axes change places."""
  x = given[0]
  return [_keep(x, tuple(x.dims[a] for a in eqn.params["permutation"]))]


def squeeze(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Axes of size one go."""
  x, gone = given[0], eqn.params["dimensions"]
  return [_keep(x, tuple(d for a, d in enumerate(x.dims) if a not in gone))]


def expand(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Axes of size one come."""
  left = iter(given[0].dims)
  shape = values.shape_of(eqn)
  new = eqn.params["dimensions"]
  dims = [ONE if a in new else next(left) for a in range(len(shape))]
  return [_keep(given[0], tuple(dims))]


def concatenate(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """The joined axis is the sum of the parts; the others are the same."""
  axis, first = eqn.params["dimension"], given[0]
  for other in given[1:]:
    for a, (left, right) in enumerate(zip(first.dims, other.dims)):
      if a != axis:
        equations.unify(walk.forest, left, right, "concatenate")
  whole = terms.total(values.resolve(walk, v.dims[axis]) for v in given)
  dims = (*first.dims[:axis], whole, *first.dims[axis + 1 :])
  for value in given:
    values.pin_content(walk, value)
  return [Value(dims)]


def cut(walk: Walk, term: Term, start: int, stop: int, why: str) -> Term:
  """Return the units from `start` to `stop` of an axis."""
  if (start, stop) == (0, values.size(walk, term)):
    return term
  halves = equations.split_sum(
    walk.forest, values.resolve(walk, term), start, why
  )
  tail = values.resolve(walk, halves[1])
  middle = equations.split_sum(walk.forest, tail, stop - start, why)[0]
  return ONE if stop - start == 1 else middle


def _drop(walk: Walk, term: Term, count: int, why: str) -> Term:
  """Pin an axis of which some units are taken; return the new axis."""
  if values.size(walk, term) == count:
    return term
  terms.pin(walk.forest, term, why)
  return terms.fresh(walk.forest, count, why)


def slice_(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """A stretch of an axis cuts it into a sum."""
  x, p = given[0], eqn.params
  strides = p["strides"] or (1,) * len(x.dims)
  dims = tuple(
    cut(walk, d, start, stop, "slice")
    if stride == 1
    else _drop(walk, d, n, "slice")
    for d, start, stop, stride, n in zip(
      x.dims, p["start_indices"], p["limit_indices"], strides,
      values.shape_of(eqn)
    )
  )  # fmt: skip
  values.pin_content(walk, x)
  return [Value(dims)]


def split(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """As slices that follow each other."""
  x, axis, start, out = given[0], eqn.params["axis"], 0, []
  values.pin_content(walk, x)
  for n in eqn.params["sizes"]:
    part = cut(walk, x.dims[axis], start, start + n, "split")
    out.append(Value((*x.dims[:axis], part, *x.dims[axis + 1 :])))
    start += n
  return out


def pad(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Padding is a part before and a part after, each of equal units."""
  dims = []
  for d, config, n in zip(
    given[0].dims, eqn.params["padding_config"], values.shape_of(eqn)
  ):
    low, high, inner = config
    if inner or low < 0 or high < 0:
      dims.append(_drop(walk, d, n, "pad"))
    else:
      ends = [terms.fresh(walk.forest, k) if k else None for k in (low, high)]
      whole = [values.resolve(walk, t) for t in (ends[0], d, ends[1])
               if t is not None]  # fmt: skip
      dims.append(terms.total(whole))
  return [Value(tuple(dims))]


def rev(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """A reversed axis has an order."""
  for axis in eqn.params["dimensions"]:
    terms.pin(walk.forest, given[0].dims[axis], "rev")
  values.pin_content(walk, given[0])
  return [Value(given[0].dims)]


def dynamic_slice(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """A slice where the place is known, else a pinned axis."""
  x, dims = given[0], []
  for d, n, start in zip(x.dims, eqn.params["slice_sizes"], eqn.inputs[1:]):
    if isinstance(start, Ref):
      dims.append(_drop(walk, d, n, "dynamic_slice"))
    else:
      room = values.size(walk, d) - n
      at = min(max(int(start), 0), room)
      dims.append(cut(walk, d, at, at + n, "dynamic_slice"))
  return [Value(tuple(dims))]


def dynamic_update_slice(
  walk: Walk, eqn: Equation, given: list[Value]
) -> list[Value]:
  """What is replaced in whole is the same axis; else both are pinned."""
  x, update = given[:2]
  for d, u in zip(x.dims, update.dims):
    if values.size(walk, d) == values.size(walk, u):
      equations.unify(walk.forest, d, u, "dynamic_update_slice")
    else:
      terms.pin(walk.forest, d, "dynamic_update_slice")
      terms.pin(walk.forest, u, "dynamic_update_slice")
  return [Value(x.dims)]


RULES: dict[str, Rule] = {
  "broadcast_in_dim": broadcast,
  "concatenate": concatenate,
  "expand_dims": expand,
  "pad": pad,
  "reshape": reshape,
  "rev": rev,
  "slice": slice_,
  "split": split,
  "squeeze": squeeze,
  "transpose": transpose,
  "dynamic_slice": dynamic_slice,
  "dynamic_update_slice": dynamic_update_slice,
}
