"""Points: where in a model the units of a name can be watched.

The analysis that finds the axes also knows which values carry which units.  A
name is watched in what is contracted over it: the inputs of the next layer, for
a residual stream those of every block, for the inner units of heads the queries
and the keys.

>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> params = {"v": jnp.ones((2, 1)), "w": jnp.eye(2)}
>>> found = find(apply, params, jnp.ones((1, 2)))
>>> watch(apply, found, params, jnp.ones((1, 2)))[0].shape
(2, 1)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import graph
from weightspace.match.solvers import weight_terms
from weightspace.symmetry import terms, tracing
from weightspace.symmetry.axes import Axes, base, blocks, parse
from weightspace.types import Params


class Point(NamedTuple):
  """A value that carries a name: which, and how its axes are taken apart."""

  name: str
  number: int  # of the value in the program
  part: int  # of the value, where an axis of it is a sum
  steps: tuple[Any, ...]
  first: tuple[int, ...]  # the axes of the blocks, and that of the name
  pooled: tuple[int, ...]  # axes of other names, whose order is not known yet


def find(
  apply: Callable[..., Any], params: Params, x: Any
) -> tuple[Point, ...]:
  """Return the points of all names, in the order of the program."""
  traced = tracing.analyse(apply, params, x)
  read: list[Point] = []
  made: dict[str, list[Point]] = {}
  for use in traced.walk.uses:
    found = tracing.words(traced, use.dims)
    for point in _points(use.ref.number, found, traced.axes, use.axis):
      if use.axis is None:
        made.setdefault(point.name, []).append(point)
      elif point not in read:
        read.append(point)
  known = {point.name for point in read}
  rest = [points[-1] for name, points in made.items() if name not in known]
  return tuple(read + rest)


def _points(
  number: int, found: tuple[Any, ...], axes: Axes, only: int | None
) -> list[Point]:
  """Return the names on a value, or on one of its axes."""
  wanted = None if only is None else set(_names(found[only]))
  result = []
  cuts = weight_terms.split(list(found), axes.sizes)
  for part, (steps, labels) in enumerate(cuts):
    bases = [None if n is None else base(n) for n in labels]
    for axis, name in enumerate(labels):
      free = name is not None and name not in axes.pins
      if not free or labels.count(name) > 1:
        continue
      if wanted is not None and name not in wanted:
        continue
      if all(bases.count(block) == 1 for block in blocks(name)):
        first = (*(bases.index(block) for block in blocks(name)), axis)
        pooled = tuple(
          a
          for a, other in enumerate(labels)
          if a not in first and other is not None and other not in axes.pins
        )
        result.append(Point(name, number, part, steps, first, pooled))
  return result


def _names(term: Any) -> list[str]:
  if isinstance(term, terms.Product | terms.Sum):
    return [name for part in term[0] for name in _names(part)]
  return [term] if isinstance(term, str) else []


def watch(
  apply: Callable[..., Any], points: tuple[Point, ...], params: Params, x: Any
) -> list[jax.Array]:
  """Return the values at points, each as [*blocks, n, samples]; jit it."""
  # The points may come from a batch of another size.
  steps = {(p.number, p.part, p.first): p.steps
           for p in find(apply, params, x)}  # fmt: skip
  program = graph.trace(apply, params, x)
  env = dict(zip(program.inputs, jax.tree.leaves((params, x))))
  refs = [graph.Ref(point.number) for point in points]
  found = graph.evaluate(program.equations, env, refs)
  result = []
  for point, value in zip(points, found):
    cuts = steps[point.number, point.part, point.first]
    y = weight_terms.view(weight_terms.Piece("", cuts, ()), jnp.asarray(value))
    # Units of other names are not aligned: their mean does not depend on it.
    y = trees.widened(y).mean(point.pooled, keepdims=True)
    front = jnp.moveaxis(y, point.first, range(len(point.first)))
    shape = front.shape[: len(point.first)]
    result.append(front.reshape(*shape, -1))
  return result


def renamed(
  points: tuple[Point, ...], own: Axes, axes: Axes
) -> tuple[Point, ...]:
  """Return the points under the names of `axes`, those it has.

  Names of axes that were edited by hand are found by their place.
  """
  known: dict[str, str] = {}
  mine, theirs = trees.named(own.tree), trees.named(axes.tree)
  for path, pattern in mine.items():
    for a, b in zip(parse(pattern), parse(theirs[path])):
      for x, y in zip(_names(a), _names(b)):
        known.setdefault(x, y)
  names = set(axes.sizes) - set(axes.pins)
  return tuple(
    point._replace(name=known[point.name])
    for point in points
    if known.get(point.name) in names
  )
