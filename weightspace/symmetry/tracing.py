"""The permutation symmetries of a model, read off its own jaxpr.

Every axis of every value is a term; primitives equate terms (`walking`).  What
is left free in the end can be reordered wherever it occurs without a change of
the function.  A unit may have an order of its own in each block of another axis
if nothing ever meets it without that axis: so heads hold their inner units, and
scanned layers theirs.

>>> def apply(p, x):
...   return jnp.tanh(x @ p["in"] + p["bias"][None]) @ p["out"]
>>> params = {"in": jnp.ones((3, 5)), "bias": jnp.ones(5)}
>>> params["out"] = jnp.ones((5, 2))
>>> axes = trace_axes(apply, params, jnp.ones((1, 3)))
>>> axes.tree
{'bias': 'bias', 'in': '3 bias', 'out': 'bias 2'}
>>> axes.pins
{'in:0': 'input', 'out:1': 'output'}
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import graph
from weightspace.symmetry import (
  checks,
  naming,
  running_statistics,
  terms,
  values,
)
from weightspace.symmetry import walk as walking
from weightspace.symmetry.axes import Axes
from weightspace.symmetry.values import Walk
from weightspace.types import Params


class Traced(NamedTuple):
  """An analysis that is done: the program, and what is known of it."""

  walk: Walk
  program: graph.Program
  names: dict[int, str]  # of the atoms that have one
  joined: list[tuple[tuple[int, int], Any]]  # atoms that became one
  axes: Axes


def trace_axes(apply: Callable[..., Any], params: Params, *inputs: Any) -> Axes:
  """Return the permutation symmetries of `apply(params, *inputs)`.

  Args:
    apply: any JAX-traceable function of parameters.
    params: parameters, or their shapes (`jax.ShapeDtypeStruct`, as
      `jax.eval_shape` gives them): nothing is computed or allocated.
    *inputs: further arguments, or their shapes.  Their axes are fixed, and so
      are those of the output.

  Returns:
    Axes: a pattern for each parameter, the sizes, and what fixed the rest.

  >>> def attention(p, x):  # one head: queries with keys, values with output
  ...   q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
  ...   return jax.nn.softmax(q @ k.swapaxes(1, 2)) @ v @ p["o"]
  >>> p = {n: jnp.ones((4, 3)) for n in "qkv"} | {"o": jnp.ones((3, 4))}
  >>> trace_axes(attention, p, jnp.ones((1, 2, 4))).tree
  {'k': '4 k', 'o': 'v 4', 'q': '4 k', 'v': '4 v'}

  Ainsworth et al. 2023, "Git Re-Basin", https://arxiv.org/abs/2209.04836, where
  the symmetries are written by hand; reading them off the jaxpr is ours.
  """
  trees.check_arrays(params, "trace_axes: params")
  return analyse(apply, params, *inputs).axes


def analyse(apply: Callable[..., Any], params: Params, *inputs: Any) -> Traced:
  """Return the axes, and where in the program their units are used."""
  program = graph.trace(apply, params, *inputs)
  walk, leaves = values.begin(), jax.tree.leaves(params)
  count = len(leaves)
  read = [i for eqn in program.equations for i in eqn.inputs]
  used = {i for i in (*read, *program.outputs) if isinstance(i, graph.Ref)}
  given = [
    values.known(walk, jnp.shape(leaf), None if ref in used else "not used")
    for leaf, ref in zip(leaves, program.inputs)
  ]
  for value in given:
    values.record(walk, value.dims)
  for leaf in jax.tree.leaves(inputs):
    given.append(values.known(walk, jnp.shape(leaf), "input", data=True))
  for output in walking.follow(walk, program, given):
    values.pin(walk, output, "output")
  resolved = [
    tuple(values.resolve(walk, d) for d in value.dims)
    for value in given[:count]
  ]
  _pin_unused(walk, resolved)
  parents = _parents(walk, resolved)
  resolved, joined = _fused(walk, resolved, parents)
  names = naming.names(walk, trees.names(params), resolved, parents)
  tree, pins = naming.patterns(walk, params, resolved, names)
  sizes = {name: walk.forest.sizes[atom] for atom, name in names.items()}
  statistics = _statistics(program, trees.names(params), used)
  axes = Axes(tree, sizes, pins, statistics)
  return Traced(walk, program, names, joined, axes)


def _statistics(
  program: graph.Program, paths: list[str], used: set[graph.Ref]
) -> tuple[str, ...]:
  """Return the statistics of norms; of what is not read, names tell."""
  found = running_statistics.find(program, len(paths))
  return tuple(
    path
    for number, (path, ref) in enumerate(zip(paths, program.inputs))
    if number in found or (ref not in used and checks.is_statistic(path))
  )


def words(traced: Traced, dims: Any) -> tuple[Any, ...]:
  """Return the axes of a value in names and sizes, as `axes.parse` does."""
  sizes = traced.walk.forest.sizes

  def rename(term: Any) -> Any:
    if isinstance(term, int):
      return traced.names.get(term, sizes[term])
    if isinstance(term, terms.Sum):
      return terms.Sum(tuple(map(rename, term.parts)))
    return terms.Product(tuple(map(rename, term.factors)))

  found = [values.resolve(traced.walk, d) for d in dims]
  for pair, atom in traced.joined:
    found = [_join(d, pair, atom) for d in found]
  return tuple(map(rename, found))


def _scopes(walk: Walk) -> dict[int, set[int]]:
  """Return for each atom the atoms that it is always met with.

  An atom that is met twice at once is no block: which one would be meant?
  """
  scopes: dict[int, set[int]] = {}

  def visit(term: Any, around: set[int], others: list[int]) -> None:
    found = terms.factors(term)
    near = around | {f for f in found if isinstance(f, int)}
    for place, factor in enumerate(found):
      beside = found[:place] + found[place + 1 :]
      rest = others + [a for f in beside for a in terms.atoms(f)]
      if isinstance(factor, int):
        scope = {a for a in near if rest.count(a) == 1 and a != factor}
        scopes[factor] = scopes.get(factor, scope) & scope
      else:  # parts of a sum are never met at once
        for part in terms.parts(factor):
          visit(part, near, rest)

  for dims in dict.fromkeys(
    tuple(values.resolve(walk, d) for d in dims) for dims in walk.seen
  ):
    top = {f for d in dims for f in terms.factors(d) if isinstance(f, int)}
    for place, d in enumerate(dims):
      others = dims[:place] + dims[place + 1 :]
      visit(d, top, [a for other in others for a in terms.atoms(other)])
  return scopes


def _pin_unused(walk: Walk, leaves: list[Any]) -> None:
  """Fix the parts of parameters that this program never reads.

  It may with other inputs: rows of a table of positions beyond the length that
  was traced.
  """
  seen = {d for dims in walk.seen for d in dims}
  used = {
    factor
    for d in seen
    for factor in terms.factors(values.resolve(walk, d))
    if isinstance(factor, int)
  }
  for term in walk.spent:
    used.update(terms.atoms(values.resolve(walk, term)))
  for dims in leaves:
    for d in dims:
      for atom in terms.atoms(d):
        if atom not in used:
          terms.pin(walk.forest, atom, "not used")


def _parents(walk: Walk, leaves: list[Any]) -> dict[int, list[int]]:
  """Return the blocks of each free atom, outermost first.

  Of two atoms that are always met together the one further left is the block.
  """
  order = list(
    dict.fromkeys(a for dims in leaves for d in dims for a in terms.atoms(d))
  )
  place = {atom: k for k, atom in enumerate(order)}
  scopes, pins = _scopes(walk), walk.forest.pins
  free = [a for a in order if not pins[a]]
  parents: dict[int, list[int]] = {a: [] for a in order}

  def is_block(b: int, a: int) -> bool:
    mutual = not pins[b] and a in scopes[b]
    return b in place and not (mutual and place[b] > place[a])

  found = {a: {b for b in scopes[a] if is_block(b, a)} for a in free}
  for a in sorted(free, key=lambda a: (len(found[a]), place[a])):
    # The blocks of a block are blocks too, or it is none.
    kept = {b for b in found[a] if found.get(b, set()) <= found[a]}
    ranks = {b: (len(found.get(b, ())), place[b]) for b in kept}
    parents[a] = sorted(kept, key=ranks.__getitem__)
  return parents


def _fused(
  walk: Walk, leaves: list[Any], parents: dict[int, list[int]]
) -> tuple[list[Any], list[Any]]:
  """Join atoms that were split by a reshape and never used apart."""
  found = []
  scopes, forest = _scopes(walk), walk.forest
  for inner in list(parents):
    outer = parents[inner][-1] if parents.get(inner) else None
    if outer is None or forest.pins[outer] or inner not in scopes[outer]:
      continue
    others = [b for a, above in parents.items() if a != inner for b in above]
    alone = outer not in others and inner not in others
    if not alone or parents[inner] != [*parents[outer], outer]:
      continue
    if all(_adjacent(d, (outer, inner)) for dims in leaves for d in dims):
      count = forest.sizes[outer] * forest.sizes[inner]
      joined = terms.fresh(forest, count)
      found.append(((outer, inner), joined))
      leaves = [
        tuple(_join(d, (outer, inner), joined) for d in dims) for dims in leaves
      ]
      parents[joined] = parents.pop(outer)  # type: ignore[index]
      del parents[inner]
  return leaves, found


def _adjacent(term: Any, pair: tuple[int, int]) -> bool:
  """Tell whether the pair occurs in this order and adjacent only."""
  inner = terms.factors(term)
  if isinstance(term, terms.Sum):
    return all(_adjacent(part, pair) for part in term.parts)
  for place, factor in enumerate(inner):
    if not isinstance(factor, int):
      if not _adjacent(factor, pair):
        return False
    elif factor == pair[0] and inner[place + 1 : place + 2] != (pair[1],):
      return False
    elif factor == pair[1] and (place == 0 or inner[place - 1] != pair[0]):
      return False
  return True


def _join(term: Any, pair: tuple[int, int], joined: Any) -> Any:
  if isinstance(term, terms.Sum):
    return terms.total(_join(part, pair, joined) for part in term.parts)
  result = []
  for factor in terms.factors(term):
    if factor == pair[1]:
      continue
    if isinstance(factor, int):
      result.append(joined if factor == pair[0] else factor)
    else:
      result.append(_join(factor, pair, joined))
  return terms.product(result)
