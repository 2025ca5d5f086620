"""Adapters that stay adapters: `recipe: rmm`, and `recipe: reconstruct` back.

`rmm` writes a basis from which each adapter comes back (`reversible_files`),
with the settings of all in one file; `reconstruct` writes one of them again as
a folder of peft.

>>> asked({"recipe": "rmm"}), asked({"recipe": "ties"})
(True, False)
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from weightspace.checkpoints import readers, writers
from weightspace.cli.config import schema, settings
from weightspace.cli.inputs import adapters, references
from weightspace.merge.files import reversible

RECIPES = ("rmm", "reconstruct")
RECORD = "adapters.json"  # the settings of each, beside the basis
Extra = Mapping[str, writers.Text]


def asked(found: Any) -> bool:
  """Tell whether a configuration keeps adapters apart from their base."""
  return isinstance(found, Mapping) and found.get("recipe") in RECIPES


def parents(found: Mapping[str, Any]) -> dict[str, str]:
  """Return the files of weights that are read, by how they are called."""
  names = _names(schema.parse(found))
  return {n: p for name in names for n, p in references.parents(name).items()}


def execute(
  found: Mapping[str, Any], output: str, extra: Mapping[str, writers.Text]
) -> None:
  """Write a basis of adapters, or an adapter of a basis.

  Args:
    found: the configuration.
    output: a new folder.
    extra: further files by name: the model card.

  Raises:
    ValueError: naming a key or parameter that has no place here, what is no
      adapter or no basis; as `reversible_files`.
  """
  config = schema.parse(found)
  for key in ("base", "dtype", "out_dtype", "tokenizer", "chat_template"):
    if getattr(config, key) is not None:
      raise ValueError(
        f"recipe: {config.method} takes adapters alone, got"
        f" {'base_model' if key == 'base' else key}"
      )
  folders = [references.folder(name) for name in _names(config)]
  if config.method == "rmm":
    _compress(config, folders, output, extra)
  else:
    _reconstruct(config, folders, output, extra)


def _names(config: schema.Config) -> list[str]:
  """Return the inputs, which are whole."""
  slices = [one for m in config.modules.values() for one in m.slices]
  sources = [source for one in slices for source in one.sources]
  for source in sources:
    if source.layers is not None or source.parameters:
      raise ValueError(
        f"recipe: {config.method} takes {source.model!r} whole, without"
        " parameters"
      )
  return [source.model for source in sources]


def _numbers(config: schema.Config, known: tuple[str, ...]) -> dict[str, Any]:
  """Return the parameters, of which each is known and the first is there."""
  for name in config.parameters:
    if name not in known:
      raise ValueError(
        f"recipe: {config.method!r} has no parameter {name!r}, expected"
        f" {' or '.join(known)}"
      )
  found = {n: settings.plain(value) for n, value in config.parameters.items()}
  first = found.get(known[0])
  if not isinstance(first, int) or isinstance(first, bool):
    raise ValueError(
      f"recipe: {config.method!r}: {known[0]} is {first!r}, expected a whole"
      " number"
    )
  return found


def _compress(
  config: schema.Config, folders: list[str], output: str, beside: Extra
) -> None:
  numbers = _numbers(config, ("basis", "scope"))
  opened = [adapters.opened(folder) for folder in folders]
  record = [
    {"model": name, "settings": told}
    for name, (told, _) in zip(_names(config), opened)
  ]
  extra = dict(beside)
  extra[RECORD] = json.dumps(record, indent=1) + "\n"
  inputs = [file for _, file in opened]
  reversible.compress(inputs, output, extra=extra, **numbers)


def _reconstruct(
  config: schema.Config, folders: list[str], output: str, beside: Extra
) -> None:
  model = _numbers(config, ("model",))["model"]
  if len(folders) != 1:
    raise ValueError(
      f"recipe: reconstruct takes one folder of rmm, got {len(folders)}"
    )
  where = os.path.join(folders[0], RECORD)
  if not os.path.isfile(where):
    raise ValueError(f"{where!r} is missing, expected a folder of rmm")
  with open(where, encoding="utf-8") as stream:
    record = json.load(stream)
  kept = readers.open(folders[0])
  told = record[model]["settings"] if 0 <= model < len(record) else {}
  extra = dict(beside)
  extra[adapters.SETTINGS] = json.dumps(told, indent=1) + "\n"
  reversible.restore(kept, model, output, extra=extra)
