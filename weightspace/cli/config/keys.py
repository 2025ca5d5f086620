"""Keys of a configuration, checked: tables, lists, texts, models.

Every error names the place in the file and what was expected there.

>>> table({"a": 1}, "config", ("b",))
Traceback (most recent call last):
ValueError: config: 'a' is unknown, expected one of b
"""

from collections.abc import Mapping, Sequence
from typing import Any

REFUSED = {
  "residual_weight": "residual weights of slices",
  "input_model_parameters": "parameters by model outside of models",
}


def table(
  found: Any, where: str, keys: Sequence[str] | None
) -> Mapping[str, Any]:
  """Return a mapping, of whose keys each is known (any for None).

  Raises:
    ValueError: naming the first key that is not.
  """
  if not isinstance(found, Mapping):
    raise ValueError(f"{where} is {found!r:.60}, expected a table of keys")
  for key in found:
    if key in REFUSED and keys is not None:
      raise ValueError(f"{where}: {key!r}: {REFUSED[key]} are not supported")
    if keys is not None and key not in keys:
      expected = f"expected one of {', '.join(keys)}"
      raise ValueError(f"{where}: {key!r} is unknown, {expected}")
  return found


def entries(found: Any, where: str) -> list[Any]:
  """Return a list that is not empty.

  Raises:
    ValueError: naming its place, for anything else.
  """
  if not isinstance(found, list) or not found:
    raise ValueError(f"{where} is {found!r:.60}, expected a list")
  return found


def text(table: Mapping[str, Any], key: str) -> str | None:
  """Return the text under a key; None where there is none.

  Raises:
    ValueError: naming the key, for anything else.
  """
  found = table.get(key)
  if found is not None and not isinstance(found, str):
    raise ValueError(f"{key} is {found!r:.60}, expected text")
  return found


def model(found: Any, where: str) -> str | None:
  """Return a model reference as text; mergekit also writes tables."""
  if found is None or isinstance(found, str):
    return found
  entry = table(found, where, ("model", "lora"))
  parts = []
  for key in ("model", "lora"):
    inner = entry.get(key)
    if isinstance(inner, Mapping):
      inner = table(inner, f"{where}.{key}", ("path", "revision"))
      revision = f"@{inner['revision']}" if inner.get("revision") else ""
      inner = f"{inner.get('path')}{revision}"
    parts += [str(inner)] if inner else []
  return "+".join(parts)
