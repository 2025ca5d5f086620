"""Leaves that are alike merged by one program: what a recipe is under `jit`.

A tree of twelve layers has each leaf twelve times.  Unrolled, XLA compiles the
steps of every one; here the leaves of one shape, steps and place in a layer are
stacked, and each step takes them together.  It runs once, whatever is
measured of what comes out of it.

Leaves whose paths differ in more than numbers are kept apart: on a mesh they
may be laid out in different ways.

>>> together({f"layer_{i}/w": jnp.ones((2, 3)) for i in range(2)}, len)
[('layer_0/w', 'layer_1/w')]
"""

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace.merge.core import engine, leaves, steps
from weightspace.merge.core.bound import Bound, Views

NUMBER = re.compile(r"\d+")


class Batch(NamedTuple):
  """Leaves that are alike, as far as they have come."""

  paths: tuple[str, ...]  # L of them
  chain: engine.Chain
  done: int  # steps that `x` is behind
  x: jax.Array  # [L, M, ...]
  varying: steps.At  # what differs from leaf to leaf, [L, ...]; the rest None
  like: jax.Array  # one of the leaves as they came, [M, ...]


def together(
  arrays: dict[str, Any], kind: Callable[[str], Hashable]
) -> list[tuple[str, ...]]:
  """Return the paths of leaves that are alike, in the order of the first ones.

  Args:
    arrays: leaves by path.
    kind: of a path, what else must be equal.
  """
  groups: dict[Hashable, list[str]] = {}
  for path, x in arrays.items():
    alike = NUMBER.sub("#", path), x.shape, jnp.result_type(x), kind(path)
    groups.setdefault(alike, []).append(path)
  return [tuple(paths) for paths in groups.values()]


def stacked(trees: Sequence[Any]) -> Any:
  """Stack trees of equal shapes on a new first axis; one is only reshaped."""
  return jax.tree.map(
    lambda *xs: jnp.stack(xs) if len(xs) > 1 else jnp.asarray(xs[0])[None],
    *trees,
  )


def mapped(function: Callable[[Any], Any], rows: Any) -> Any:
  """Return `function(row)` of each row of a tree of arrays [L, ...]."""
  if len(jax.tree.leaves(rows)[0]) > 1:
    return jax.vmap(function)(rows)
  return stacked([function(jax.tree.map(lambda x: x[0], rows))])


def apart(rows: Any) -> list[Any]:
  """Return the rows of a tree of arrays [L, ...].

  XLA on the CPU compiles a slice for each number that it takes for a constant,
  which costs more than most merges; after a loop it takes none for one, and
  the rows of one shape share a program.
  """
  count = len(jax.tree.leaves(rows)[0])
  if count == 1:
    return [jax.tree.map(lambda x: x[0], rows)]
  numbers = jax.lax.fori_loop(
    0, 2, lambda _, turned: turned[::-1], tuple(map(jnp.int32, range(count)))
  )
  return [
    jax.tree.map(
      lambda x, n=n: jax.lax.dynamic_index_in_dim(x, n, keepdims=False), rows
    )
    for n in numbers
  ]


def merge(bound: Bound, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Return the merged leaves of a tree whose values are traced.

  Args:
    bound: the recipe, its measures not yet taken.
    arrays: leaves [M, ...] by path.
  """
  numbers = {p: x for p, x in arrays.items() if leaves.is_number(x)}
  chains = {path: bound.steps_at(path) for path in numbers}
  measuring = any(step.measures for step in bound.chain)
  # Nothing is gained for leaves whose kernels XLA shares by itself.
  light = {p for p, chain in chains.items() if not measuring and _light(chain)}
  merged = {
    path: engine.finish_compiled(bound.leaf(path), x)
    for path, x in arrays.items()
    if path in light or path not in numbers
  }
  heavy = {path: x for path, x in numbers.items() if path not in light}
  batches = _batches(bound, heavy, chains)

  def views(bound: Bound) -> Views:
    def each(index: int, folds: Any) -> Iterator[tuple[Any, Any]]:
      batches[:] = [_advanced(batch, bound, index) for batch in batches]
      yield from _viewed(batches, bound, index, folds)

    return each

  bound = bound.measured_by(views)
  for batch in batches:
    last = _advanced(batch, bound, len(batch.chain))
    merged |= zip(batch.paths, apart(_narrowed(last)))
  return {path: merged[path] for path in arrays}


def _light(chain: engine.Chain) -> bool:
  """Tell whether steps are a few operations on each entry by itself."""
  return all(
    step.entrywise and not step.local and "key" not in step.needs
    for step in chain
  )


def _batches(
  bound: Bound, arrays: dict[str, jax.Array], chains: dict[str, engine.Chain]
) -> list[Batch]:
  def kind(path: str) -> Hashable:
    at = bound.contexts[path]
    shapes = jax.tree.map(
      lambda x: (jnp.shape(x), jnp.result_type(x)), (at.base, at.given)
    )
    leaves_of, structure = jax.tree.flatten(shapes)
    return chains[path], tuple(leaves_of), structure

  batches = []
  for paths in together(arrays, kind):
    x = stacked([arrays[path] for path in paths])
    varying = stacked([_varying(bound.contexts[path]) for path in paths])
    if leaves.is_complex(x):
      base = varying.base
      base = None if base is None else leaves.widen(base, models=1)
      x, varying = leaves.widen(x, models=2), varying._replace(base=base)
    batches.append(
      Batch(paths, chains[paths[0]], 0, x, varying, arrays[paths[0]])
    )
  return batches


def _varying(at: steps.At) -> steps.At:
  """Return what differs from leaf to leaf, as arrays."""
  return at._replace(key=None, first=None, start=None)


def _restored(varying: steps.At, at: steps.At) -> steps.At:
  """Return the context of one leaf of a batch."""
  return varying._replace(key=at.key, first=at.first, start=at.start)


def _widened(varying: steps.At, at: steps.At) -> steps.At:
  """Return the context of one leaf of a batch as a measure sees it."""
  return _restored(varying, at)._replace(base=leaves.widen(varying.base))


def _advanced(batch: Batch, bound: Bound, index: int) -> Batch:
  """Return a batch behind the steps before `index`."""
  if batch.done == index:
    return batch
  shared = bound.contexts[batch.paths[0]]
  chain = batch.chain[batch.done : index]
  measured = bound.values_of(batch.chain)[batch.done : index]

  def run(row: tuple[jax.Array, steps.At]) -> jax.Array:
    at = _restored(row[1], shared)
    return engine.through(engine.BoundLeaf(chain, at, measured), row[0])

  x = mapped(run, (batch.x, batch.varying))
  return batch._replace(done=index, x=x)


def _narrowed(batch: Batch) -> jax.Array:
  """Return a batch of merged leaves in their dtype."""
  x, like = batch.x, batch.like
  if leaves.is_complex(like):
    reduces = any(step.reduces for step in batch.chain)
    lead = x.shape[:1] if reduces else x.shape[:2]
    x = leaves.paired(x, (*lead, *like.shape[1:]))
  return x.astype(like.dtype)


def _viewed(
  batches: list[Batch], bound: Bound, index: int, folds: Any
) -> Iterator[tuple[Any, Any]]:
  """Yield what each measure is to be updated with, in the order of leaves.

  Leaves come as one to a measure that also takes pieces of them.
  """
  items: dict[str, Any] = {}
  for batch in batches:
    kind = batch.chain[index].measures
    fold, at = folds.get(kind), bound.contexts[batch.paths[0]]
    if fold is None or getattr(fold, "concrete", False):
      continue
    if getattr(fold, "pieces", False):
      joined = jnp.moveaxis(leaves.widen(batch.x), 0, 1)
      yield kind, (steps.view(fold, joined, batch.varying), batch.varying)
      continue

    def look(
      row: tuple[jax.Array, steps.At], fold: Any = fold, at: steps.At = at
    ) -> Any:
      return steps.view(fold, leaves.widen(row[0]), _widened(row[1], at))

    rows = apart(mapped(look, (batch.x, batch.varying)))
    for path, row in zip(batch.paths, rows):
      items[path] = kind, (row, bound.contexts[path])
  for path in bound.contexts:
    if path in items:
      yield items[path]
