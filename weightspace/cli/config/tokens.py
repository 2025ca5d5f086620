"""What a configuration says of the output's vocabulary.

>>> found = parse({"tokenizer": {"tokens": {"<x>": {"source": "a"}}}})
>>> found.source, found.tokens["<x>"].model
('union', 'a')
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from weightspace.cli.config import keys


class Token(NamedTuple):
  """Where the rows of one token come from, where a model lacks it."""

  model: str | None  # None for zeros
  token: str | int | None = None  # of that model; None for the same token
  force: bool = False  # in models that have the token, too


class Tokenizer(NamedTuple):
  """The vocabulary of the output."""

  source: str  # union, base, or a model
  tokens: Mapping[str, Token] = {}
  multiple: int = 1  # of which the number of rows is to be one


def parse(table: Mapping[str, Any]) -> Tokenizer | None:
  """Return what `tokenizer` or `tokenizer_source` of a file say.

  Raises:
    ValueError: naming the first key that is unknown or cannot be honoured.
  """
  if table.get("tokenizer") and table.get("tokenizer_source"):
    raise ValueError("config: tokenizer and tokenizer_source, expected one")
  if table.get("tokenizer_source"):
    source = keys.text(table, "tokenizer_source") or ""
    return Tokenizer(source.removeprefix("model:"))
  if not table.get("tokenizer"):
    return None
  known = ("source", "tokens", "pad_to_multiple_of")
  entry = keys.table(table["tokenizer"], "tokenizer", known)
  multiple = entry.get("pad_to_multiple_of") or 1
  if type(multiple) is not int or multiple < 1:
    raise ValueError(
      f"tokenizer.pad_to_multiple_of is {multiple!r}, expected a whole number"
    )
  listed = keys.table(entry.get("tokens") or {}, "tokenizer.tokens", None)
  tokens = {str(name): _token(str(name), x) for name, x in listed.items()}
  source = keys.model(entry.get("source"), "tokenizer.source") or "union"
  return Tokenizer(source, tokens, multiple)


def _token(name: str, found: Any) -> Token:
  where = f"tokenizer.tokens.{name}"
  entry = keys.table(found, where, ("source", "force"))
  source, force = entry.get("source"), entry.get("force") or False
  if isinstance(source, str):
    return Token(source, None, force)
  inner = keys.table(source, where, ("kind", "model", "token", "token_id"))
  if inner.get("kind") == "zero":
    return Token(None, None, force)
  given = [inner[key] for key in ("token", "token_id") if key in inner]
  model = keys.model(inner.get("model"), f"{where}.model")
  if inner.get("kind") not in ("model_token", None) or len(given) > 1:
    raise ValueError(
      f"{where}: expected kind zero, or model_token with a model and one of"
      f" token or token_id, got {dict(inner)}"
    )
  if model is None:
    raise ValueError(f"{where}: model is missing, expected a path")
  return Token(model, given[0] if given else None, force)
