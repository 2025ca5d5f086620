"""Tied weights: one leaf under two names, stored once or twice.

Input embeddings and output head of many models are one matrix.  Savers write it
under one name or both; what the loader makes of it is one leaf if config.json
ties them and the stored copies are equal.

>>> kinds = {"wte.weight": (9, 4), "lm_head.weight": (9, 4), "h.0.w": (4, 4)}
>>> twins({name: (shape, np.dtype("float32")) for name, shape in kinds.items()})
{'lm_head.weight': 'wte.weight'}
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weightspace.checkpoints import readers
from weightspace.checkpoints.tensor_files import Kind
from weightspace.cli.inputs import views

EMBEDDING = re.compile(
  r"(embed_tokens|wte|embed_in|word_embeddings|shared|tok_embeddings)\.weight$"
)
SHARED = re.compile(r"(^|\.)shared\.weight$")
HEAD = re.compile(
  r"(lm_head|embed_out|output|output_layer|predictions\.decoder)\.weight$"
)
HEADS = {  # how the head is called, by the embedding's name
  "embed_in": "embed_out.weight",
  "word_embeddings": "cls.predictions.decoder.weight",
}
LAYER = re.compile(r"[./]\d+[./]")
# BERT's head keeps its bias under two names; they are one whatever is said.
BIASES = {"predictions.decoder.bias": "predictions.bias"}
ROWS = 2**14  # that are compared at a time


def twins(kinds: Mapping[str, Kind]) -> dict[str, str]:
  """Return which leaves may be another one: {head: embedding}.

  Args:
    kinds: shape and dtype of each leaf.
  """
  embeddings = [n for n in kinds if EMBEDDING.search(n)]
  shared = [n for n in embeddings if SHARED.search(n)]
  found = {}
  source = shared[0] if shared else (embeddings[0] if embeddings else None)
  for name, (shape, _) in kinds.items():
    head = HEAD.search(name) or (shared and name in embeddings)
    head = head and not LAYER.search(name)
    alone = shared or len(embeddings) == 1
    if head and alone and source and name != source:
      # Models may have other vocabularies; the rows are as long.
      if len(shape) == 2 and shape[1:] == kinds[source][0][1:]:
        found[name] = source
  for twin, bias in BIASES.items():
    for name in kinds:
      if name.endswith(f".{twin}"):
        other = f"{name.removesuffix(twin)}{bias}"
        if other in kinds:
          found[name] = other
  return found


def says(settings: Mapping[str, Any]) -> bool | None:
  """Return what a config.json says of tied embeddings; None for nothing."""
  inner = settings.get("text_config")
  tables = [settings, *([inner] if isinstance(inner, Mapping) else [])]
  for table in tables:
    if isinstance(table.get("tie_word_embeddings"), bool):
      return table["tie_word_embeddings"]
  return None


def untied(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Return a config.json whose embeddings and head are two leaves.

  >>> untied({"tie_word_embeddings": True})
  {'tie_word_embeddings': False}
  """
  found = dict(settings) | {"tie_word_embeddings": False}
  inner = settings.get("text_config")
  if isinstance(inner, Mapping) and "tie_word_embeddings" in inner:
    found["text_config"] = dict(inner) | {"tie_word_embeddings": False}
  return found


def is_tied(
  reader: readers.Reader, settings: Mapping[str, Any], head: str, other: str
) -> bool:
  """Tell whether two names of a model are one leaf, as its loader has it."""
  stored = [name in reader.kinds for name in (head, other)]
  if any(head.endswith(f".{twin}") for twin in BIASES):
    return any(stored) and (not all(stored) or _equal(reader, head, other))
  if says(settings) is False or not any(stored):
    return False
  if not all(stored):
    return True
  return bool(settings) and _equal(reader, head, other)


def apart(
  reader: readers.Reader, settings: Mapping[str, Any], saved: Sequence[str]
) -> tuple[readers.Reader, bool]:
  """Return a tied model as two leaves, where an adapter keeps one of its own.

  peft gives such a module a copy, so that what was tied to it stays as it was.

  Args:
    reader: the base of the adapter.
    settings: its config.json.
    saved: names of the adapter's leaves that are no factors.

  Returns:
    The reader, with both names where it was split, and whether it was.
  """
  found = [n for n in reader.kinds if EMBEDDING.search(n)]
  shared = [n for n in found if SHARED.search(n)] or found
  if says(settings) is False or len(shared) != 1:
    return reader, False
  (source,) = shared
  last = source.removesuffix(".weight").rpartition(".")[2]
  head = HEADS.get(last, "lm_head.weight")
  touched = any(n.endswith((source, f".{head}")) or n == head for n in saved)
  if head in reader.kinds or not touched:
    return reader, False
  return views.view(reader, {n: n for n in reader.kinds} | {head: source}), True


def _equal(reader: readers.Reader, one: str, other: str) -> bool:
  """Tell whether two leaves hold the same bytes, some rows at a time."""
  if reader.kinds[one] != reader.kinds[other]:
    return False
  count = reader.shape(one)[0]
  return all(
    np.array_equal(reader.read(one, rows), reader.read(other, rows))
    for start in range(0, count, ROWS)
    for rows in [slice(start, min(start + ROWS, count))]
  )
