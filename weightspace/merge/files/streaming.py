"""Merging checkpoints that do not fit: leaf by leaf, from files to files.

The recipe is the one that merges a Stack.  Leaves are read ahead and written
behind while one is merged; a step of global scope takes one more pass over the
files; a recipe that works entry by entry takes a large leaf in slices of its
rows, so that sixteen models need no more memory than two.  A killed merge goes
on from the leaves it wrote.

>>> import tempfile
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
import numpy as np

from weightspace.checkpoints import writers
from weightspace.checkpoints.readers import PathLike, Reader
from weightspace.hosts import concrete
from weightspace.merge.core import engine
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
      left = [path for path in task.ats if path not in writer.done]
      if left:
        measured = _measure(task, counter)
        _merge(task, left, measured, writer, max_memory, counter)
  writer.finish(extra)


def _measure(
  task: work_items.Task, counter: pipes.Counter
) -> list[dict[Any, Any]]:
  """Take the passes that the recipe's global steps want."""
  whole = memory_slices.whole_leaves(task.part, task.ats)

  def leaves() -> Iterator[tuple[str, tuple[jax.Array, ...]]]:
    for piece, arrays in pipes.ahead(
      whole, memory_slices.load(task.part), counter
    ):
      path = piece.path
      task.ats[path] = memory_slices.placed(task.ats[path], arrays)
      yield path, memory_slices.leaf(arrays)
      task.ats[path] = memory_slices.emptied(task.ats[path])

  return engine.measure(task.bound, leaves, task.ats, compiled=True)


def _merge(
  task: work_items.Task,
  paths: Sequence[str],
  measured: list[dict[Any, Any]],
  writer: writers.Writer,
  max_memory: int | None,
  counter: pipes.Counter,
) -> None:
  """Read, merge and write leaves, all three at once."""
  todo = [
    piece
    for path in paths
    for piece in memory_slices.cut(task.part, task.bound, path, max_memory)
  ]
  with pipes.behind() as write:
    for piece, arrays in pipes.ahead(
      todo, memory_slices.load(task.part), counter
    ):
      chained = engine.at_path(task.bound, piece.path)
      at = memory_slices.placed(task.ats[piece.path], arrays)
      at = at._replace(start=np.uint32(piece.start % 2**32))
      seen = engine.measured_at(chained, measured)
      path = piece.path
      merged = memory_slices.merge(
        path, chained, arrays, at, seen, dtype=task.out[path]
      )
      if path in task.part.written:  # its own name comes last
        for name, part in task.part.written[path].encode(merged).items():
          write(writer.write, name, part)
      else:
        write(writer.write_rows, path, merged, piece.rows, piece.ends)
