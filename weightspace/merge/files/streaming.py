"""Merging checkpoints that do not fit: leaf by leaf, from files to files.

The recipe is the one that merges a Stack.  Leaves are read ahead and written
behind while one is merged; a step of global scope takes one more pass over the
files; a recipe that works entry by entry takes a large leaf in slices of its
rows, so that sixteen models need no more memory than two.  A killed merge goes
on from the leaves it wrote.

>>> import tempfile
>>> import numpy as np
>>> from weightspace.checkpoints import folders as checkpoints
>>> from weightspace.merge.methods.linear import uniform
>>> folder = tempfile.mkdtemp()
>>> for name, value in {"a": 1.0, "b": 3.0}.items():
...   tree = {"w": np.full(2, value, np.float32)}
...   checkpoints.save(f"{folder}/{name}.safetensors", tree)
>>> inputs = [f"{folder}/a.safetensors", f"{folder}/b.safetensors"]
>>> stream(uniform(), inputs, f"{folder}/merged")
>>> checkpoints.open(f"{folder}/merged").read("w").tolist()
[2.0, 2.0]
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from weightspace.checkpoints import writers
from weightspace.checkpoints.readers import PathLike, Reader
from weightspace.hosts import concrete
from weightspace.merge.core import steps
from weightspace.merge.core.bound import Bound
from weightspace.merge.core.recipe import Recipe
from weightspace.merge.files import memory_slices, pipes, work_items
from weightspace.types import Key

Progress = Callable[[int, int], None]  # bytes read so far, bytes to read


def stream(
  recipe: Recipe,
  inputs: Sequence[PathLike | Reader],
  output: PathLike,
  base: PathLike | Reader | None = None,
  *,
  max_memory: int | None = None,
  key: Key | None = None,
  **options: Any,
) -> None:
  """Merge checkpoints into a new one, one leaf at a time.

  The result is that of `recipe(stack, base=...)`, and the same bytes however
  often the merge was killed and run again.

  Args:
    recipe: any that returns one model.
    inputs: M checkpoints with the same leaves, or their readers.
    output: a new folder of shards with an index, or a `.safetensors` file.
    base: the checkpoint that the models were fine-tuned from, where needed.
    max_memory: bytes to keep below, of what the merge itself holds.
    key: for recipes that draw masks.
    **options: those of `stream_parts`; any other name is what else the recipe
      needs: a checkpoint, such as `target=` or a Stack of statistics, or a list
      of one for each model.

  Raises:
    ValueError: naming the file and tensor, before anything is written: inputs
      that differ or are one file, an output that exists, a recipe that does not
      stream or needs more than `max_memory` for a leaf.  While it runs: a NaN,
      a truncated file, a full disk.
  """
  known = {"dtype", "shard_bytes", "extra", "about", "progress"}
  given = {
    n: work_items.opened_all(o) for n, o in options.items() if n not in known
  }
  chosen = {n: option for n, option in options.items() if n in known}
  part = work_items.Part(
    recipe,
    tuple(map(work_items.opened, inputs)),
    None if base is None else work_items.opened(base),
    given,
  )
  stream_parts([part], output, max_memory=max_memory, key=key, **chosen)


def stream_parts(
  parts: Sequence[work_items.Part],
  output: PathLike,
  *,
  max_memory: int | None = None,
  key: Key | None = None,
  dtype: Any = None,
  shard_bytes: int = writers.SHARD_BYTES,
  extra: Mapping[str, writers.Text] | None = None,
  about: str = "",
  progress: Progress | None = None,
) -> None:
  """Merge several groups of leaves, each by its own recipe, into one output.

  Args:
    parts: no leaf may belong to two of them.
    output: as in `stream`.
    max_memory: as in `stream`.
    key: for recipes that draw masks.
    dtype: of the floating leaves that are written; the inputs' by default.
    shard_bytes: the largest shard.
    extra: further text files by name, such as a model card.
    about: whatever else the output depends on; another text starts anew.
    progress: called with the bytes read and the bytes to read in all.

  Raises:
    ValueError: as `stream`.
  """
  work = work_items.plan(parts, max_memory=max_memory, key=key, dtype=dtype)
  writer = writers.begin(
    output, work.kinds, shard_bytes, about + work_items.fingerprint(parts, key)
  )
  counter = pipes.Counter(work.read, progress)
  with concrete.in_bits(work.wide):
    for task in work.tasks:
      paths = task.bound.contexts
      left = [path for path in paths if path not in writer.done]
      if left:
        todo = _pieces(task, left, max_memory)
        _merge(task, _measure(task, counter), todo, writer, counter)
  writer.finish(extra)


def _pieces(
  task: work_items.Task, paths: Sequence[str], max_memory: int | None
) -> list[memory_slices.Piece]:
  """Return the pieces of leaves in the order in which they are merged."""
  return [
    piece
    for path in paths
    for piece in memory_slices.cut(
      task.part, task.bound.chain, path, max_memory
    )
  ]


def _measure(task: work_items.Task, counter: pipes.Counter) -> Bound:
  """Return the recipe with its measures taken, a pass over the files each."""
  load = memory_slices.load(task.part)
  every = memory_slices.whole_leaves(task.part, task.bound.contexts)

  def leaves() -> Iterator[tuple[str, tuple[jax.Array, ...], steps.At]]:
    for piece, arrays in pipes.ahead(every, load, counter):
      at = memory_slices.placed(task.bound, piece, arrays)
      yield piece.path, memory_slices.leaf(arrays), at

  return task.bound.measure(leaves, compiled=True)


def _merge(
  task: work_items.Task,
  bound: Bound,
  todo: Sequence[memory_slices.Piece],
  writer: writers.Writer,
  counter: pipes.Counter,
) -> None:
  """Read, merge and write pieces of leaves, all three at once."""
  load = memory_slices.load(task.part)
  with pipes.behind() as write:
    for piece, arrays in pipes.ahead(todo, load, counter):
      path = piece.path
      merged = memory_slices.merge(bound, piece, arrays, task.out[path])
      if path in task.part.written:  # its own name comes last
        for name, part in task.part.written[path].encode(merged).items():
          write(writer.write, name, part)
      else:
        write(writer.write_rows, path, merged, piece.rows, piece.ends)
