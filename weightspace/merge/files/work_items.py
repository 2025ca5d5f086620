"""What a merge of checkpoints will do, checked before any of it is done.

A Part is a recipe over inputs with the same leaves; a Task is a Part bound to
its leaves; a Plan is all of them, with the bytes and the memory that they take.

>>> import tempfile
>>> from weightspace.checkpoints import folders as checkpoints
>>> from weightspace.merge.methods.linear import uniform
>>> path = f"{tempfile.mkdtemp()}/a.safetensors"
>>> checkpoints.save(path, {"w": np.zeros(2, np.float32)})
>>> found = plan([Part(uniform(), (readers.open(path),))])
>>> found.read, found.written, found.passes
(8, 8, 1)
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.checkpoints import places, quantised, readers, tensor_files
from weightspace.checkpoints.readers import PathLike, Reader
from weightspace.hosts import concrete
from weightspace.merge.core.bound import Bound, bind
from weightspace.merge.core.recipe import Recipe
from weightspace.merge.files import digests, memory_slices
from weightspace.types import Key


class Written(NamedTuple):
  """How a merged leaf is stored: as several leaves, in another form."""

  kinds: Mapping[str, tensor_files.Kind]  # the leaf's own name is the last
  dtype: np.dtype  # of the merged leaf that `encode` is given
  encode: Callable[[Any], Mapping[str, Any]]


class Part(NamedTuple):
  """Some leaves of the output: a recipe over inputs with the same leaves."""

  recipe: Recipe
  inputs: tuple[Reader, ...]
  base: Reader | None = None
  given: Mapping[str, tuple[Reader, ...]] = {}  # statistics, by name
  written: Mapping[str, Written] = {}  # leaves that are not stored as they are
  dtypes: Mapping[
    str, np.dtype
  ] = {}  # that are written where none is asked for

  @property
  def sources(self) -> list[Reader]:
    """Every checkpoint that is read."""
    own = [*self.inputs, *filter(None, [self.base])]
    return own + [reader for group in self.given.values() for reader in group]


@dataclasses.dataclass(frozen=True)
class Task:
  """A Part, checked and bound to its leaves."""

  part: Part
  bound: Bound
  out: dict[str, np.dtype]


class Plan(NamedTuple):
  """What a merge will do."""

  tasks: list[Task]
  kinds: dict[str, tensor_files.Kind]  # of what is written
  read: int  # bytes, over all passes
  written: int  # bytes
  passes: int
  peak: int  # bytes held at once, estimated from above

  @property
  def wide(self) -> bool:
    """Whether a leaf is merged in 64 bits."""
    merged = [
      (task.part.inputs[0].kinds[path], task.out[path])
      for task in self.tasks
      for path in task.bound.contexts
    ]
    return any(
      memory_slices.merges(read) and concrete.wide(np.empty(0, dtype))
      for read, written in merged
      for dtype in (read[1], written)
    )


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
  tasks, read, peak = [], 0, 0
  kinds: dict[str, tensor_files.Kind] = {}
  for part in parts:
    task = _bind(part, key, dtype)
    for path in task.bound.contexts:
      if path in kinds:
        raise ValueError(f"merge: {path!r} belongs to two parts, expected one")
      shape, stored = part.inputs[0].shape(path), part.written.get(path)
      own = {path: (shape, task.out[path])}
      kinds |= stored.kinds if stored else own
      peak = max(
        peak, memory_slices.need(task.part, task.bound.chain, path, max_memory)
      )
    tasks.append(task)
    read += part.recipe.passes * sum(map(_size, part.sources))
  written = sum(_bytes(kind) for kind in kinds.values())
  passes = max((part.recipe.passes for part in parts), default=0)
  return Plan(tasks, kinds, read, written, passes, peak)


def opened(source: PathLike | Reader) -> Reader:
  """Return the reader of a checkpoint's weights, or the reader itself."""
  if isinstance(source, Reader):
    return source
  reader = readers.open(source)
  config = os.path.join(reader.path, "config.json")
  settings = {}
  if os.path.isfile(config):
    with open(config, encoding="utf-8") as stream:
      settings = json.load(stream)
  return quantised.as_weights(reader, settings)[0]


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
  bound = bind(
    part.recipe.steps,
    like,
    base=base,
    key=key,
    statistics=given,
    finite=False,
  )
  out = {
    path: np.dtype(dtype)
    if dtype and _floating(leaf)
    else part.dtypes.get(path, leaf.dtype)
    for path, leaf in one.items()
  }
  out |= {path: stored.dtype for path, stored in part.written.items()}
  return Task(part, bound, out)


def _floating(leaf: Any) -> bool:
  return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


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


def fingerprint(parts: Sequence[Part], key: Key | None) -> str:
  """Say what the output depends on: recipes, files as they are now, the key."""
  said: list[Any] = []
  for part in parts:
    said.append([digests.digest(part.recipe), *map(state, part.sources)])
  if key is not None:
    said.append(np.asarray(jax.random.key_data(key)).tolist())
  return json.dumps(said)


def state(reader: Reader) -> list[Any]:
  """Return the path of a checkpoint with the sizes and times of its files."""
  if places.is_remote(reader.path):
    return [reader.path]
  paths = [reader.path]
  if os.path.isdir(reader.path):
    names = sorted(os.listdir(reader.path))
    paths = [os.path.join(reader.path, name) for name in names]
  found = [os.stat(path) for path in paths]
  return [reader.path, *[[s.st_size, s.st_mtime_ns] for s in found]]
