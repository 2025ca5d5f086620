"""What lies beside the merged weights: config.json and the tokenizer.

>>> found = resized({"vocab_size": 8, "eos_token_id": 2}, 9, {2: 5})
>>> found["vocab_size"], found["eos_token_id"]
(9, 5)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from weightspace.cli import models
from weightspace.cli.config import schema
from weightspace.cli.inputs import references
from weightspace.cli.vocabularies import tokenizers

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
DTYPES = ("dtype", "torch_dtype")


def files(
  config: schema.Config,
  opened: Mapping[str, models.Model],
  shared: models.Shared | None,
  depth: Sequence[int] | None,
  dtype: Any,
  tokenizer: bool = True,
) -> models.Files:
  """Return the files beside the weights, by name.

  Args:
    config: the configuration.
    opened: the models; the first gives config.json and, without a vocabulary
      of its own, the tokenizer.
    shared: the vocabulary that the models were brought to, if any.
    depth: for each output layer that of its first source, where layers were
      sliced.
    dtype: of the weights, where they have one.
    tokenizer: copy the tokenizer's files.

  Raises:
    ValueError: for a chat template that is not known.
  """
  donor = next(iter(opened.values()))
  found: models.Files = {}
  if tokenizer:
    found = references.files(donor.folder, tokenizers.NAMES)
    if shared is not None:
      found = shared.files
    if config.chat_template:
      folders = [model.folder for model in opened.values()]
      found = tokenizers.with_template(found, config.chat_template, folders)
  if not donor.settings:
    return found
  moved = _moved(donor, shared)
  table = dict(donor.settings)
  if depth is not None:
    table = resliced(table, depth)
  if shared is not None:
    table = resized(table, shared.rows, moved)
  for key in DTYPES:
    if dtype is not None and key in table:
      table[key] = str(dtype)
  found["config.json"] = json.dumps(table, indent=2) + "\n"
  generation = references.table(donor.folder, "generation_config.json")
  if generation:
    generation = resized(generation, 0, moved)
    found["generation_config.json"] = json.dumps(generation, indent=2) + "\n"
  return found


def _moved(donor: models.Model, shared: models.Shared | None) -> dict[int, int]:
  """Return the new row of each row of the donor's vocabulary."""
  if shared is None:
    return {}
  before = tokenizers.vocabulary(donor.folder)
  return {
    row: shared.tokens[token]
    for token, row in before.items()
    if token in shared.tokens
  }


def resized(
  table: Mapping[str, Any], rows: int, moved: Mapping[int, int]
) -> dict[str, Any]:
  """Return a config with another vocabulary: its size and special tokens."""
  found = dict(table)
  for key, value in table.items():
    if key == "vocab_size":
      found[key] = rows
    elif key == "text_config" and isinstance(value, Mapping):
      found[key] = resized(value, rows, moved)
    elif key.endswith("_token_id") and isinstance(value, int):
      found[key] = moved.get(value, value)
    elif key.endswith("_token_id") and isinstance(value, list):
      found[key] = [moved.get(one, one) for one in value]
  return found


def resliced(table: Mapping[str, Any], depth: Sequence[int]) -> dict[str, Any]:
  """Return a config with other layers, which it lists by number.

  >>> resliced({"num_hidden_layers": 2, "layer_types": ["a", "b"]}, [0, 1, 1])
  {'num_hidden_layers': 3, 'layer_types': ['a', 'b', 'b']}
  """
  found = dict(table)
  before = next((table[key] for key in LAYERS if key in table), None)
  for key, value in table.items():
    if key in LAYERS:
      found[key] = len(depth)
    elif key == "text_config" and isinstance(value, Mapping):
      found[key] = resliced(value, depth)
    elif "layer" in key and isinstance(value, list) and len(value) == before:
      found[key] = [value[n] for n in depth if n < len(value)]
  return found
