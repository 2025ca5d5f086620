"""Checks of the hyper-parameters of a model, made when it is built.

Each takes a flax module, looks at fields by name and raises one ValueError that
names the model, the field, its value and what was expected.

>>> import types
>>> whole(types.SimpleNamespace(width=0), "width")
Traceback (most recent call last):
ValueError: simplenamespace: width is 0, expected a whole number of at least 1
"""

from collections.abc import Sequence
from typing import Any


def fail(module: Any, field: str, expected: str) -> None:
  """Raise the one error for a field whose value cannot be built.

  Raises:
    ValueError: always.
  """
  model = type(module).__name__.lower()
  value = getattr(module, field)
  raise ValueError(f"{model}: {field} is {value!r}, expected {expected}")


def _is_whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def whole(module: Any, *fields: str) -> None:
  """Require whole numbers of at least 1."""
  for field in fields:
    if not _is_whole(getattr(module, field)):
      fail(module, field, "a whole number of at least 1")


def sizes(module: Any, *fields: str, least: int = 1) -> None:
  """Require tuples of at least `least` whole numbers, each at least 1."""
  for field in fields:
    value = getattr(module, field)
    fits = isinstance(value, tuple) and len(value) >= least
    if not fits or not all(map(_is_whole, value)):
      fail(module, field, f"a tuple of {least} or more whole numbers above 0")


def choice(module: Any, field: str, options: Sequence[Any]) -> None:
  """Require one of the options."""
  if getattr(module, field) not in options:
    fail(module, field, f"one of {', '.join(map(repr, options))}")


def image(module: Any, x: Any) -> None:
  """Require a batch of images [B, H, W, C].

  Raises:
    ValueError: naming the shape found.
  """
  if x.ndim != 4:
    model = type(module).__name__.lower()
    raise ValueError(f"{model}: x is {x.shape}, expected images [B, H, W, C]")
