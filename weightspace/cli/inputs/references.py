"""Models by reference: folders, Hugging Face's cache, adapters beside a base.

`path[@revision][+lora]`: a path of this machine, or a name such as `org/model`
that lies in Hugging Face's cache.  Nothing is downloaded.

>>> split("org/model@main+adapters/chat")
('org/model@main', 'adapters/chat')
"""

import json
import os
from typing import Any

from weightspace.checkpoints import places, readers

FILE = ".safetensors"


def split(reference: str) -> tuple[str, str | None]:
  """Return a model and its adapter; a path that exists is never split."""
  model, plus, adapter = reference.partition("+")
  if os.path.exists(reference) or not plus:
    return reference, None
  return model, adapter


def folder(reference: str) -> str:
  """Return where the files of a model or an adapter lie.

  Raises:
    ValueError: naming a model that is neither a path nor in the cache.
  """
  if os.path.exists(reference) or places.is_remote(reference):
    return places.absolute(reference)
  name, _, revision = reference.partition("@")
  if revision and os.path.exists(name):
    return os.path.abspath(reference)  # a step of a run, or nothing
  cached = os.path.join(_cache(), "models--" + name.replace("/", "--"))
  ref = os.path.join(cached, "refs", revision or "main")
  if os.path.isfile(ref):
    with open(ref, encoding="utf-8") as stream:
      revision = stream.read().strip()
  found = os.path.join(cached, "snapshots", revision or "main")
  if os.path.isdir(found):
    return found
  raise ValueError(
    f"{reference!r} is no path and not in {_cache()!r}, expected a model that"
    " is on this machine (nothing is downloaded)"
  )


def _cache() -> str:
  home = os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
  return os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))


def table(path: str, name: str) -> dict[str, Any]:
  """Return a JSON file of a model's folder; {} where there is none.

  Raises:
    ValueError: naming a file that is no JSON object.
  """
  where = os.path.join(path, name)
  if not os.path.isfile(where):
    return {}
  with open(where, encoding="utf-8") as stream:
    try:
      found = json.load(stream)
    except (ValueError, RecursionError) as error:
      raise ValueError(f"{where!r} is no JSON: {error}") from None
  if not isinstance(found, dict):
    raise ValueError(f"{where!r} is no JSON object")
  return found


def files(path: str, names: tuple[str, ...]) -> dict[str, str | bytes]:
  """Return those files of a model's folder that are there.

  >>> files("/nowhere", ("tokenizer.json",))
  {}
  """
  found: dict[str, str | bytes] = {}
  for name in names:
    where = os.path.join(path, name)
    if os.path.isfile(where):
      with open(where, "rb") as stream:
        found[name] = stream.read()
  return found


def parents(reference: str) -> dict[str, str]:
  """Return the files of weights of a model and its adapter.

  Returns:
    {the file under the model's name as it is written: its path}.
  """
  found = {}
  for name in filter(None, split(reference)):
    where = folder(name)
    for path in weights(where):
      inner = os.path.relpath(path, where)
      found[name if inner == "." else f"{name}/{inner}"] = path
  return {shown: path for shown, path in found.items() if os.path.isfile(path)}


def weights(path: str) -> list[str]:
  """Return the files that hold the weights at a path."""
  if not os.path.isdir(path):
    return [path]
  chosen = readers.weight_files(path)
  names = chosen or [n for n in sorted(os.listdir(path)) if n.endswith(FILE)]
  return [os.path.join(path, n) for n in names if n.endswith(FILE)]
