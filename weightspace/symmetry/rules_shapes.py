"""How primitives that move, join and cut axes treat them.

Each rule takes the walk, an equation and its input values, and returns its
output values; on the way it equates and pins axes.

>>> sorted(RULES)[:3]
['broadcast_in_dim', 'concatenate', 'dynamic_slice']
"""

import math
from collections.abc import Iterator, Sequence

from weightspace.jaxpr.graph import Equation, Ref
from weightspace.symmetry import equations, terms, values
from weightspace.symmetry.terms import ONE, Term
from weightspace.symmetry.values import Rule, Value, Walk


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
  if eqn.params.get("dimensions") or 0 in shape:
    values.pin(walk, x._replace(content=None), "reshape")
    return [_keep(x, values.known(walk, shape, "reshape").dims)]
  return [_keep(x, _deal(walk, x.dims, shape))]


def _deal(
  walk: Walk, dims: tuple[Term, ...], shape: tuple[int, ...]
) -> tuple[Term, ...]:
  """Return the new axes; fixed ones where they cut across the old ones."""
  result: list[Term] = []
  for old, new in _stretches([values.size(walk, d) for d in dims], shape):
    left, found = terms.product(dims[k] for k in old), []
    for j in new:
      halves = equations.split_product(
        walk.forest, values.resolve(walk, left), shape[j], "reshape"
      )
      if halves is None:
        break
      found.append(halves[0])
      left = halves[1]
    else:
      result += found
      continue
    for k in old:
      terms.pin(walk.forest, dims[k], "reshape")
    result += [terms.fresh(walk.forest, shape[j], "reshape") for j in new]
  return tuple(result)


def _stretches(
  old: Sequence[int], new: Sequence[int]
) -> Iterator[tuple[range, range]]:
  """Yield the shortest runs of axes that hold the same entries.

  >>> list(_stretches([2, 3, 4], [6, 2, 2]))
  [(range(0, 2), range(0, 1)), (range(2, 3), range(1, 3))]
  """
  i = j = 0
  while i < len(old) or j < len(new):
    first, then = i, j
    i, j = min(i + 1, len(old)), min(j + 1, len(new))
    while math.prod(old[first:i]) != math.prod(new[then:j]):
      if math.prod(old[first:i]) < math.prod(new[then:j]):
        i += 1
      else:
        j += 1
    yield range(first, i), range(then, j)


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


def stack(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """A new axis of single units; the others are the same."""
  axis, first = eqn.params["axis"], given[0]
  for value in given:
    values.pin_content(walk, value)
    values.unify(walk, first, value, "stack")
  whole = terms.total([ONE] * len(given))
  return [Value((*first.dims[:axis], whole, *first.dims[axis:]))]


def unstack(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """As slices of single units."""
  x, axis = given[0], eqn.params["axis"]
  values.pin_content(walk, x)
  for k in range(len(eqn.outputs)):
    cut(walk, x.dims[axis], k, k + 1, "unstack")
  dims = (*x.dims[:axis], *x.dims[axis + 1 :])
  return [Value(dims) for _ in eqn.outputs]


def tile(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Copies come before the units of an axis; nothing changes along them."""
  x = given[0]
  dims = (
    terms.product([terms.fresh(walk.forest, n), values.resolve(walk, d)])
    for d, n in zip(x.dims, eqn.params["reps"])
  )
  return [_keep(x, tuple(dims))]


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


def _strided(walk: Walk, term: Term, start: int, stride: int, n: int) -> Term:
  """Return every `stride`-th unit: one place of blocks, where these fit."""
  if start < stride and n * stride == values.size(walk, term):
    halves = equations.split_product(
      walk.forest, values.resolve(walk, term), n, "slice"
    )
    if halves is not None:
      terms.pin(walk.forest, halves[1], "slice")
      return halves[0]
  return _drop(walk, term, n, "slice")


def slice_(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """A stretch of an axis cuts it into a sum."""
  x, p = given[0], eqn.params
  strides = p["strides"] or (1,) * len(x.dims)
  dims = tuple(
    cut(walk, d, start, stop, "slice")
    if stride == 1
    else _strided(walk, d, start, stride, n)
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
  "stack": stack,
  "tile": tile,
  "transpose": transpose,
  "unstack": unstack,
  "dynamic_slice": dynamic_slice,
  "dynamic_update_slice": dynamic_update_slice,
}
