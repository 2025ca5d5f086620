"""Which leaf of the output comes from which leaves of the inputs.

The layers of a model are the first number in the names of its leaves.  What has
none comes before the layers (embeddings) or after them (norm, head).  A slice
takes a range of each source's layers; slices are numbered on, the leaves before
come from the first slice and those after from the last.

>>> names = ["embed.weight", "layers.0.w", "layers.1.w", "norm.weight"]
>>> source = schema.Source("a", range(1, 2))
>>> found = leaves([schema.Slice((source, ))] * 2, {"a": names})
>>> [(leaf.name, leaf.inputs["a"]) for leaf in found][1:3]
[('layers.0.w', 'layers.1.w'), ('layers.1.w', 'layers.1.w')]
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from weightspace.cli.config import schema

NUMBER = re.compile(r"(?:^|(?<=[./_]))\d+(?=[./])")
BEFORE = re.compile(r"embed|wte|wpe|shared|position|token|stem|patch")
UNUSED = re.compile(r"rotary_emb\.inv_freq$|attn\.masked_bias$")


class Leaf(NamedTuple):
  """One leaf of the output."""

  name: str
  slice: int  # of its module
  place: float  # within the slice, from 0 to 1; 0 outside of the layers
  inputs: Mapping[str, str]  # for each source, the name of its leaf
  layer: int | None  # of the output


def split(name: str) -> tuple[str, int | None, str]:
  """Return what comes before a leaf's layer number, the number, and the rest.

  >>> split("model.layers.12.mlp.experts.3.w1"), split("lm_head.weight")
  (('model.layers.', 12, '.mlp.experts.3.w1'), ('lm_head.weight', None, ''))
  """
  match = NUMBER.search(name)
  if not match:
    return name, None, ""
  return name[: match.start()], int(match[0]), name[match.end() :]


def depths(names: Sequence[str]) -> dict[str, int]:
  """Return the number of layers of each stack of layers.

  >>> depths(["a.0.w", "a.1.w", "b"])
  {'a.': 2}
  """
  found: dict[str, int] = {}
  for name in names:
    stack, layer, _ = split(name)
    if layer is not None:
      found[stack] = max(found.get(stack, 0), layer + 1)
  return found


def leaves(
  slices: Sequence[schema.Slice], names: Mapping[str, Sequence[str]]
) -> list[Leaf]:
  """Return the leaves of a module.

  Args:
    slices: of the module.
    names: the leaves of each model.

  Raises:
    ValueError: naming a source and the leaf or layers that it lacks.
  """
  if slices[0].sources[0].layers is None:
    return _whole(slices[0], names)
  found: list[Leaf] = []
  above = 0
  for index, one in enumerate(slices):
    first = one.sources[0]
    check_one_stack(first.model, names[first.model])
    for name in names[first.model]:
      _, layer, _ = split(name)
      before = BEFORE.search(name) is not None
      if layer is None and index == (0 if before else len(slices) - 1):
        inputs = _inputs(one, name, None, names)
        found.append(Leaf(name, index, 0.0, inputs, None))
      elif layer is not None and layer in (first.layers or ()):
        found.append(_numbered(index, one, name, above, names))
    _check_depth(one, names)
    above += len(first.layers or ())
  return found


def _whole(one: schema.Slice, names: Mapping[str, Sequence[str]]) -> list[Leaf]:
  """Return the leaves of whole models, which must have the same."""
  first = names[one.sources[0].model]
  counts = depths(first)
  found = []
  for name in first:
    stack, layer, _ = split(name)
    last = counts.get(stack, 1) - 1
    place = 0.0 if layer is None else (layer / last if last else 1.0)
    inputs = _inputs(one, name, None, names)
    found.append(Leaf(name, 0, place, inputs, layer))
  for source in one.sources:
    for name in names[source.model]:
      if name not in names[one.sources[0].model]:
        raise ValueError(
          f"{source.model!r}: {name!r} is not in {one.sources[0].model!r},"
          " expected models with the same leaves"
        )
  return found


def _numbered(
  index: int,
  one: schema.Slice,
  name: str,
  above: int,
  names: Mapping[str, Sequence[str]],
) -> Leaf:
  """Return a leaf of a slice's layers under its number in the output."""
  stack, layer, rest = split(name)
  layers = one.sources[0].layers or range(0)
  within = (layer or 0) - layers.start
  last = len(layers) - 1
  place = within / last if last else 1.0
  inputs = _inputs(one, name, within, names)
  layer = above + within
  return Leaf(f"{stack}{layer}{rest}", index, place, inputs, layer)


def _inputs(
  one: schema.Slice,
  name: str,
  within: int | None,
  names: Mapping[str, Sequence[str]],
) -> dict[str, str]:
  """Return the name of a leaf in each source."""
  stack, _, rest = split(name)
  inputs = {}
  for source in one.sources:
    inner = name
    if within is not None and source.layers is not None:
      inner = f"{stack}{source.layers[within]}{rest}"
    if inner not in names[source.model]:
      raise ValueError(
        f"{source.model!r} has no {inner!r}, which {one.sources[0].model!r} has"
      )
    inputs[source.model] = inner
  return inputs


def _check_depth(one: schema.Slice, names: Mapping[str, Sequence[str]]) -> None:
  for source in one.sources:
    (count,) = depths(names[source.model]).values()
    layers = source.layers or range(0)
    if layers.stop > count:
      raise ValueError(
        f"layer_range [{layers.start}, {layers.stop}] of {source.model!r}:"
        f" it has {count} layers"
      )


def check_one_stack(model: str, names: Sequence[str]) -> None:
  """Refuse slices of a model with several stacks of layers, or none.

  Raises:
    ValueError: naming the model and its stacks.
  """
  found = depths(names)
  if len(found) != 1:
    raise ValueError(
      f"slices: {model!r} has {len(found)} stacks of layers"
      f" ({', '.join(found) or 'no layer number in any leaf'}), expected one;"
      " modules take the stacks of a model one by one"
    )


def of_module(name: str, leaf: str) -> bool:
  """Tell whether a leaf belongs to a module: its name is one of its parts.

  >>> of_module("encoder", "model.encoder.layers.0.w"), of_module("a", "b.w")
  (True, False)
  """
  return name == "default" or name in re.split(r"[./]", leaf)
