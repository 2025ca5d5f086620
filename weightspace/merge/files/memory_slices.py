"""Pieces of a merge: which rows of a leaf are in memory at once.

A leaf is one piece of all its models, unless its recipe works entry by entry:
then a large leaf comes in slices of its rows, the smaller the more models there
are, so that neither their number nor the largest leaf says what is needed.

>>> need_bytes(entries=100, width=4, models=2, folds=False)
5600
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.checkpoints.tensor_files import Kind
from weightspace.merge.core import contexts, engine, leaves, steps
from weightspace.merge.core.bound import Bound
from weightspace.merge.files import masks

TOGETHER = 2**23  # entries of all models that are merged at once


class Piece(NamedTuple):
  """Some rows of a leaf."""

  path: str
  models: range
  rows: slice | None  # of the first axis; None for all
  start: int  # position in the leaf of the first entry
  ends: bool  # whether the leaf is whole after it


class Arrays(NamedTuple):
  """What a piece consists of."""

  models: list[np.ndarray]
  base: np.ndarray | None
  given: dict[str, np.ndarray]
  held: masks.Held | None = None  # entries that no recipe is to see


def merges(kind: Kind) -> bool:
  """Tell whether leaves of a shape and dtype are merged, or the first's copied.

  >>> merges(((2,), np.dtype("int64"))), merges(((0, 3), np.dtype("float32")))
  (False, False)
  """
  shape, dtype = kind
  return bool(jnp.issubdtype(dtype, jnp.inexact)) and 0 not in shape


def divides(chained: steps.Chain) -> bool:
  """Tell whether steps may be given some rows at a time."""
  return all(step.entrywise and not step.local for step in chained)


def folds(chained: steps.Chain) -> bool:
  """Tell whether steps take models one by one."""
  return divides(chained) and all(
    step.fold or not step.reduces for step in chained
  )


def need_bytes(entries: int, width: int, models: int, folds: bool) -> int:
  """Return the bytes that a piece holds at most, the next one's reading too.

  Models and base as read, once more being read ahead, the models stacked, and
  in float32 the result and what the steps keep: two copies of the models, or of
  the result where the recipe folds.
  """
  read = (models + 1) * width
  work = 2 * 4 * (1 if folds else models)
  return entries * (2 * read + models * width + width + 4 + work)


def need(
  part: Any, chain: steps.Chain, path: str, max_memory: int | None
) -> int:
  """Return the bytes that a leaf's largest piece holds at most.

  Raises:
    ValueError: naming the leaf, when that cannot be kept below `max_memory`.
  """
  shape, dtype = part.inputs[0].kinds[path]
  piece = max(cut(part, chain, path, max_memory), key=lambda p: _rows(p, shape))
  entries = _rows(piece, shape) * math.prod(shape[1:])
  chained = contexts.at_path(chain, path)
  return need_bytes(entries, dtype.itemsize, len(piece.models), folds(chained))


def _rows(piece: Piece, shape: tuple[int, ...]) -> int:
  if piece.rows is None:
    return shape[0] if shape else 1
  return piece.rows.stop - piece.rows.start


def cut(
  part: Any, chain: steps.Chain, path: str, max_memory: int | None
) -> list[Piece]:
  """Return the pieces of a leaf, in the order in which they are merged.

  Raises:
    ValueError: naming the leaf, when a piece cannot be kept below `max_memory`.
  """
  shape, dtype = part.inputs[0].kinds[path]
  models = range(len(part.inputs))
  chained = contexts.at_path(chain, path)
  if not merges((shape, dtype)):
    return [Piece(path, range(1), None, 0, True)]
  total = shape[0] if shape else 1
  row = math.prod(shape[1:])
  one = need_bytes(row, dtype.itemsize, len(models), folds(chained))
  divisible = divides(chained) and not part.given
  divisible = divisible and path not in part.written
  divisible = divisible and not leaves.is_complex(np.empty(0, dtype))
  rows = total
  if divisible and row:
    rows = min(total, max(1, TOGETHER // (row * len(models))))
  if max_memory is not None:
    rows = min(rows, max_memory // max(one, 1))
  if rows < total and (not divisible or not rows):
    least = one if divisible else one * total
    raise ValueError(
      f"max_memory: {path!r} needs {least} bytes in this recipe, got"
      f" {max_memory}"
    )
  rows = _equal(total, max(rows, 1))
  if rows >= total:
    return [Piece(path, models, None, 0, True)]
  return [
    Piece(path, models, slice(low, high), low * row, high == total)
    for low in range(0, total, rows)
    for high in [min(low + rows, total)]
  ]


def _equal(total: int, rows: int) -> int:
  """Return at most so many rows, that divide all where a like number does.

  Pieces of another size would be another program.
  """
  least = -(-total // rows)
  for count in range(least, 2 * least):
    if not total % count:
      return total // count
  return rows


def whole_leaves(part: Any, paths: Iterable[str]) -> list[Piece]:
  """Return each leaf that is merged as one piece with all its models."""
  models = range(len(part.inputs))
  return [
    Piece(path, models, None, 0, True)
    for path in paths
    if merges(part.inputs[0].kinds[path])
  ]


def load(part: Any) -> Callable[[Piece], Arrays]:
  """Return the function that reads a piece from its files.

  It raises a ValueError that names file and tensor where there is a NaN, or an
  infinity in some models only.
  """

  def read(piece: Piece) -> Arrays:
    path, rows = piece.path, piece.rows
    sources = [part.inputs[m] for m in piece.models]
    models = [reader.read(path, rows) for reader in sources]
    if not merges(part.inputs[0].kinds[path]):
      return Arrays(models, None, {})
    base = part.base.read(path, rows) if part.base else None
    given = {n: _given(group, path) for n, group in part.given.items()}
    every = [*zip(sources, models), *([(part.base, base)] if part.base else [])]
    held = None
    if not all(masks.plain(array) for _, array in every):
      _check(path, every)
      held, models, base = masks.take(path, models, base)
    _check(path, [(part.given[name][0], x) for name, x in given.items()])
    return Arrays(models, base, given, held)

  return read


def _given(group: Sequence[Any], path: str) -> np.ndarray:
  """Read a statistic of a leaf: one checkpoint, or one of each model."""
  found = [reader.read(path) for reader in group]
  return np.stack(found) if len(found) > 1 else found[0]


def _check(path: str, read: Iterable[tuple[Any, np.ndarray]]) -> None:
  for reader, array in read:
    if trees.inexact(array) and trees.any_nan([array])[0]:
      raise ValueError(f"{reader.path!r}: NaN in {path!r}, expected numbers")


def placed(bound: Bound, piece: Piece, arrays: Arrays) -> steps.At:
  """Return the context of a piece with its base and statistics, checked."""
  at = bound.contexts[piece.path]
  at = at._replace(
    base=arrays.base,
    given=arrays.given,
    start=np.uint32(piece.start % 2**32),
  )
  count, one = len(arrays.models), arrays.models[0]
  shape = jax.ShapeDtypeStruct((count, *one.shape), one.dtype)
  bound.check(piece.path, shape, at)
  return at


def leaf(arrays: Arrays) -> tuple[jax.Array, ...]:
  """Return the models of a piece as JAX has them, in the same memory."""
  return tuple(jax.device_put(x, may_alias=True) for x in arrays.models)


def merge(
  bound: Bound, piece: Piece, arrays: Arrays, dtype: np.dtype
) -> np.ndarray:
  """Merge a piece.

  Args:
    bound: the recipe, its measures taken.
    piece: of which leaf.
    arrays: as `load` read them.
    dtype: of the merged leaf, which is rounded once.

  Raises:
    ValueError: naming the leaf, where numbers become infinite or none.
  """
  if not merges((arrays.models[0].shape, arrays.models[0].dtype)):
    return arrays.models[0].astype(dtype, copy=False)
  x = leaf(arrays)
  if x[0].dtype != dtype:
    x = tuple(one.astype(trees.accumulator(one.dtype)) for one in x)
  chained = bound.leaf(piece.path, placed(bound, piece, arrays))
  merged = np.asarray(engine.finish_marked(chained, x).astype(dtype))
  masks.check(piece.path, merged)
  return masks.put(arrays.held, merged)
