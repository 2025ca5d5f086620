"""What stands beside a model's weights, and belongs to the merged one too.

Poolings, preprocessors, code and licences are copied from the model that gives
config.json; other weights, states of training and logs are not, and are named.

>>> kind("1_Pooling/config.json"), kind("optimizer.pt"), kind("README.md")
('text', 'other', 'own')
"""

import os
import re

from weightspace.checkpoints import readers

TEXT = re.compile(
  r"(\.(json|jinja|txt|py|model|tiktoken|ya?ml|bpe|vocab|spm)"
  r"|(^|/)(LICEN[CS]E|NOTICE|COPYING|USE_POLICY)[^/]*)$"
)
TOKENIZER = re.compile(
  r"(^|/)(tokenizer|vocab|merges|spiece|sentencepiece|tekken|added_tokens"
  r"|special_tokens)[^/]*$|chat_template"
)
# What a merge writes itself, and what speaks of one training only.
OWN = re.compile(
  r"(^|/)(config\.json|generation_config\.json|README[^/]*|weightspace\.json"
  r"|merge_report\.\w+|model_index\.json|[^/]*\.index\.json|adapter_config\.json"
  r"|quantize_config\.json|hf_quant_config\.json|mergekit_config\.ya?ml"
  r"|trainer_state\.json|\w+_results\.json|\.[^/]*)$"
)
NESTED = re.compile(r"^\d+_\w+$|^\w*(tokenizer|processor|extractor|scheduler)$")
LARGEST = 2**27  # bytes


def kind(name: str) -> str:
  """Return whether a file is copied: text or tokenizer, or own or other."""
  nested = "/" in name
  if OWN.search(name) and not (nested and name.endswith("/config.json")):
    return "own"
  if TOKENIZER.search(name):
    return "tokenizer"
  return "text" if TEXT.search(name) else "other"


def files(folder: str, tokenizer: bool) -> tuple[dict[str, bytes], list[str]]:
  """Return the files to copy from a model's folder, and those left out.

  Args:
    folder: of the model.
    tokenizer: copy the tokenizer's files too.
  """
  if not os.path.isdir(folder):
    return {}, []
  copied: dict[str, bytes] = {}
  weights = set(readers.weight_files(folder))
  left: list[str] = []
  for name in _names(folder):
    what, where = kind(name), os.path.join(folder, name)
    wanted = what == "text" or (what == "tokenizer" and tokenizer)
    if wanted and os.path.getsize(where) <= LARGEST:
      with open(where, "rb") as stream:
        copied[name] = stream.read()
    elif what == "other" and name not in weights:
      left.append(name)
  return copied, left


def _names(folder: str) -> list[str]:
  """Return the files of a folder and of the parts of its model."""
  found = []
  for name in sorted(os.listdir(folder)):
    where = os.path.join(folder, name)
    if os.path.isfile(where):
      found.append(name)
    elif NESTED.search(name):
      inner = sorted(os.listdir(where))
      files = [n for n in inner if os.path.isfile(os.path.join(where, n))]
      found += [f"{name}/{n}" for n in files]
  return found
