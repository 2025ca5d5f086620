"""Scores of merged models, as a configuration names them.

A Python function `module:function` of one model's leaves, or the built-in
`language_model`: how well a Llama predicts a text, on the device.

>>> found = chunks(np.arange(7), 3)
>>> found["x"].tolist(), found["y"].tolist()
([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from weightspace.checkpoints.readers import Reader

LANGUAGE_MODEL = "language_model"


def imported(name: str) -> Callable[[Any], float]:
  """Return the function `module:function`; modules of this folder count.

  Raises:
    ValueError: naming what is not found.

  >>> imported("math:prod")([2, 3])
  6
  """
  module, _, function = name.partition(":")
  here = os.getcwd()
  if here not in sys.path:
    sys.path.insert(0, here)
  try:
    found = getattr(importlib.import_module(module), function)
  except (ImportError, AttributeError) as error:
    raise ValueError(f"search.score {name!r}: {error}") from None
  if not callable(found):
    raise ValueError(f"search.score {name!r} is no function")
  return found


def language_model(
  reader: Reader,
  settings: Mapping[str, Any],
  folder: str,
  text: str,
  length: int,
) -> tuple[Callable[[Any, Any], jax.Array], dict[str, np.ndarray]]:
  """Return how well a Llama predicts a text: the score, and its data.

  Args:
    reader: a checkpoint with the leaves of the merged model.
    settings: its config.json.
    folder: with its tokenizer.json.
    text: a file of text, or a `.npy` file of token ids.
    length: tokens that are predicted together.

  Returns:
    `score(leaves, data)`: minus the cross-entropy in nats of each sequence [N],
    and data with "x" and "y" [N, length].

  Raises:
    ValueError: naming the file, for a text without two tokens or with tokens
      beyond the vocabulary; for a model that is no Llama.
  """
  from weightspace import losses, models
  from weightspace.models import llama

  if llama.EMBED not in reader.kinds:
    raise ValueError(
      f"search.score: {reader.path!r} has no {llama.EMBED!r}, expected a Llama"
    )
  # A vocabulary that was aligned is another one than the config says.
  rows = reader.shape(llama.EMBED)[0]
  config = dict(settings) | {"vocab_size": rows}
  model = models.build("lm", **models.llama_hyper(config))
  ids = _ids(text, folder)
  if len(ids) < 2 or ids.min() < 0 or ids.max() >= rows:
    raise ValueError(
      f"search.text {text!r} has {len(ids)} tokens, expected at least 2, from 0"
      f" to {rows - 1}"
    )

  def score(leaves: Any, data: Any) -> jax.Array:
    logits = model.apply(models.from_llama(leaves, config), data["x"])
    return -losses.cross_entropy(logits, data["y"])

  return score, chunks(ids, min(length, len(ids) - 1))


def chunks(ids: np.ndarray, length: int) -> dict[str, np.ndarray]:
  """Return sequences [N, length] and what follows each of their tokens."""
  count = (len(ids) - 1) // length
  x, y = ids[: count * length], ids[1 : count * length + 1]
  return {"x": x.reshape(count, length), "y": y.reshape(count, length)}


def _ids(text: str, folder: str) -> np.ndarray:
  """Return the tokens of a file."""
  if not os.path.isfile(text):
    raise ValueError(f"search.text {text!r} is missing, expected a file")
  if text.endswith(".npy"):
    found = np.load(text, allow_pickle=False)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
      raise ValueError(
        f"search.text {text!r} is {found.dtype}{list(found.shape)}, expected"
        " whole numbers [N]"
      )
    return found.astype(np.int32)
  try:
    import tokenizers
  except ImportError:
    raise ValueError(
      f"search.text {text!r} needs the package tokenizers, or token ids in a"
      " .npy file"
    ) from None
  where = os.path.join(folder, "tokenizer.json")
  if not os.path.isfile(where):
    raise ValueError(f"{where!r} is missing, expected a tokenizer")
  with open(text, encoding="utf-8") as stream:
    found = tokenizers.Tokenizer.from_file(where).encode(stream.read())
  return np.array(found.ids, np.int32)
