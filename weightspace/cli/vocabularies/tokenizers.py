"""Tokenizers as files: read for their tokens, written with new ones.

A tokenizer is the files of a model's folder; `tokenizer.json` says which token
has which row, and tokens are added to it as added tokens.

>>> made = with_tokens({MAIN: b'{"added_tokens": []}'}, {"x": 7}, {})
>>> json.loads(made[MAIN])["added_tokens"][0]["id"]
7
"""

import collections
import json
from collections.abc import Mapping
from typing import Any

from weightspace.cli.inputs import references

Files = dict[str, str | bytes]

MAIN, SETTINGS = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
NAMES = (
  MAIN,
  SETTINGS,
  "special_tokens_map.json",
  TEMPLATE,
  "added_tokens.json",
  "tokenizer.model",
  "spiece.model",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
)
SLOW = NAMES[4:]  # what tools without tokenizer.json read, in which nothing
# can be added
TEMPLATES = {
  "chatml": "{% for message in messages %}"
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
  " + '<|im_end|>\\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  "alpaca": "{% for message in messages %}"
  "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
  "{% elif message['role'] == 'user' %}"
  "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
  "{% else %}"
  "{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}"
  "{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
  "llama3": "{{ bos_token }}{% for message in messages %}"
  "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
  " + message['content'] + '<|eot_id|>' }}{% endfor %}"
  "{% if add_generation_prompt %}"
  "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
}


def vocabulary(folder: str) -> dict[str, int]:
  """Return {token: row} of a model's tokenizer.

  Raises:
    ValueError: naming a folder without `tokenizer.json`, or a kind of it that
      does not list its tokens.
  """
  found = references.table(folder, MAIN)
  listed = found.get("model", {}).get("vocab")
  if isinstance(listed, list):  # unigram: pairs of token and score
    listed = {pair[0]: row for row, pair in enumerate(listed)}
  if not isinstance(listed, dict):
    raise ValueError(
      f"{folder!r} has no {MAIN} that lists its tokens, expected one where"
      " vocabularies are to be aligned"
    )
  return {
    **listed,
    **{token["content"]: token["id"] for token in _added(found)},
  }


def special(folder: str) -> list[str]:
  """Return the special tokens of a model's tokenizer."""
  added = _added(references.table(folder, MAIN))
  return [token["content"] for token in added if token.get("special")]


def entries(folder: str) -> dict[str, Any]:
  """Return how a model's tokenizer describes its added tokens."""
  added = _added(references.table(folder, MAIN))
  return {token["content"]: token for token in added}


def _added(found: Mapping[str, Any]) -> list[dict[str, Any]]:
  return list(found.get("added_tokens") or [])


def with_tokens(
  files: Mapping[str, str | bytes],
  new: Mapping[str, int],
  known: Mapping[str, Any],
) -> Files:
  """Return a tokenizer's files with further tokens.

  Args:
    files: of the tokenizer.
    new: {token: row}, in order.
    known: how other tokenizers describe their added tokens.
  """
  if not new:
    return dict(files)
  made = {name: text for name, text in files.items() if name not in SLOW}
  main = json.loads(files[MAIN])
  plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
  plain["normalized"] = True
  added = []
  for token, row in new.items():
    entry = {**plain, **known.get(token, {}), "id": row, "content": token}
    added.append({"id": row, **entry})
  main["added_tokens"] = _added(main) + added
  made[MAIN] = _dump(main)
  settings = json.loads(files.get(SETTINGS, "{}"))
  if "added_tokens_decoder" in settings:
    for entry in added:
      inner = {name: x for name, x in entry.items() if name != "id"}
      settings["added_tokens_decoder"][str(entry["id"])] = inner
    made[SETTINGS] = _dump(settings)
  return made


def template(folder: str) -> str | None:
  """Return the chat template of a model; None where it has none."""
  found = references.files(folder, (TEMPLATE,))
  if found:
    return _text(found[TEMPLATE])
  inner = references.table(folder, SETTINGS).get("chat_template")
  return inner if isinstance(inner, str) else None


def with_template(
  files: Mapping[str, str | bytes], wanted: str, folders: list[str]
) -> Files:
  """Return a tokenizer's files with a chat template.

  Args:
    files: of the tokenizer.
    wanted: "auto" for the one that most models have, a name, or Jinja.
    folders: of the models.

  Raises:
    ValueError: for a name that is not known here.

  >>> with_template({}, "exaone", [])
  Traceback (most recent call last):
  ValueError: chat_template is 'exaone', expected auto, chatml, alpaca, ...
  """
  if wanted == "auto":
    votes = collections.Counter(filter(None, map(template, folders)))
    if not votes:
      return dict(files)
    wanted = votes.most_common(1)[0][0]
  elif wanted in TEMPLATES:
    wanted = TEMPLATES[wanted]
  elif "{" not in wanted:
    raise ValueError(
      f"chat_template is {wanted!r}, expected auto, {', '.join(TEMPLATES)}, or"
      " a Jinja template"
    )
  made = {**files, TEMPLATE: wanted}
  if SETTINGS in files:
    settings = json.loads(files[SETTINGS])
    settings.pop("chat_template", None)
    made[SETTINGS] = _dump(settings)
  return made


def _text(found: str | bytes) -> str:
  return found.decode() if isinstance(found, bytes) else found


def _dump(table: Mapping[str, Any]) -> str:
  return json.dumps(table, indent=2, ensure_ascii=False)
