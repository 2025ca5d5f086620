"""Merge configurations as mergekit writes them, checked key by key.

A file names a method, and whole models, or slices of layers, or several such
modules.  Whatever it says is kept here as plain data; a key that is unknown or
cannot be honoured is refused by its place in the file.

>>> config = parse({
...   "merge_method": "ties",
...   "base_model": "base",
...   "models": [{"model": "a", "parameters": {"density": 0.2}}],
... })
>>> [source.model for source in config.modules["default"].slices[0].sources]
['a', 'base']
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from weightspace.cli.config import keys, tokens

Parameters = Mapping[str, Any]

WHERE = ("models", "slices", "modules")
DTYPES = ("float16", "bfloat16", "float32", "float64")
KEYS = (
  "merge_method recipe base_model parameters dtype out_dtype tokenizer"
  " tokenizer_source chat_template name missing map allow quantise"
).split()
MISSING = ("refuse", "base", "first", "skip")
ALLOW = ("different configs",)
QUANTISE = ("same",)


class Source(NamedTuple):
  """One input of a slice."""

  model: str  # as it is written: path[@revision][+lora]
  layers: range | None  # None for a whole model
  parameters: Mapping[str, Any] = {}


class Slice(NamedTuple):
  """Some layers of the output, merged from sources of equal length."""

  sources: tuple[Source, ...]
  base: str | None = None
  parameters: Mapping[str, Any] = {}


class Module(NamedTuple):
  """One tower of a model: slices on top of each other."""

  slices: tuple[Slice, ...]
  parameters: Mapping[str, Any] = {}


class Config(NamedTuple):
  """A whole configuration."""

  method: str
  modules: Mapping[str, Module]
  own: bool = False  # a recipe of the library instead of mergekit's method
  base: str | None = None
  parameters: Mapping[str, Any] = {}
  dtype: str | None = None
  out_dtype: str | None = None
  tokenizer: tokens.Tokenizer | None = None
  chat_template: str | None = None
  missing: str = "refuse"  # what becomes of leaves that a model lacks
  maps: Mapping[str, Mapping[str, str]] = {}  # of names, by model
  allow: str | None = None
  quantise: str | None = None


def parse(found: Any) -> Config:
  """Return the configuration that a file holds.

  Args:
    found: what the YAML parser returned.

  Raises:
    ValueError: naming the first key that is unknown, missing or cannot be
      honoured, by its place in the file.

  >>> parse({"merge_method": "linear", "model": []})
  Traceback (most recent call last):
  ValueError: config: 'model' is unknown, expected one of merge_method, ...
  """
  table = keys.table(found, "config", (*KEYS, *WHERE))
  methods = [table[key] for key in ("merge_method", "recipe") if key in table]
  if len(methods) != 1 or not isinstance(methods[0], str):
    raise ValueError(
      "config: expected the name of one merge_method (mergekit's conventions)"
      f" or recipe (those of the papers), got {methods}"
    )
  config = Config(
    method=methods[0],
    own="recipe" in table,
    modules=_modules(table),
    base=keys.model(table.get("base_model"), "base_model"),
    parameters=_parameters(table, "config"),
    dtype=_dtype(table, "dtype"),
    out_dtype=_dtype(table, "out_dtype"),
    tokenizer=tokens.parse(table),
    chat_template=keys.text(table, "chat_template"),
    missing=_one_of(table, "missing", MISSING) or "refuse",
    allow=_one_of(table, "allow", ALLOW),
    quantise=_one_of(table, "quantise", QUANTISE),
  )
  config = _with_base(config)
  return config._replace(maps=_maps(table, models(config)))


def _one_of(
  table: Mapping[str, Any], key: str, known: tuple[str, ...]
) -> str | None:
  found = keys.text(table, key)
  if found not in (None, *known):
    raise ValueError(f"{key} is {found!r}, expected {' or '.join(known)}")
  return found


def _maps(
  table: Mapping[str, Any], names: list[str]
) -> dict[str, dict[str, str]]:
  """Return how names of leaves begin and are to begin, for each model.

  `map: {OLD: NEW}` holds for all models, `map: {MODEL: {OLD: NEW}}` for one.
  """
  given = keys.table(table.get("map") or {}, "map", None)
  maps: dict[str, dict[str, str]] = {name: {} for name in names}
  for key, value in given.items():
    if isinstance(value, Mapping):
      if key not in maps:
        raise ValueError(
          f"map: {key!r} is not merged, expected one of {', '.join(names)}"
        )
      maps[key] |= {str(old): str(new) for old, new in value.items()}
    else:
      new = "" if value is None else str(value)
      maps = {name: {**one, str(key): new} for name, one in maps.items()}
  return {name: one for name, one in maps.items() if one}


def models(config: Config) -> list[str]:
  """Return the models of a configuration, the base first where there is one."""
  found = [config.base] if config.base else []
  for module in config.modules.values():
    for one in module.slices:
      found += [source.model for source in one.sources]
  return list(dict.fromkeys(found))


def _with_base(config: Config) -> Config:
  """Name the base in each slice; it is a source of whole models, too."""
  modules = {}
  for name, module in config.modules.items():
    slices = []
    for one in module.slices:
      base = one.base or config.base
      sources = list(one.sources)
      whole = sources[0].layers is None
      if whole and base and base not in [source.model for source in sources]:
        sources.append(Source(base, None))
      slices.append(one._replace(base=base, sources=tuple(sources)))
    modules[name] = module._replace(slices=tuple(slices))
  return config._replace(modules=modules)


def _modules(table: Mapping[str, Any]) -> dict[str, Module]:
  given = [key for key in WHERE if table.get(key)]
  if len(given) != 1:
    raise ValueError(
      f"config: expected one of {', '.join(WHERE)}, got {given or 'none'}"
    )
  if given[0] != "modules":
    return {"default": Module(_slices(table, given[0], "config"))}
  modules = {}
  for name, inner in keys.table(table["modules"], "modules", None).items():
    where = f"modules.{name}"
    entry = keys.table(inner, where, ("models", "slices", "parameters"))
    kinds = [key for key in ("models", "slices") if entry.get(key)]
    if len(kinds) != 1:
      raise ValueError(f"{where}: expected models or slices, got {kinds}")
    slices = _slices(entry, kinds[0], where)
    modules[str(name)] = Module(slices, _parameters(entry, where))
  return modules


def _slices(
  table: Mapping[str, Any], kind: str, where: str
) -> tuple[Slice, ...]:
  if kind == "models":
    sources = _sources(table["models"], f"{where}.models", False)
    return (Slice(sources),)
  slices = []
  for number, inner in enumerate(
    keys.entries(table["slices"], f"{where}.slices")
  ):
    at = f"{where}.slices[{number}]"
    entry = keys.table(inner, at, ("sources", "base_model", "parameters"))
    sources = _sources(entry.get("sources"), f"{at}.sources", True)
    lengths = {len(source.layers or ()) for source in sources}
    if len(lengths) > 1:
      raise ValueError(
        f"{at}: sources of {sorted(lengths)} layers, expected equal numbers"
      )
    base = keys.model(entry.get("base_model"), f"{at}.base_model")
    slices.append(Slice(sources, base, _parameters(entry, at)))
  return tuple(slices)


def _sources(found: Any, where: str, sliced: bool) -> tuple[Source, ...]:
  sources: list[Source] = []
  known = ("model", "parameters", *(("layer_range",) if sliced else ()))
  for number, inner in enumerate(keys.entries(found, where)):
    at = f"{where}[{number}]"
    entry = keys.table(inner, at, known)
    model = keys.model(entry.get("model"), f"{at}.model")
    if model is None:
      raise ValueError(f"{at}: model is missing, expected a path")
    if model in [source.model for source in sources]:
      raise ValueError(
        f"{at}: {model!r} stands twice, expected each model once"
      )
    layers = _layers(entry.get("layer_range"), at) if sliced else None
    sources.append(Source(model, layers, _parameters(entry, at)))
  return tuple(sources)


def _layers(found: Any, where: str) -> range:
  whole = isinstance(found, list) and all(type(x) is int for x in found)
  if not whole or len(found) != 2 or not 0 <= found[0] < found[1]:
    raise ValueError(
      f"{where}.layer_range is {found!r}, expected [first, end] with"
      " 0 <= first < end"
    )
  return range(*found)


def _dtype(table: Mapping[str, Any], key: str) -> str | None:
  found = keys.text(table, key)
  found = found.removeprefix("torch.") if found else found
  if found not in (None, *DTYPES):
    raise ValueError(f"{key} is {found!r}, expected one of {', '.join(DTYPES)}")
  return found


def _parameters(table: Mapping[str, Any], where: str) -> Parameters:
  return keys.table(table.get("parameters") or {}, f"{where}.parameters", None)
