"""From a configuration to the parts of a merge.

Each leaf of the output gets its recipe from the parameters that hold there, and
leaves that share a recipe and inputs are one `Part`.

>>> import tempfile
>>> import numpy as np
>>> from weightspace.checkpoints import folders as checkpoints
>>> folder = tempfile.mkdtemp()
>>> for name in "ab":
...   checkpoints.save(f"{folder}/{name}.safetensors", {"w": np.ones(2)})
>>> sources = [{"model": f"{folder}/{name}.safetensors"} for name in "ab"]
>>> job = build(schema.parse({
...   "merge_method": "linear", "models": sources, "parameters": {"weight": 1},
... }))
>>> [len(part.inputs) for part in job.parts]
[2]
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace.cli import models, outputs, stored
from weightspace.cli.config import leaf_sources, schema
from weightspace.cli.inputs import beside, views
from weightspace.cli.recipes import choosing, methods
from weightspace.merge.files.work_items import Part


class Job(NamedTuple):
  """A merge that is ready to be planned or run."""

  parts: list[Part]
  files: models.Files  # beside the weights
  dtype: np.dtype | None  # of the output, where it is not that of the inputs
  models: Mapping[str, models.Model]
  notes: list[str]  # what the user should know


def build(config: schema.Config, tokenizer: bool = True) -> Job:
  """Open the models of a configuration and give each leaf its recipe.

  Args:
    config: from `schema.parse`.
    tokenizer: copy the tokenizer's files.

  Raises:
    ValueError: naming the model, leaf, parameter or key that cannot be
      honoured, before anything is read but headers.
  """
  opened = {name: models.open_model(name) for name in schema.models(config)}
  opened, agreed = models.agree(opened, config)
  shared = None
  if config.tokenizer is not None:
    opened, shared = models.align(opened, config.tokenizer, config.base)
    agreed.notes.extend(shared.notes)
  else:
    models.promised(list(opened.values()))
  notes = [*choosing.check_names(config), *agreed.notes]
  groups: dict[Any, dict[str, Mapping[str, str]]] = {}
  made: dict[Any, choosing.Chosen] = {}
  depth = None
  for name, module in config.modules.items():
    leaves = leaf_sources.leaves(
      module.slices, _leaves_of(name, config, opened)
    )
    depth = _depth(name, module, leaves) or depth
    for leaf in leaves:
      chosen = choosing.choose(config, module, leaf)
      key = (id(chosen.recipe), chosen.inputs, chosen.base)
      made[key] = chosen
      groups.setdefault(key, {})[leaf.name] = leaf.inputs
  dtype = _dtype(config.dtype)
  groups_of = [(made[key], leaves) for key, leaves in groups.items()]
  parts = []
  for (chosen, names), found in [
    *((pair, opened) for pair in groups_of),
    *((pair, agreed.found) for pair in _copied(agreed.alone)),
  ]:
    part = _part(chosen, names, found, dtype)
    parts.append(stored.described(part, names, found, agreed.copies, config))
  donor = next(iter(opened))
  settings = stored.settings(opened, config.quantise)
  opened[donor] = opened[donor]._replace(settings=settings)
  out = _dtype(config.out_dtype)
  kept = {
    part.dtypes.get(name, kind)
    for part in parts
    for name, (_, kind) in part.inputs[0].kinds.items()
    if name not in part.written
  }
  floats = {one for one in kept if jnp.issubdtype(one, jnp.floating)}
  told = out or (floats.pop() if len(floats) == 1 else None)
  rest, left = beside.files(opened[donor].folder, tokenizer and shared is None)
  if left:
    shown = ", ".join(left[:8]) + (", ..." if len(left) > 8 else "")
    notes.append(f"of {donor!r} left out: {shown}")
  files = outputs.files(config, opened, shared, depth, told, tokenizer)
  return Job(parts, {**rest, **files}, out, opened, notes)


def _copied(
  alone: Mapping[str, str],
) -> list[tuple[choosing.Chosen, Mapping[str, Mapping[str, str]]]]:
  """Return leaves that are copied from the one model, as groups."""
  names: dict[str, dict[str, Mapping[str, str]]] = {}
  for leaf, model in alone.items():
    names.setdefault(model, {})[leaf] = {model: leaf}
  one = methods.recipe("passthrough", {"scale": (None,)}, {}, False)
  return [
    (choosing.Chosen(one, (model,), None), leaves)
    for model, leaves in names.items()
  ]


def _leaves_of(
  name: str, config: schema.Config, opened: Mapping[str, models.Model]
) -> dict[str, list[str]]:
  """Return the leaves of a module in each model; each must be in a module."""
  found = {}
  for model, one in opened.items():
    keys = one.reader.keys()
    for key in keys:
      if not any(leaf_sources.of_module(m, key) for m in config.modules):
        raise ValueError(
          f"modules: {key!r} of {model!r} is in none of"
          f" {', '.join(config.modules)}"
        )
    found[model] = [key for key in keys if leaf_sources.of_module(name, key)]
  return found


def _depth(
  name: str, module: schema.Module, leaves: Sequence[leaf_sources.Leaf]
) -> list[int] | None:
  """Return, for each layer of sliced output, that of its first source."""
  if module.slices[0].sources[0].layers is None:
    return None
  if name != "default":
    raise ValueError(
      f"modules.{name}: slices of one module of several are not supported"
    )
  return [n for one in module.slices for n in one.sources[0].layers or ()]


def _dtype(name: str | None) -> np.dtype | None:
  return None if name is None else np.dtype(jnp.dtype(name))


def _common(one: np.dtype, other: np.dtype) -> np.dtype:
  if one == other:
    return one
  if min(one.itemsize, other.itemsize) == 1:  # float8 has no place among them
    wider = [kind for kind in (one, other) if kind.itemsize > 1]
    return wider[0] if wider else np.dtype(np.float32)
  return np.dtype(jnp.promote_types(one, other))


def _part(
  chosen: choosing.Chosen,
  leaves: Mapping[str, Mapping[str, str]],
  opened: Mapping[str, models.Model],
  dtype: np.dtype | None,
) -> Part:
  """Return the part of some leaves, each model a view of a checkpoint."""
  apart = [chosen.base] if chosen.base else []
  dtypes = {}
  for name, inner in leaves.items():
    found = [opened[m].reader.dtype(inner[m]) for m in (*chosen.inputs, *apart)]
    if all(jnp.issubdtype(one, jnp.floating) for one in found):
      dtypes[name] = dtype or functools.reduce(_common, found)
    elif not any(jnp.issubdtype(one, jnp.inexact) for one in found):
      dtypes[name] = found[0]  # the first is copied

  def seen(model: str) -> Any:
    names = {name: inner[model] for name, inner in leaves.items()}
    return views.view(opened[model].reader, names, dtypes)

  base = seen(chosen.base) if chosen.base else None
  return Part(chosen.recipe, tuple(map(seen, chosen.inputs)), base)
