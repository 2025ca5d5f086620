"""Merging checkpoints that do not fit: leaf by leaf, from files to files.

The recipe is the one that merges a Stack.  Leaves are read ahead and written
behind while one is merged; a step of global scope takes one more pass over the
files; a recipe that folds takes its models two at a time, so that sixteen need
no more memory than two.  A killed merge goes on from the leaves it wrote.

>>> import tempfile
>>> from weightspace import checkpoints
>>> from weightspace.merge.averages import uniform
>>> folder = tempfile.mkdtemp()
>>> for name, value in {"a": 1.0, "b": 3.0}.items():
...   tree = {"w": np.full(2, value, np.float32)}
...   checkpoints.save(f"{folder}/{name}.safetensors", tree)
>>> inputs = [f"{folder}/a.safetensors", f"{folder}/b.safetensors"]
>>> stream(uniform(), inputs, f"{folder}/merged")
>>> checkpoints.open(f"{folder}/merged").read("w").tolist()
[2.0, 2.0]
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace import readers, tensor_files, writers
from weightspace.merge import digests, engine, pieces, pipes, steps
from weightspace.merge.recipe import Recipe
from weightspace.readers import PathLike, Reader
from weightspace.types import Key

Progress = Callable[[int, int], None]  # bytes read so far, bytes to read


class Part(NamedTuple):
  """Some leaves of the output: a recipe over inputs with the same leaves."""

  recipe: Recipe
  inputs: tuple[Reader, ...]
  base: Reader | None = None
  given: Mapping[str, tuple[Reader, ...]] = {}  # statistics, by name

  @property
  def sources(self) -> list[Reader]:
    """Every checkpoint that is read."""
    own = [*self.inputs, *filter(None, [self.base])]
    return own + [reader for group in self.given.values() for reader in group]


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
  given = {n: opened_all(o) for n, o in options.items() if n not in known}
  chosen = {n: option for n, option in options.items() if n in known}
  part = Part(
    recipe,
    tuple(map(opened, inputs)),
    None if base is None else opened(base),
    given,
  )
  stream_parts([part], output, max_memory=max_memory, key=key, **chosen)


def stream_parts(
  parts: Sequence[Part],
  output: PathLike,
  *,
  max_memory: int | None = None,
  key: Key | None = None,
  dtype: Any = None,
  shard_bytes: int = writers.SHARD_BYTES,
  extra: Mapping[str, str] | None = None,
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
  work = plan(parts, max_memory=max_memory, key=key, dtype=dtype)
  writer = writers.begin(
    output, work.kinds, shard_bytes, about + _fingerprint(parts, key)
  )
  counter = pipes.Counter(work.read, progress)
  for task in work.tasks:
    left = [path for path in task.ats if path not in writer.done]
    if left:
      measured = _measure(task, counter)
      _merge(task, left, measured, writer, max_memory, counter)
  writer.finish(extra)


@dataclasses.dataclass(frozen=True)
class Task:
  """A Part, checked and bound to its leaves."""

  part: Part
  bound: engine.Chain
  ats: dict[str, steps.At]
  out: dict[str, np.dtype]


class Plan(NamedTuple):
  """What a merge will do."""

  tasks: list[Task]
  kinds: dict[str, tensor_files.Kind]  # of what is written
  read: int  # bytes, over all passes
  written: int  # bytes
  passes: int
  peak: int  # bytes held at once, estimated from above


def plan(
  parts: Sequence[Part],
  *,
  max_memory: int | None = None,
  key: Key | None = None,
  dtype: Any = None,
) -> Plan:
  """Check everything that can be checked before work, and say what it takes.

  Raises:
    ValueError: as `stream`.
  """
  tasks, kinds, read, peak = [], {}, 0, 0
  for part in parts:
    task = _bind(part, key, dtype)
    for path in task.ats:
      if path in kinds:
        raise ValueError(f"merge: {path!r} belongs to two parts, expected one")
      kinds[path] = (part.inputs[0].shape(path), task.out[path])
      peak = max(peak, pieces.need(task.part, task.bound, path, max_memory))
    tasks.append(task)
    read += part.recipe.passes * sum(map(_size, part.sources))
  written = sum(_bytes(kind) for kind in kinds.values())
  passes = max((part.recipe.passes for part in parts), default=0)
  return Plan(tasks, kinds, read, written, passes, peak)


def opened(source: PathLike | Reader) -> Reader:
  """Return the reader of a checkpoint, or the reader itself."""
  return source if isinstance(source, Reader) else readers.open(source)


def opened_all(sources: Any) -> tuple[Reader, ...]:
  """Return the readers of one checkpoint, or of a list of them."""
  several = isinstance(sources, Sequence) and not isinstance(
    sources, str | Reader
  )
  return tuple(map(opened, sources)) if several else (opened(sources),)


def _bytes(kind: tensor_files.Kind) -> int:
  return int(np.prod(kind[0], dtype=np.int64)) * kind[1].itemsize


def _size(reader: Reader) -> int:
  return sum(map(_bytes, reader.kinds.values()))


def _bind(part: Part, key: Key | None, dtype: Any) -> Task:
  """Check a part's inputs against its recipe and one another."""
  if not isinstance(part.recipe, Recipe):
    kind = type(part.recipe).__name__
    raise ValueError(f"merge: the recipe is a {kind}, which does not stream")
  if not any(step.reduces for step in part.recipe.steps):
    raise ValueError("merge: the recipe returns a Stack, expected one model")
  if not part.inputs:
    raise ValueError("merge: no inputs, expected at least one checkpoint")
  _check_inputs(part)
  count, first = len(part.inputs), part.inputs[0]
  one = {p: jax.ShapeDtypeStruct(*kind) for p, kind in first.kinds.items()}
  like = {
    p: jax.ShapeDtypeStruct((count, *x.shape), x.dtype) for p, x in one.items()
  }
  given = {
    name: {p: jax.ShapeDtypeStruct(*kind) for p, kind in group[0].kinds.items()}
    for name, group in part.given.items()
  }
  base = one if part.base else None
  engine.check_given(part.recipe.steps, like, base, key, given, finite=False)
  bound = engine.bind(part.recipe.steps, like)
  ats = engine.leaf_contexts(like, None, key, {})
  out = {
    path: np.dtype(dtype) if dtype and _changes(leaf) else leaf.dtype
    for path, leaf in one.items()
  }
  return Task(part, bound, ats, out)


def _changes(leaf: Any) -> bool:
  """Tell whether a leaf takes part in arithmetic."""
  return jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)


def _check_inputs(part: Part) -> None:
  """Refuse inputs that differ, or of which two are one file."""
  seen: dict[str, str] = {}
  for reader in part.inputs:
    real = os.path.realpath(reader.path)
    if real in seen:
      raise ValueError(
        f"merge: {reader.path!r} and {seen[real]!r} are one checkpoint,"
        " expected distinct inputs"
      )
    seen[real] = reader.path
  first = part.inputs[0]
  others = [*part.inputs[1:], *filter(None, [part.base])]
  for reader in part.sources[1:]:
    for path, (shape, dtype) in first.kinds.items():
      if path not in reader.kinds:
        raise ValueError(f"{reader.path!r}: {path!r} of {first.path!r} missing")
      if reader in others and reader.kinds[path] != (shape, dtype):
        raise ValueError(
          f"{reader.path!r}: {path!r} is {reader.shape(path)}"
          f" {reader.dtype(path)}, expected {shape} {dtype} as in"
          f" {first.path!r}"
        )
    for path in reader.kinds:
      if path not in first.kinds:
        raise ValueError(f"{reader.path!r}: {path!r} is not in {first.path!r}")


def _fingerprint(parts: Sequence[Part], key: Key | None) -> str:
  """Say what the output depends on: recipes, files as they are now, the key."""
  said: list[Any] = []
  for part in parts:
    said.append([digests.digest(part.recipe), *map(_state, part.sources)])
  if key is not None:
    said.append(np.asarray(jax.random.key_data(key)).tolist())
  return json.dumps(said)


def _state(reader: Reader) -> list[Any]:
  """Return the path of a checkpoint with the sizes and times of its files."""
  paths = [reader.path]
  if os.path.isdir(reader.path):
    names = sorted(os.listdir(reader.path))
    paths = [os.path.join(reader.path, name) for name in names]
  found = [os.stat(path) for path in paths]
  return [reader.path, *[[s.st_size, s.st_mtime_ns] for s in found]]


def _measure(task: Task, counter: pipes.Counter) -> list[dict[Any, Any]]:
  """Take the passes that the recipe's global steps want."""
  whole = pieces.whole_leaves(task.part, task.ats)

  def leaves() -> Iterator[tuple[str, tuple[jax.Array, ...]]]:
    for piece, arrays in pipes.ahead(whole, pieces.load(task.part), counter):
      path = piece.path
      task.ats[path] = pieces.placed(task.ats[path], arrays)
      yield path, pieces.leaf(arrays)
      task.ats[path] = pieces.emptied(task.ats[path])

  return engine.measure(task.bound, leaves, task.ats, compiled=True)


def _merge(
  task: Task,
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
    for piece in pieces.cut(task.part, task.bound, path, max_memory)
  ]
  state: Any = None
  with pipes.behind() as write:
    for piece, arrays in pipes.ahead(todo, pieces.load(task.part), counter):
      chained = engine.at_path(task.bound, piece.path)
      at = pieces.placed(task.ats[piece.path], arrays)._replace(
        first=np.uint32(piece.models.start), start=np.uint32(piece.start)
      )
      seen = engine.measured_at(chained, measured)
      dtype = task.out[piece.path]
      state, merged = pieces.merge(
        chained, piece, arrays, at, seen, state, dtype
      )
      if merged is not None:
        leaf = np.asarray(merged)
        write(writer.write_rows, piece.path, leaf, piece.rows, piece.ends)
