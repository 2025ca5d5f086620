"""Arrays taken apart by the names of their axes, and their units moved.

>>> take(np, np.array([[1, 2], [3, 4]]), np.array([[0, 1], [1, 0]]), [0], 1)
array([[1, 2],
       [4, 3]])
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from weightspace.symmetry import terms
from weightspace.symmetry.axes import Perm, base, blocks, extent

Change = Callable[[Any, Any], Any]  # change(part, labels) -> part


def by_parts(x: Any, found: Any, sizes: dict[str, int], change: Change) -> Any:
  """Take products and sums apart, change the parts, and join them again.

  Args:
    x: an array whose axes are the terms `found`.
    found: as `axes.parse` gives them.
    sizes: of the names.
    change: `change(part, labels)`, with one name or number for each axis.
  """
  xp: Any = np if isinstance(x, np.ndarray) else jnp
  x = xp.asarray(x)
  if any(isinstance(t, terms.Product) for t in found):
    flat = [f for t in found for f in terms.factors(t)]
    wide = x.reshape([extent(t, sizes) for t in flat])
    moved = by_parts(wide, flat, sizes, change)
    left = iter(moved.shape)  # a change may make an axis wider
    return moved.reshape(
      [math.prod(next(left) for _ in terms.factors(t)) for t in found]
    )
  for axis, term in enumerate(found):
    if isinstance(term, terms.Sum):
      start, pieces = 0, []
      for part in term.parts:
        stop = start + extent(part, sizes)
        piece = x[(slice(None),) * axis + (slice(start, stop),)]
        inner = [*found[:axis], part, *found[axis + 1 :]]
        pieces.append(by_parts(piece, inner, sizes, change))
        start = stop
      return xp.concatenate(pieces, axis)
  return change(x, found)


def move(xp: Any, x: Any, labels: Any, perm: Perm) -> Any:
  """Permute an array whose axes have one name each.

  Blocks first: the rows of what they hold are those of the result.
  """
  bases = [base(n) if isinstance(n, str) else n for n in labels]
  order = sorted(
    (a for a, n in enumerate(labels) if isinstance(n, str)),
    key=lambda a: len(blocks(labels[a])),
  )
  for axis in order:
    indices = perm.get(labels[axis])
    if indices is None:
      continue
    within = [bases.index(block) for block in blocks(labels[axis])]
    x = take(xp, x, indices, within, axis)
  return x


def take(xp: Any, x: Any, indices: Any, within: list[int], axis: int) -> Any:
  """Return x[indices] on an axis, by a row of indices for each block."""
  if not within:
    return xp.take(x, indices, axis=axis)
  first = (*within, axis)
  front = xp.moveaxis(x, first, range(len(first)))
  lead, n = front.shape[: len(within)], front.shape[len(within)]
  count = int(np.prod(lead))
  flat = xp.asarray(indices).reshape(count, -1) + n * np.arange(count)[:, None]
  merged = front.reshape(count * n, *front.shape[len(first) :])
  moved = xp.take(merged, flat.reshape(-1), axis=0)
  moved = moved.reshape(*lead, flat.shape[1], *front.shape[len(first) :])
  return xp.moveaxis(moved, range(len(first)), first)
