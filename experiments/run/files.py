"""Files of a run folder, written whole or by whole lines, and JSON values.

>>> dump({"b": 1, "a": 2}).split()
['{', '"a":', '2,', '"b":', '1', '}']
"""

import hashlib
import json
import math
import os
import pathlib
from typing import Any

Folder = pathlib.Path


def check_local(workdir: str) -> None:
  """Raise a ValueError for a folder in a store, which takes no lines more.

  >>> check_local("gs://bucket/runs")
  Traceback (most recent call last):
  ValueError: workdir 'gs://bucket/runs': run folders are ... a local path ...
  """
  if "://" in workdir:
    raise ValueError(
      f"workdir {workdir!r}: run folders are kept on this machine, expected a"
      " local path (checkpoints.save writes trees to a store)"
    )


def write(path: Folder, content: str | bytes) -> None:
  """Put text or bytes at `path`, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.with_name(f".{path.name}.writing")
  data = content.encode() if isinstance(content, str) else content
  with open(aside, "wb") as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
  os.replace(aside, path)


def append(path: Folder, text: str) -> None:
  """Add whole lines at the end; where the disk is full, none of them."""
  size = path.stat().st_size if path.exists() else 0
  left = text.encode()
  with open(path, "ab", buffering=0) as file:
    try:
      while left:  # a nearly full disk takes a part, and only then complains
        left = left[file.write(left) :]
    except OSError:
      os.truncate(path, size)
      raise


def read_lines(path: Folder) -> list[dict[str, Any]]:
  """Read metrics.jsonl, cutting off the half line that a kill left."""
  if not path.exists():
    return []
  text = path.read_bytes()
  whole = text.rfind(b"\n") + 1
  if whole < len(text):
    os.truncate(path, whole)
  return [json.loads(line) for line in text[:whole].splitlines()]


def dump(value: Any) -> str:
  """Return JSON as the folder keeps it: sorted, one entry on a line."""
  return json.dumps(value, indent=1, sort_keys=True) + "\n"


def load(path: Folder) -> Any:
  """Read a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def plain(value: Any, path: str = "value") -> Any:
  """Return `value` as JSON has it: arrays of one number become numbers.

  JSON has no infinity or NaN; they become null.

  Raises:
    ValueError: naming the path of what JSON cannot hold, such as a function.
  """
  if hasattr(value, "to_dict"):  # a ConfigDict
    value = value.to_dict()
  if hasattr(value, "_asdict"):
    value = value._asdict()
  if hasattr(value, "tolist"):
    value = value.tolist()
  if isinstance(value, dict):
    return {str(key): plain(v, f"{path}.{key}") for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if value is None or isinstance(value, bool | int | str):
    return value
  raise ValueError(f"{path} is a {type(value).__name__}, expected JSON values")


def identity(numbers: dict[str, Any]) -> str:
  """Return what tells one line of metrics.jsonl from another: all but floats.

  >>> identity({"step": 3, "loss": 0.5})
  '{"step": 3}'
  """
  known = {
    key: value
    for key, value in numbers.items()
    if value is not None and not isinstance(value, float)
  }
  return json.dumps(known, sort_keys=True)


def digest(config: dict[str, Any]) -> str:
  """Return the short hash of a config that names its folder."""
  text = json.dumps(config, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_config(found: Any, config: Any, path: str = "config") -> None:
  """Raise a ValueError at the first key where the folder's config differs."""
  if isinstance(found, dict) and isinstance(config, dict):
    for key in sorted(found.keys() | config.keys()):
      inner = f"{path}.{key}"
      if key not in found or key not in config:
        where = "the folder" if key in found else "this command"
        raise ValueError(f"{inner} is set by {where} alone")
      check_config(found[key], config[key], inner)
  elif found != config:
    raise ValueError(f"{path} is {found!r} in the folder, not {config!r}")
