"""Pieces of a merge: which models and rows of a leaf are in memory at once.

A leaf is one piece with all its models, unless its recipe folds: then more than
four models come two at a time, and a leaf that is too large for the memory that
was given comes in slices of its rows.

>>> need_bytes(entries=100, width=4, models=2, folds=False)
5600
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge import engine, steps

TOGETHER = 4  # models that a fold takes in one program
GROUP = 2  # models at a time beyond that


class Piece(NamedTuple):
  """Some models and rows of a leaf."""

  path: str
  models: range
  rows: slice | None  # of the first axis; None for all
  start: int  # position in the leaf of the first entry
  last: bool  # whether no model comes after these
  ends: bool  # whether the leaf is whole after it


class Arrays(NamedTuple):
  """What a piece consists of; the base comes with the first models only."""

  models: list[np.ndarray]
  base: np.ndarray | None
  given: dict[str, np.ndarray]


def folds(chained: engine.Chain) -> bool:
  """Tell whether steps may be given some models and rows at a time."""
  return all(
    step.entrywise and not step.local and (step.fold or not step.reduces)
    for step in chained
  )


def need_bytes(entries: int, width: int, models: int, folds: bool) -> int:
  """Return the bytes that a piece holds at most, the next one's reading too.

  Models and base as read, once more being read ahead, the models stacked, and
  in float32 the result and (for two models and more at a time) what the steps
  keep: two copies of the models, or of the result where the recipe folds.
  """
  read = (models + 1) * width
  work = 2 * 4 * (1 if folds else models)
  return entries * (2 * read + models * width + width + 4 + work)


def need(
  part: Any, bound: engine.Chain, path: str, max_memory: int | None
) -> int:
  """Return the bytes that a leaf's largest piece holds at most.

  Raises:
    ValueError: naming the leaf, when that cannot be kept below `max_memory`.
  """
  shape, dtype = part.inputs[0].kinds[path]
  piece = max(cut(part, bound, path, max_memory), key=lambda p: _rows(p, shape))
  entries = _rows(piece, shape) * math.prod(shape[1:])
  chained = engine.at_path(bound, path)
  return need_bytes(entries, dtype.itemsize, len(piece.models), folds(chained))


def _rows(piece: Piece, shape: tuple[int, ...]) -> int:
  if piece.rows is None:
    return shape[0] if shape else 1
  return piece.rows.stop - piece.rows.start


def cut(
  part: Any, bound: engine.Chain, path: str, max_memory: int | None
) -> list[Piece]:
  """Return the pieces of a leaf, in the order in which they are merged.

  Raises:
    ValueError: naming the leaf, when a piece cannot be kept below `max_memory`.
  """
  shape, dtype = part.inputs[0].kinds[path]
  count, chained = len(part.inputs), engine.at_path(bound, path)
  if not jnp.issubdtype(dtype, jnp.inexact):  # copied from the first model
    return [Piece(path, range(1), None, 0, True, True)]
  foldable = folds(chained)
  group = count if not foldable or count <= TOGETHER else GROUP
  total = shape[0] if shape else 1
  row = math.prod(shape[1:])
  one = need_bytes(row, dtype.itemsize, group, foldable)
  rows = total if max_memory is None else min(total, max_memory // max(one, 1))
  if rows < total and (not foldable or part.given or not rows):
    least = one if foldable and not part.given else one * total
    raise ValueError(
      f"max_memory: {path!r} needs {least} bytes in this recipe, got"
      f" {max_memory}"
    )
  pieces = []
  for low in range(0, max(total, 1), max(rows, 1)):
    high = min(low + rows, total)
    taken = None if rows >= total else slice(low, high)
    for first in range(0, count, group):
      models = range(first, min(first + group, count))
      last = models.stop == count
      ends = last and high == total
      pieces.append(Piece(path, models, taken, low * row, last, ends))
  return pieces


def whole_leaves(part: Any, paths: Iterable[str]) -> list[Piece]:
  """Return each floating leaf as one piece with all its models."""
  models = range(len(part.inputs))
  return [
    Piece(path, models, None, 0, True, True)
    for path in paths
    if jnp.issubdtype(part.inputs[0].dtype(path), jnp.inexact)
  ]


def load(part: Any) -> Callable[[Piece], Arrays]:
  """Return the function that reads a piece from its files.

  It raises a ValueError that names file and tensor where there is a NaN.
  """

  def read(piece: Piece) -> Arrays:
    path, rows = piece.path, piece.rows
    first = piece.models.start == 0
    base = part.base.read(path, rows) if first and part.base else None
    given = {n: _given(group, path) for n, group in part.given.items() if first}
    models = [part.inputs[m].read(path, rows) for m in piece.models]
    sources = [part.inputs[m] for m in piece.models]
    _check(path, zip(sources, models))
    if base is not None:
      _check(path, [(part.base, base)])
    _check(path, [(part.given[name][0], x) for name, x in given.items()])
    return Arrays(models, base, given)

  return read


def _given(group: Sequence[Any], path: str) -> np.ndarray:
  """Read a statistic of a leaf: one checkpoint, or one of each model."""
  found = [reader.read(path) for reader in group]
  return np.stack(found) if len(found) > 1 else found[0]


def _check(path: str, read: Iterable[tuple[Any, np.ndarray]]) -> None:
  for reader, array in read:
    if trees.inexact(array) and trees.any_nan([array])[0]:
      raise ValueError(f"{reader.path!r}: NaN in {path!r}, expected numbers")


def placed(at: steps.At, arrays: Arrays) -> steps.At:
  """Return the context of a leaf with its base and statistics."""
  return at._replace(base=arrays.base, given=arrays.given)


def emptied(at: steps.At) -> steps.At:
  """Return the context of a leaf without its arrays, which may then go."""
  return at._replace(base=None, given=None)


def leaf(arrays: Arrays) -> tuple[jax.Array, ...]:
  """Return the models of a piece as JAX has them, in the same memory."""
  return tuple(jax.device_put(x, may_alias=True) for x in arrays.models)


def merge(
  chained: engine.Chain,
  piece: Piece,
  arrays: Arrays,
  at: steps.At,
  seen: tuple[Any, ...],
  state: Any,
  dtype: np.dtype,
) -> tuple[Any, jax.Array | None]:
  """Merge a piece: return what goes on to the next, and what is finished.

  Args:
    chained: the leaf's steps.
    piece: which models and rows.
    arrays: as `load` read them.
    at: the leaf's context, with the base where the piece brought it.
    seen: what each step has measured.
    state: what the piece before returned; None for the first models.
    dtype: of the merged leaf, which is rounded once.
  """
  x = leaf(arrays)
  if x[0].dtype != dtype:
    x = tuple(one.astype(trees.accumulator(one.dtype)) for one in x)
  if state is None and piece.last:  # all models at once
    known = engine.look(chained, x, at, seen)
    merged = engine.finish_marked(chained, x, at, seen, known)
    return None, merged.astype(dtype)
  base, given, total = (at.base, at.given, None) if state is None else state
  at = at._replace(base=base, given=given)
  place = [step.reduces for step in chained].index(True)
  total = _add(chained[: place + 1], x, at, seen, total)
  if not piece.last:
    return (base, given, total), None
  return None, _close(chained[place:], total, at, seen[place:], dtype)


@functools.partial(jax.jit, static_argnums=0)
def _add(
  chained: engine.Chain,
  x: tuple[jax.Array, ...],
  at: steps.At,
  seen: tuple[Any, ...],
  total: Any,
) -> Any:
  """Take some models into the fold that the last of the steps is."""
  *before, reducing = chained
  first = at.first.astype(jnp.int32)
  wide = engine.through(before, jnp.stack(x), at, seen)
  fold = _fold(reducing, at, seen[len(before)])
  total = fold.init(wide[0]) if total is None else total
  for m in range(len(x)):
    total = fold.update(total, (first + m, wide[m]))
  return total


@functools.partial(jax.jit, static_argnums=(0, 4))
def _close(
  chained: engine.Chain,
  total: Any,
  at: steps.At,
  seen: tuple[Any, ...],
  dtype: Any,
) -> jax.Array:
  """Return the value of a fold behind the steps that follow it."""
  reducing, *after = chained
  merged = _fold(reducing, at, seen[0]).value(total)
  return engine.through(after, merged, at, seen[1:]).astype(dtype)


def _fold(reducing: steps.Step, at: steps.At, measured: Any) -> Any:
  if reducing.fold is None:
    raise ValueError(f"recipe: {reducing.name!r} does not fold")
  return reducing.fold(at._replace(measured=measured, local=None))
