"""The section `search` of a configuration: what is searched, by which score.

>>> asked = parse({"parameters": {"scale": [0, 2]}, "score": "scoring:near"})
>>> asked.bounds, asked.budget
({'scale': (0.0, 2.0)}, 100)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from weightspace.cli.config import keys
from weightspace.cli.search import scores

KEYS = ("parameters", "budget", "key", "score", "text", "length")


class Search(NamedTuple):
  """What is searched, by which score."""

  bounds: Mapping[str, tuple[float, float]]
  score: str  # "module:function" or "language_model"
  budget: int = 100  # mixes that are scored
  key: int = 0  # of the draws
  text: str | None = None  # for language_model
  length: int = 256  # tokens of a sequence


def parse(found: Any) -> Search:
  """Return the section `search` of a configuration.

  Raises:
    ValueError: naming the first key that is unknown, missing or not of its
      kind.

  >>> parse({"parameters": {"scale": [2, 0]}, "score": "a:b"})
  Traceback (most recent call last):
  ValueError: search.parameters.scale is [2, 0], expected [least, largest]
  """
  table = keys.table(found, "search", KEYS)
  bounds = _bounds(table.get("parameters"))
  whole = {}
  for name, least in (("budget", 1), ("key", 0), ("length", 1)):
    value = table.get(name, Search._field_defaults[name])
    if type(value) is not int or value < least:
      raise ValueError(
        f"search.{name} is {value!r}, expected a whole number from {least} on"
      )
    whole[name] = value
  score, text = keys.text(table, "score"), keys.text(table, "text")
  built_in = score == scores.LANGUAGE_MODEL
  if score is None or not (built_in or ":" in score):
    raise ValueError(
      f"search.score is {score!r}, expected module:function or"
      f" {scores.LANGUAGE_MODEL}"
    )
  if built_in != (text is not None):
    raise ValueError(
      f"search.text is {text!r}, expected a file with score"
      f" {scores.LANGUAGE_MODEL}, and with no other"
    )
  return Search(bounds, score, text=text, **whole)


def _bounds(found: Any) -> dict[str, tuple[float, float]]:
  """Return the ends between which each parameter is searched."""
  bounds = {}
  given = keys.table(found, "search.parameters", None)
  for name, ends in given.items():
    good = isinstance(ends, list) and len(ends) == 2 and all(map(_number, ends))
    if not good or not ends[0] < ends[1]:
      raise ValueError(
        f"search.parameters.{name} is {ends!r}, expected [least, largest]"
      )
    bounds[str(name)] = (float(ends[0]), float(ends[1]))
  if not bounds:
    raise ValueError("search.parameters is empty, expected at least one")
  return bounds


def _number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
