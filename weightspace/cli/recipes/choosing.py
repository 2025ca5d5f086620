"""How one leaf is merged: its recipe, from the parameters that hold there.

>>> config = schema.parse({
...   "merge_method": "slerp", "base_model": "a",
...   "models": [{"model": "a"}, {"model": "b"}],
...   "parameters": {"t": [0.0, 1.0]},
... })
>>> leaf = leaf_sources.Leaf("layers.1.w", 0, 0.5, {}, 1)
>>> choose(config, config.modules["default"], leaf).inputs
('a', 'b')
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from weightspace.cli.config import leaf_sources, schema, settings
from weightspace.cli.recipes import methods
from weightspace.merge.core.recipe import Recipe


class Chosen(NamedTuple):
  """How one leaf is merged."""

  recipe: Recipe
  inputs: tuple[str, ...]
  base: str | None


def check_names(config: schema.Config) -> list[str]:
  """Refuse parameters that no method has; say which have no effect.

  Raises:
    ValueError: naming the parameter and its place.
  """
  if config.own:
    return []
  method = methods.named(config.method)
  used, idle = {*method.each, *method.whole}, set()
  for where, scope in _scopes(config):
    for name in scope:
      if name not in methods.KNOWN:
        raise ValueError(
          f"{where}: parameter {name!r} is unknown, expected one of"
          f" {', '.join(sorted(used))}"
        )
      if name in method.whole and ".sources" in where:
        raise ValueError(
          f"{where}: parameter {name!r} belongs to all of a slice, expected it"
          " under the parameters of the slice or of the file"
        )
      idle |= {name} - used
  return [f"{config.method} has no {name!r}, as in mergekit" for name in idle]


def _scopes(config: schema.Config) -> list[tuple[str, schema.Parameters]]:
  found = [("parameters", config.parameters)]
  for name, module in config.modules.items():
    found.append((f"modules.{name}", module.parameters))
    for number, one in enumerate(module.slices):
      found.append((f"slices[{number}]", one.parameters))
      for source in one.sources:
        where = f"slices[{number}].sources {source.model!r}"
        found.append((where, source.parameters))
  return found


def choose(
  config: schema.Config, module: schema.Module, leaf: leaf_sources.Leaf
) -> Chosen:
  """Return how a leaf is merged, by the parameters that hold there.

  Args:
    config: the configuration.
    module: of it, the leaf's; each slice names its base and has it among its
      sources.
    leaf: of the output.

  Raises:
    ValueError: naming the leaf and a parameter that is missing or out of its
      range, or a number of models that the method does not take.
  """
  one = module.slices[leaf.slice]
  if config.own:
    return _own(config, one)
  method = methods.named(config.method)
  inputs, base = _inputs(config.method, method, one)
  scopes = [one.parameters, module.parameters, config.parameters]
  where = (leaf.name, leaf.place)
  whole = {}
  for name, default in method.whole.items():
    whole[name] = _value(name, default, scopes, where, "")
  each = {}
  for name, default in method.each.items():
    each[name] = tuple(
      _value(name, default, [source.parameters, *scopes], where, source.model)
      for source in inputs
    )
  try:
    recipe = methods.recipe(config.method, each, whole, base is not None)
  except ValueError as error:
    raise ValueError(f"{leaf.name!r}: {error}") from None
  return Chosen(recipe, tuple(source.model for source in inputs), base)


def _own(config: schema.Config, one: schema.Slice) -> Chosen:
  """Return a recipe of the library, the same for all leaves."""
  recipe = methods.own(config.method, dict(config.parameters))
  based = "base" in recipe.needs
  if based and one.base is None:
    raise ValueError(f"recipe: {config.method!r} needs a base_model")
  if based:
    _check_base(one)
  names = [s.model for s in one.sources if s.model != one.base]
  return Chosen(recipe, tuple(names), one.base if based else None)


def _inputs(
  name: str, method: methods.Method, one: schema.Slice
) -> tuple[list[schema.Source], str | None]:
  """Return the models that a recipe sees, in order, and its base."""
  base = one.base
  if method.required and base is None:
    raise ValueError(f"merge_method: {name!r} needs a base_model")
  sources = list(one.sources)
  if method.base != "among" and base is not None:
    _check_base(one)
  if method.base == "first":
    sources.sort(key=lambda source: source.model != base)
  if method.base == "apart":
    sources = [source for source in sources if source.model != base]
  count = len(sources)
  if count < method.least or (method.most and count > method.most):
    most = "" if method.most is None else f" and at most {method.most}"
    raise ValueError(
      f"merge_method: {name!r} takes at least {method.least}{most} models"
      f"{' beside the base' if method.base == 'apart' else ''}, got {count}"
    )
  return sources, base if method.base == "apart" else None


def _check_base(one: schema.Slice) -> None:
  named = [source.model for source in one.sources]
  if one.base not in named:
    raise ValueError(
      f"slices: the base {one.base!r} is no source of a slice of"
      f" {', '.join(map(repr, named))}, expected it with its layers"
    )


def _value(
  name: str,
  default: Any,
  scopes: Sequence[schema.Parameters],
  where: tuple[str, float],
  model: str,
) -> Any:
  """Return a parameter's value at a leaf, or its default."""
  found = settings.look_up(name, scopes, *where)
  if found is not None:
    return settings.typed(name, found, default)
  if default is methods.REQUIRED:
    of = f" for {model!r}" if model else ""
    raise ValueError(f"parameter {name!r} is missing{of} at {where[0]!r}")
  return default
