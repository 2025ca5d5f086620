"""Reports of merges that do not fit in memory: one leaf at a time.

The numbers of `report`, from checkpoints; leaves whose recipes take different
numbers of models are reported apart.

>>> import numpy as np
>>> import weightspace as ws
>>> from weightspace.checkpoints import readers
>>> kinds = {"w": ((2,), np.dtype("float32"))}
>>> def reader(name, *values):
...   leaf = np.array(values, np.float32)
...   return readers.Reader(name, kinds, lambda key, index: leaf)
>>> inputs = reader("a", 4, 1), reader("b", 2, -3)
>>> part = work_items.Part(ws.merge.ties(0.5), inputs, reader("base", 0, 0))
>>> reports([part])[2].total["kept"]
0.5
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.merge.core import engine, steps
from weightspace.merge.files import memory_slices, work_items
from weightspace.merge.reports import warnings
from weightspace.merge.reports.report import Report, summed
from weightspace.types import Key


def reports(
  parts: Sequence[work_items.Part], key: Key | None = None
) -> dict[int, Report]:
  """Return what the recipes of some parts do to their leaves.

  Args:
    parts: as `stream_parts` takes them.
    key: for recipes that draw masks.

  Returns:
    {number of models: Report}.

  Raises:
    ValueError: as `stream_parts`, or when no leaf has real numbers.
  """
  plan = work_items.plan(parts, key=key)
  found: dict[int, list[Any]] = {}
  for task in plan.tasks:
    count = len(task.part.inputs)
    recipes, sums, cuts, dtypes, _ = found.setdefault(
      count, [[], {}, {}, {}, task.part.base is not None]
    )
    recipes.append(task.part.recipe)
    for path, leaf, stages in _leaves(task):
      sums[path] = warnings.leaf(leaf.chain, stages, leaf.at.base)
      dtypes[path] = task.part.inputs[0].dtype(path)
      for name, cut in warnings.cuts(leaf.chain, stages).items():
        cuts.setdefault(name, []).append(cut)
  if not any(group[1] for group in found.values()):
    raise ValueError("report: no leaf of real numbers, expected one")
  return {count: summed(*group) for count, group in found.items() if group[1]}


def _leaves(
  task: work_items.Task,
) -> Iterator[tuple[str, engine.BoundLeaf, list[jax.Array]]]:
  """Yield the path of each leaf, its steps, and the leaf at each of them."""
  load = memory_slices.load(task.part)

  def stream() -> Iterator[tuple[str, jax.Array, steps.At]]:
    for piece in memory_slices.whole_leaves(task.part, task.bound.contexts):
      arrays = load(piece)
      at = memory_slices.placed(task.bound, piece, arrays)
      yield piece.path, jnp.stack(memory_slices.leaf(arrays)), at

  bound = task.bound.measure(stream)
  for path, x, at in stream():
    if jnp.issubdtype(x.dtype, jnp.floating):
      leaf = bound.leaf(path, at)
      yield path, leaf, engine.stages(leaf, x)
