"""Models that fit each other's shapes and mean something else.

Equal shapes do not make equal models: heads, rotary angles and norms stand in
config.json alone, and a model that has nothing to do with the base has its
shapes too.  What differs is said in one line.

>>> a, b = {"model_type": "llama", "num_heads": 4}, {"num_heads": 8}
>>> differing(a, b)
['num_heads 4, 8']
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from weightspace import trees
from weightspace.checkpoints import readers

ALLOWED = "different configs"
# Keys that change no number of the model, or that the merge itself sets.
HARMLESS = (
  "_name_or_path _commit_hash _attn_implementation architectures auto_map"
  " transformers_version dtype torch_dtype use_cache vocab_size"
  " quantization_config tie_word_embeddings initializer_range id2label label2id"
  " problem_type finetuning_task gradient_checkpointing pretraining_tp"
  " output_attentions output_hidden_states return_dict num_labels"
  " rope_parameters rope_scaling text_config vision_config model_type"
).split()
TRAINING = ("dropout", "token_id", "_drop", "pdrop", "aux_loss", "loss_")
ROPE = ("rope_parameters", "rope_scaling")
SAMPLED, ENTRIES = 8, 2**13  # leaves, and entries of each, that are looked at
UNRELATED = 0.3  # the cosine of fine-tuned models with their base is near 1


def check(tables: Mapping[str, Mapping[str, Any]], allowed: bool) -> list[str]:
  """Return one line for each model whose config.json means something else.

  Args:
    tables: config.json of each model, the output's first.
    allowed: merge models of other architectures all the same.

  Raises:
    ValueError: naming the models and the keys, for other architectures.
  """
  (first, reference), *others = (
    (name, inner(table)) for name, table in tables.items()
  )
  notes = []
  for name, table in others:
    kinds = [found.get("model_type") for found in (reference, table)]
    keys = differing(reference, table)
    if all(kinds) and kinds[0] != kinds[1]:
      line = f"{first!r} is a {kinds[0]}, {name!r} a {kinds[1]}"
      line += f"; config.json differs in {', '.join(keys)}" if keys else ""
      if not allowed:
        raise ValueError(
          f"{line}, expected one architecture; `allow: {ALLOWED}` merges them"
        )
      notes.append(line)
    elif keys:
      notes.append(
        f"config.json of {first!r} and {name!r} differ in {', '.join(keys)};"
        " the output has the first's"
      )
  return notes


def inner(table: Mapping[str, Any]) -> Mapping[str, Any]:
  """Return what config.json says of the text model."""
  found = table.get("text_config")
  return found if isinstance(found, Mapping) and found else table


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Return the keys in which two tables mean something else, and how.

  A key that one of them lacks has a default there, which is not known here.
  """
  a, b = _flat(one), _flat(other)
  return [
    f"{key} {a[key]}, {b[key]}"
    for key in a
    if key in b
    and a[key] != b[key]
    and key not in HARMLESS
    and not any(word in key for word in TRAINING)
  ]


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
  """Return a table with the rotary angles where older versions had them."""
  found = dict(table)
  for key in ROPE:
    if isinstance(table.get(key), Mapping):
      for name, value in table[key].items():
        found["rope_theta" if name == "rope_theta" else f"rope.{name}"] = value
  return found


def unrelated(
  models: Mapping[str, readers.Reader], reference: str
) -> list[str]:
  """Return one line for each model that has nothing to do with another.

  The cosine of a fine-tuned model's matrices with the base's is near 1; that of
  models which were trained apart is near 0, and their difference is longer than
  both.  Some rows of the largest matrices are compared.

  Args:
    models: with the same leaves.
    reference: the base, or the first model.
  """
  start = models[reference]
  sizes = {
    name: int(np.prod(shape))
    for name, (shape, dtype) in start.kinds.items()
    if len(shape) >= 2 and trees.inexact(np.empty(0, dtype))
  }
  largest = sorted(sizes, key=lambda name: -sizes[name])[:SAMPLED]
  rows = {name: _some_rows(start.shape(name)) for name in largest}
  base = {name: _read(start, name, rows[name]) for name in largest}
  notes = []
  for model, reader in models.items():
    if model == reference:
      continue
    there = [
      n
      for n in largest
      if n in reader.kinds and reader.shape(n)[1:] == start.shape(n)[1:]
    ]
    sums = np.zeros(3)
    for name in there:
      x, y = _read(reader, name, rows[name]), base[name]
      count = min(len(x), len(y))
      x, y = x[:count].ravel(), y[:count].ravel()
      sums += [x @ y, x @ x, y @ y]
    cross, own, other = sums
    if own > 0 and other > 0 and cross < UNRELATED * np.sqrt(own * other):
      share = np.sqrt(max(own + other - 2 * cross, 0) / other)
      notes.append(
        f"{model!r} seems unrelated to {reference!r}: the cosine of their"
        f" matrices is {cross / np.sqrt(own * other):.2f}, their difference"
        f" {share:.2g} times as long as {reference!r}"
      )
  return notes


def _some_rows(shape: tuple[int, ...]) -> slice:
  row = max(int(np.prod(shape[1:])), 1)
  return slice(0, max(1, min(shape[0], ENTRIES // row)))


def _read(reader: readers.Reader, name: str, rows: slice) -> np.ndarray:
  found = reader.read(name, rows)
  real = found.real if np.iscomplexobj(found) else found
  return np.nan_to_num(real.astype(np.float64), posinf=0, neginf=0)
