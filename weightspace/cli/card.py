"""The model card of a merge: what it is made of, and how to make it again.

>>> text = card({"a": "0f1e"}, "merge_method: linear", "weightspace-merge c o")
>>> "merge_method: linear" in text, "0f1e" in text
(True, True)
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping

from weightspace.cli.inputs import references

BLOCK = 2**24  # bytes that are hashed at a time


def card(parents: Mapping[str, str], config: str, command: str) -> str:
  """Return a README.md for the merged model.

  Args:
    parents: sha256 of each file of weights, which the configuration names.
    config: the configuration, as text.
    command: that made it.
  """
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}"
    for name in ("jax", "jaxlib", "numpy")
  )
  rows = "\n".join(f"| `{path}` | `{sha}` |" for path, sha in parents.items())
  return f"""---
tags:
- merge
- weightspace
---
# Merged model

Merged by weightspace: the command and the configuration below make the same
bytes again from the same parents.

```sh
{command}
```

```yaml
{config.strip()}
```

| parent | sha256 |
| --- | --- |
{rows}

Python {platform.python_version()}, {versions}.
"""


def hashes(paths: Mapping[str, str]) -> dict[str, str]:
  """Return the sha256 of files by what they are called.

  Each is read once, and again when it changes.

  The cache of Hugging Face names files by their sha256, which is taken as it
  is; other hashes are kept in the user's cache folder.
  """
  found = {}
  for called, path in paths.items():
    name = os.path.basename(os.path.realpath(path))
    is_blob = len(name) == 64 and "/blobs/" in os.path.realpath(path)
    found[called] = name if is_blob else _remembered(path)
  return found


def _remembered(path: str) -> str:
  """Return a file's hash from the cache, or from its bytes."""
  state = os.stat(path)
  key = f"{os.path.realpath(path)} {state.st_size} {state.st_mtime_ns}"
  home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
  folder = os.path.join(home, "weightspace")
  known = references.table(folder, "sha256.json")
  if isinstance(known.get(key), str):
    return known[key]
  made = _digest(path)
  known = references.table(folder, "sha256.json") | {key: made}
  aside = os.path.join(folder, f".sha256.{os.getpid()}")
  try:
    os.makedirs(folder, exist_ok=True)
    with open(aside, "w", encoding="utf-8") as stream:
      json.dump(known, stream)
    os.replace(aside, os.path.join(folder, "sha256.json"))
  except OSError:  # a home that cannot be written to: hashed again next time
    pass
  return made


def _digest(path: str) -> str:
  found = hashlib.sha256()
  buffer = bytearray(BLOCK)
  with open(path, "rb", buffering=0) as stream:
    while count := stream.readinto(buffer):
      found.update(memoryview(buffer)[:count])
  return found.hexdigest()
