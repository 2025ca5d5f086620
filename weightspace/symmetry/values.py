"""Values of a traced function, as the symmetry analysis sees them.

Of each value only the terms of its axes are known, and for whole numbers that
point into an axis (an arange, an argmax) which axis that is.

>>> walk = begin()
>>> [terms.size(walk.forest, d) for d in known(walk, (2, 3)).dims]
[2, 3]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace.jaxpr import graph
from weightspace.symmetry import equations, terms
from weightspace.symmetry.terms import Forest, Term


class Value(NamedTuple):
  """The axes of a value, what it points into, whether it depends on inputs."""

  dims: tuple[Term, ...]
  content: Term | None = None
  data: bool = False


class Use(NamedTuple):
  """A value of the top level that depends on inputs, and what reads it.

  `axis` is the one that a contraction runs over; None where the value is made.
  """

  ref: graph.Ref
  axis: int | None
  dims: tuple[Term, ...]


class Walk(NamedTuple):
  """What one analysis gathers; the lists are shared by all its parts."""

  forest: Forest
  seen: list[tuple[Term, ...]]  # axes that were met together
  uses: list[Use]
  spent: list[Term]  # axes that a sum or a choice runs over
  context: tuple[Term, ...] = ()  # the steps of the scans around


Rule = Callable[[Walk, graph.Equation, list[Value]], list[Value]]


def begin() -> Walk:
  """Return an analysis of nothing yet."""
  return Walk(Forest([], [], []), [], [], [])


def known(
  walk: Walk, shape: Any, why: str | None = None, data: bool = False
) -> Value:
  """Return a value with new axes, pinned where a reason is given."""
  dims = tuple(terms.fresh(walk.forest, n, why) for n in shape)
  return Value(dims, data=data)


def constant(walk: Walk, array: Any) -> Value:
  """Return a constant: an axis along which nothing changes is free."""
  shape = np.shape(array)
  if not shape:
    return Value(())
  if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
    return known(walk, shape, "constant")
  numbers, dims = np.asarray(array), []
  for axis, n in enumerate(shape):
    first = np.take(numbers, [0], axis) if n else numbers
    same = bool(np.all(numbers == first))
    dims.append(terms.fresh(walk.forest, n, None if same else "constant"))
  return Value(tuple(dims))


def record(walk: Walk, dims: tuple[Term, ...]) -> None:
  """Note that these axes were met in one value, or in one contraction."""
  walk.seen.append((*dims, *walk.context))


def unify(walk: Walk, a: Value, b: Value, why: str) -> None:
  """Let two values of one shape have the same axes."""
  for left, right in zip(a.dims, b.dims):
    equations.unify(walk.forest, left, right, why)


def pin(walk: Walk, value: Value, why: str) -> None:
  """Fix all axes of a value, and what it points into."""
  for term in (
    *value.dims,
    *([] if value.content is None else [value.content]),
  ):
    terms.pin(walk.forest, term, why)


def pin_content(walk: Walk, value: Value) -> None:
  """Fix the axis that a value points into: its numbers are used as numbers."""
  if value.content is not None:
    terms.pin(walk.forest, value.content, "iota")


def size(walk: Walk, term: Term) -> int:
  """Return the number of units of a term."""
  return terms.size(walk.forest, term)


def resolve(walk: Walk, term: Term) -> Term:
  """Return a term by atoms that nothing more is known of."""
  return terms.resolve(walk.forest, term)


def shape_of(eqn: graph.Equation, output: int = 0) -> tuple[int, ...]:
  """Return the shape of an output of an equation."""
  return tuple(eqn.avals[len(eqn.inputs) + output].shape)
