"""What a finished merge was made from, so that it is not made twice.

A line beside the weights keeps the digest of configuration, options and files
of weights.  The same command after success has nothing to do; another one with
the same folder is refused before it works.

>>> import tempfile
>>> made_from(tempfile.mkdtemp()) is None
True
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from weightspace.checkpoints import places
from weightspace.checkpoints.readers import RECORD
from weightspace.cli.config import schema
from weightspace.cli.inputs import references

DECIDE = ("seed", "shard_size", "no_copy_tokenizer", "mesh", "report")


def digest(found: Mapping[str, Any], text: str, options: Any) -> str:
  """Return the digest of what a merge is made from.

  Args:
    found: the configuration.
    text: of it, as it was given.
    options: those of the command, of which some decide what is written.

  Raises:
    ValueError: as `schema.parse`; for a model that is not there.
  """
  config = schema.parse({k: v for k, v in found.items() if k != "search"})
  files = [
    path
    for model in schema.models(config)
    for path in references.parents(model).values()
  ]
  states = [os.stat(path) for path in files]
  said = [
    text,
    [getattr(options, name) for name in DECIDE],
    [[state.st_size, state.st_mtime_ns] for state in states],
  ]
  return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def record(made_from: str) -> dict[str, str]:
  """Return the file that says so, by name."""
  return {RECORD: json.dumps({"merge": made_from}) + "\n"}


def made_from(output: str) -> str | None:
  """Return the digest of the merge that lies in a folder, if one does."""
  where = places.place(output) / RECORD
  if not where.exists():
    return None
  found = json.loads(where.read_text())
  return found.get("merge") if isinstance(found, dict) else None


def is_done(output: str, wanted: str) -> bool:
  """Tell whether a merge lies there already.

  Raises:
    ValueError: when something else does.
  """
  if not places.place(output).exists():
    return False
  if made_from(output) == wanted:
    return True
  raise ValueError(
    f"{output!r} exists, expected a new path: it was made by another"
    " configuration, or of other files"
  )
