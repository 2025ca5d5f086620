"""Merging checkpoints on a mesh: every process reads and writes its shards.

The recipe runs under `jit` on leaves that are laid out by NamedSharding, over
the models, over axes of the leaves, or both.  A process reads only the slices
that its devices hold, and all processes save together, so nothing larger than
a shard is in one place.

>>> import tempfile
>>> from weightspace.checkpoints import folders as checkpoints
>>> from weightspace.merge.methods.linear import uniform
>>> folder = tempfile.mkdtemp()
>>> for name, value in {"a": 1.0, "b": 3.0}.items():
...   tree = {"w": np.full((4, 2), value, np.float32)}
...   checkpoints.save(f"{folder}/{name}.safetensors", tree)
>>> auto = (jax.sharding.AxisType.Auto,)
>>> mesh = jax.make_mesh((1,), ("data",), axis_types=auto)
>>> inputs = [f"{folder}/a.safetensors", f"{folder}/b.safetensors"]
>>> on_mesh(uniform(), inputs, f"{folder}/merged", mesh=mesh)
>>> checkpoints.open(f"{folder}/merged").read("w")[0].tolist()
[2.0, 2.0]
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.checkpoints import places, tree_json
from weightspace.checkpoints.readers import PathLike, Reader
from weightspace.hosts import concrete
from weightspace.merge.core.recipe import Recipe
from weightspace.merge.files import mesh_programs, work_items
from weightspace.types import Key

Spec = Callable[[str, tuple[int, ...]], jax.sharding.PartitionSpec]
FLOATING = jnp.floating
MODELS = "model"  # the mesh axis that models are laid out over, if there is one


def on_mesh(
  recipe: Recipe,
  inputs: Sequence[PathLike | Reader],
  output: PathLike,
  base: PathLike | Reader | None = None,
  *,
  mesh: jax.sharding.Mesh,
  spec: Spec | None = None,
  key: Key | None = None,
  **given: PathLike | Reader,
) -> None:
  """Merge checkpoints into an Orbax folder on all devices of a mesh.

  The result is that of `recipe(stack, base=...)`.  With several processes,
  each calls this with the same arguments after `jax.distributed.initialize`,
  and all see one file system.

  Args:
    recipe: any that returns one model.
    inputs: M checkpoints with the same leaves.
    output: a new folder, which every process writes its part of.
    base: the checkpoint that the models were fine-tuned from, where needed.
    mesh: with Auto axes; models are laid out over its axis "model", if it has
      one that divides M.
    spec: `spec(path, shape) -> PartitionSpec` of a leaf; by default the longest
      axis that the rest of the mesh divides is laid out over it.
    key: for recipes that draw masks.
    **given: checkpoints of what else the recipe needs, by name.

  Raises:
    ValueError: as `stream`; naming the leaf, for a NaN.
  """
  sources = {n: (work_items.opened(reader),) for n, reader in given.items()}
  part = work_items.Part(
    recipe,
    tuple(map(work_items.opened, inputs)),
    None if base is None else work_items.opened(base),
    sources,
  )
  parts_on_mesh([part], output, mesh=mesh, spec=spec, key=key)


def parts_on_mesh(
  parts: Sequence[work_items.Part],
  output: PathLike,
  *,
  mesh: jax.sharding.Mesh,
  spec: Spec | None = None,
  key: Key | None = None,
  dtype: Any = None,
) -> None:
  """Merge groups of leaves, each by its own recipe, into one Orbax folder.

  Args:
    parts: no leaf may belong to two of them.
    output, mesh, spec, key: as in `on_mesh`.
    dtype: of the floating leaves that are saved; the inputs' by default.

  Raises:
    ValueError: as `on_mesh`.
  """
  if places.place(places.absolute(output)).exists():
    raise ValueError(f"{os.fspath(output)!r} exists, expected a new path")
  work_items.plan(parts, key=key, dtype=dtype)  # refuses what does not fit
  with concrete.in_bits(any(map(concrete.wide, _examples(parts, dtype)))):
    merged = _merged(parts, mesh, spec or _longest(mesh), key, dtype)
    _save(output, merged)


def _examples(
  parts: Sequence[work_items.Part], dtype: Any
) -> Iterator[np.ndarray]:
  """Yield an empty array of each dtype that is read or written."""
  for part in parts:
    for _, kind in part.inputs[0].kinds.values():
      yield np.empty(0, kind)
  if dtype is not None:
    yield np.empty(0, dtype)


def _merged(
  parts: Sequence[work_items.Part],
  mesh: jax.sharding.Mesh,
  place: Spec,
  key: Key | None,
  dtype: Any,
) -> dict[str, jax.Array]:
  """Read and merge all parts, each process its shards."""
  merged: dict[str, jax.Array] = {}
  for part in parts:
    stack = _stacked(part.inputs, mesh, place)
    trees_given = {n: _placed(r[0], mesh, place) for n, r in part.given.items()}
    if part.base:
      trees_given["base"] = _placed(part.base, mesh, place)
    bad, found = mesh_programs.merge(
      part.recipe, stack, trees_given, key, dtype
    )
    for name, nans in bad.items():
      for path, nan in nans.items():
        if nan:
          what = "inf or NaN of numbers" if name == "merged" else "NaN"
          raise ValueError(f"{name}: {what} in {path!r}, expected numbers")
    for path, stored in part.written.items():
      found |= stored.encode(found[path])
    merged |= found
  return merged


def _longest(mesh: jax.sharding.Mesh) -> Spec:
  """Lay out the longest axis that the mesh, less its models, divides."""
  axes = tuple(name for name in mesh.axis_names if name != MODELS)
  parts = int(np.prod([mesh.shape[name] for name in axes], dtype=int))

  def spec(path: str, shape: tuple[int, ...]) -> jax.sharding.PartitionSpec:
    fitting = [a for a, size in enumerate(shape) if size and not size % parts]
    if not axes or not fitting:
      return jax.P()
    longest = max(fitting, key=lambda axis: shape[axis])
    return jax.P(*[None] * longest, axes)

  return spec


def _stacked(
  inputs: Sequence[Reader], mesh: jax.sharding.Mesh, spec: Spec
) -> dict[str, jax.Array]:
  """Read models into leaves [M, ...], each process the slices it holds."""
  count = len(inputs)
  split = MODELS in mesh.axis_names and count % mesh.shape[MODELS] == 0
  first = MODELS if split else None

  def read(path: str) -> jax.Array:
    shape, dtype = inputs[0].kinds[path]

    def slices(index: Any) -> np.ndarray:
      models = range(count)[index[0]]
      rows = index[1:] if shape else None
      return np.stack([inputs[m].read(path, rows) for m in models])

    sharding = jax.NamedSharding(mesh, jax.P(first, *spec(path, shape)))
    return jax.make_array_from_callback(
      (count, *shape), sharding, slices, dtype=dtype
    )

  return {path: read(path) for path in inputs[0].keys()}


def _placed(
  reader: Reader, mesh: jax.sharding.Mesh, spec: Spec
) -> dict[str, jax.Array]:
  """Read one tree, each process the slices it holds."""

  def read(path: str) -> jax.Array:
    shape, dtype = reader.kinds[path]
    sharding = jax.NamedSharding(mesh, spec(path, shape))
    return jax.make_array_from_callback(
      shape,
      sharding,
      lambda index: reader.read(path, index if shape else None),
      dtype=dtype,
    )

  return {path: read(path) for path in reader.keys()}


def _save(output: PathLike, merged: dict[str, jax.Array]) -> None:
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    where = places.place(places.absolute(output))
    checkpointer.save(where, tree_json.nest(merged))
