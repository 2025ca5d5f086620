"""Which parameters are the statistics of a norm, read off its jaxpr.

A running variance is a leaf whose root divides values, a running mean a leaf
that was subtracted from the same values before.  They move with the units that
they are about, but how alike two models' statistics are says nothing about
which units are the same.

>>> import jax
>>> import jax.numpy as jnp
>>> def apply(p, x):
...   y = (x @ p["w"] - p["m"][None]) * jax.lax.rsqrt(p["v"] + 1e-5)[None]
...   return y * p["scale"][None] + p["bias"][None]
>>> params = {n: jnp.ones(3) for n in ("m", "v", "scale", "bias")}
>>> params["w"] = jnp.ones((2, 3))
>>> found = find(graph.trace(apply, params, jnp.ones((4, 2))), 5)
>>> [sorted(params)[n] for n in sorted(found)]
['m', 'v']
"""

from typing import NamedTuple

import jax.extend.core as jex

from weightspace.jaxpr import graph
from weightspace.jaxpr.graph import Equation, Program, Ref

MOVES = {"broadcast_in_dim", "reshape", "transpose", "convert_element_type"}
MOVES |= {"squeeze", "expand_dims", "copy", "slice", "dynamic_slice", "gather"}
ROOTS = {"sqrt", "rsqrt"}
BODIES = {"scan": "jaxpr"}


class _Kind(NamedTuple):
  """What a value is of the parameters."""

  leaves: frozenset[int] = frozenset()  # it is, or is a product with, these
  roots: frozenset[int] = frozenset()  # ... and has the roots of these
  less: frozenset[int] = frozenset()  # these were subtracted from it
  mixed: bool = False  # it depends on inputs


def find(program: Program, count: int) -> set[int]:
  """Return the numbers of the parameters that are statistics of norms.

  Args:
    program: whose first inputs are the parameters.
    count: how many of its inputs they are.

  The rule is ours.
  """
  kinds = [_Kind(frozenset({n})) for n in range(count)]
  kinds += [_Kind(mixed=True)] * (len(program.inputs) - count)
  found: set[int] = set()
  _walk(program, kinds, found)
  return found


def _walk(program: Program, kinds: list[_Kind], found: set[int]) -> list[_Kind]:
  known: dict[Ref, _Kind] = dict(zip(program.inputs, kinds))
  for eqn in program.equations:
    given = [
      known.get(i, _Kind()) if isinstance(i, Ref) else _Kind()
      for i in eqn.inputs
    ]
    body = eqn.params.get(BODIES.get(eqn.primitive.name, ""))
    if isinstance(body, jex.ClosedJaxpr):
      inner = _walk(graph.opened(body), given, found)
      known.update(zip(eqn.outputs, inner))
      continue
    kind = _kind(eqn, given, found)
    known.update({ref: kind for ref in eqn.outputs})
  return [
    known.get(i, _Kind()) if isinstance(i, Ref) else _Kind()
    for i in program.outputs
  ]


def _kind(eqn: Equation, given: list[_Kind], found: set[int]) -> _Kind:
  name, mixed = eqn.primitive.name, any(k.mixed for k in given)
  if name in MOVES or name == "neg":
    return given[0]
  if (name in ROOTS or name == "pow") and not mixed:
    return _Kind(roots=given[0].leaves | given[0].roots)
  if name in ("add", "max") and not mixed:  # an epsilon is added
    some = [k for k in given if k.leaves or k.roots]
    return some[0] if len(some) == 1 else _Kind()
  if name in ("mul", "div"):
    return _product(given, mixed, found)
  if name in ("add", "sub") and len(given) == 2:
    return _sum(name, given, mixed, found)
  return _Kind(mixed=mixed)


def _product(given: list[_Kind], mixed: bool, found: set[int]) -> _Kind:
  """A value less a mean, times a root: both are statistics."""
  leaves = given[0].leaves | given[1].leaves
  roots = given[0].roots | given[1].roots
  less = given[0].less | given[1].less
  if not mixed:
    return _Kind(leaves, roots)
  if less and roots:
    found |= less | roots
  return _Kind(leaves, roots, less, mixed=True)


def _sum(name: str, given: list[_Kind], mixed: bool, found: set[int]) -> _Kind:
  a, b = given
  if not mixed:
    # What is subtracted in bias - mean * inv, folded ahead.
    return b if name == "sub" and b.roots else _Kind(a.leaves | b.leaves)
  value, own = (a, b) if a.mixed else (b, a)
  if own.mixed:
    return _Kind(mixed=True)
  if own.roots and own.roots & value.roots:  # x inv + (bias - mean inv)
    found |= own.roots | (own.leaves - value.leaves)
  less = own.leaves if name == "sub" and a.mixed and not own.roots else ()
  return _Kind(frozenset(), value.roots, frozenset(less), mixed=True)
