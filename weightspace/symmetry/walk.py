"""The walk through a program: equation by equation, into scans and branches.

The body of a scan is seen once.  Its slices of scanned arrays are met together
with the axis of steps, what is carried and constant is not: so hidden units may
be ordered in each layer by itself, and the stream between layers may not.

>>> import jax
>>> import jax.numpy as jnp
>>> walk = values.begin()
>>> def function(w, x): return jnp.tanh(x @ w)
>>> program = graph.trace(function, jnp.ones((3, 4)), jnp.ones((2, 3)))
>>> w, x = values.known(walk, (3, 4)), values.known(walk, (2, 3), "input")
>>> out = follow(walk, program, [w, x])[0]
>>> out.dims[1] == w.dims[1], walk.forest.pins[values.resolve(walk, w.dims[0])]
(True, 'input')
"""

from typing import Any

from weightspace.jaxpr import graph
from weightspace.jaxpr.graph import Equation, Program, Ref
from weightspace.symmetry import (
  equations,
  rules_indices,
  rules_products,
  rules_shapes,
  terms,
  values,
)
from weightspace.symmetry.values import Rule, Value, Walk


def follow(walk: Walk, program: Program, given: list[Value]) -> list[Value]:
  """Return the outputs of a program, given what is known of its inputs."""
  env = dict(zip(program.inputs, given))

  def read(item: object) -> Value:
    return env[item] if isinstance(item, Ref) else values.constant(walk, item)

  for eqn in program.equations:
    inputs = [read(item) for item in eqn.inputs]
    data = any(value.data for value in inputs)
    outputs = [v._replace(data=data) for v in _step(walk, eqn, inputs)]
    for ref, value in zip(eqn.outputs, outputs):
      values.record(walk, value.dims)
      if value.data and not walk.context:
        walk.uses.append(values.Use(ref, None, value.dims))
    env.update(zip(eqn.outputs, outputs))
  return [read(item) for item in program.outputs]


def _step(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  name = eqn.primitive.name
  if name in rules_indices.CARRY:
    content = given[0].content
    bare = [given[0]._replace(content=None), *given[1:]]
    return [v._replace(content=content) for v in RULES[name](walk, eqn, bare)]
  return RULES.get(name, rules_products.unknown)(walk, eqn, given)


def _same(walk: Walk, eqn: Equation, groups: list[list[Value]]) -> None:
  """Equate values that stand for one another, position by position."""
  for row in zip(*groups):
    for value in row:
      values.pin_content(walk, value)
    for other in row[1:]:
      values.unify(walk, row[0], other, eqn.primitive.name)


def _scan_parts(eqn: Equation) -> tuple[int, int]:
  """Return how many inputs of a scan are constant, and how many carried.

  Read off the shapes, since jax versions name these numbers differently: what
  is scanned over has one more axis outside of the body.
  """
  body, count = eqn.params["jaxpr"], len(eqn.inputs)

  def same(outer: Any, inner: Any) -> int:
    return sum(len(a.shape) == len(b.shape) for a, b in zip(outer, inner))

  carried = same(eqn.avals[count:], body.out_avals)
  return same(eqn.avals[:count], body.in_avals) - carried, carried


def scan(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Steps have an order; each may have an order of its hidden units."""
  p = eqn.params
  fixed, carried = _scan_parts(eqn)
  body = graph.opened(p["jaxpr"])
  steps = terms.fresh(walk.forest, p["length"], "scan")
  consts, carry = given[:fixed], given[fixed : fixed + carried]
  carry = [v._replace(data=any(g.data for g in given)) for v in carry]
  for value in given:
    values.pin_content(walk, value)
  rows = []
  for value in given[fixed + carried :]:
    equations.unify(walk.forest, steps, value.dims[0], "scan")
    rows.append(value._replace(dims=value.dims[1:], content=None))
  inner = walk._replace(context=(*walk.context, steps))
  for value in rows:
    values.record(inner, value.dims)
  bare = [v._replace(content=None) for v in (*consts, *carry)]
  outputs = follow(inner, body, [*bare, *rows])
  _same(walk, eqn, [bare[fixed:], outputs[:carried]])
  stacked = outputs[carried:]
  for value in stacked:
    values.pin_content(walk, value)
  return bare[fixed:] + [Value((steps, *value.dims)) for value in stacked]


def while_(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """What is carried keeps its axes."""
  p = eqn.params
  first, second = p["cond_nconsts"], p["body_nconsts"]
  carry = [v._replace(content=None, data=True) for v in given[first + second :]]
  for value in given:
    values.pin_content(walk, value)
  inner = walk._replace(context=(*walk.context, terms.ONE))
  follow(inner, graph.opened(p["cond_jaxpr"]), given[:first] + carry)
  consts = given[first : first + second]
  outputs = follow(inner, graph.opened(p["body_jaxpr"]), consts + carry)
  _same(walk, eqn, [carry, outputs])
  return carry


def cond(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """All branches give the same axes."""
  inner = walk._replace(context=(*walk.context, terms.ONE))
  for value in given:
    values.pin_content(walk, value)
  bare = [v._replace(content=None) for v in given[1:]]
  found = [
    follow(inner, graph.opened(branch), bare)
    for branch in eqn.params["branches"]
  ]
  _same(walk, eqn, found)
  return [v._replace(content=None) for v in found[0]]


RULES: dict[str, Rule] = rules_products.RULES | rules_shapes.RULES
RULES |= rules_indices.RULES
RULES |= {"scan": scan, "while": while_, "cond": cond}
