"""Numbers of a configuration, resolved for one leaf.

A value is a scalar, a gradient (a list, piecewise linear over the layers), or
filters: a list of {filter, value} of which the first whose filter is a part of
the leaf's name decides.  Where none fits, the next scope is asked: a source
before its slice, that before its module, that before the whole file.

>>> value = [{"filter": "mlp", "value": [0.0, 1.0]}, {"value": 0.5}]
>>> evaluate(value, "layers.2.mlp.up", 0.25), evaluate(value, "norm", 0.0)
(0.25, 0.5)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from weightspace.cli.config.schema import Parameters


def evaluate(setting: Any, leaf: str, place: float) -> Any:
  """Return the value of a setting for a leaf; None where no filter fits.

  Args:
    setting: a scalar, a gradient or filters.
    leaf: the name of the leaf.
    place: from 0 for the first layer of a slice to 1 for its last; leaves
      outside of the layers have 0, the norm and the head behind them too.

  Raises:
    ValueError: for a setting of another form.
  """
  if isinstance(setting, Mapping):
    return evaluate([setting], leaf, place)
  if not isinstance(setting, list):
    return plain(setting)
  if not setting:
    raise ValueError("an empty list, expected numbers or filters")
  tables = [isinstance(entry, Mapping) for entry in setting]
  if not any(tables):
    return _gradient([plain(entry) for entry in setting], place)
  if not all(tables):
    raise ValueError(f"{setting!r:.60}, expected numbers or filters, not both")
  for entry in setting:
    unknown = set(entry) - {"filter", "value"}
    if unknown or "value" not in entry:
      raise ValueError(f"{dict(entry)!r:.60}, expected value and filter")
    wanted = entry.get("filter")
    if wanted in (None, "*") or str(wanted) in leaf:
      return evaluate(entry["value"], leaf, place)
  return None


def plain(value: Any) -> Any:
  """Return a scalar; text that is a number, as YAML reads 1e-5, is one.

  >>> plain("1e-5"), plain("union"), plain(True)
  (1e-05, 'union', True)
  """
  if not isinstance(value, bool | int | float | str | None):
    raise ValueError(f"{value!r:.60}, expected a number, text, true or false")
  if isinstance(value, str):
    try:
      return float(value)
    except ValueError:
      return value
  return value


def _gradient(values: Sequence[Any], place: float) -> Any:
  """Interpolate numbers; of other values take the one at or before."""
  at = place * (len(values) - 1)
  below = min(math.floor(at), len(values) - 1)
  numbers = all(
    isinstance(v, int | float) and not isinstance(v, bool) for v in values
  )
  if not numbers or below == len(values) - 1 or at == below:
    return values[below]
  share = at - below
  return (1 - share) * values[below] + share * values[below + 1]


def look_up(
  name: str, scopes: Sequence[Parameters], leaf: str, place: float
) -> Any:
  """Return a parameter from the first scope that has it for this leaf.

  Returns:
    The value, or None where no scope has one.

  Raises:
    ValueError: naming the parameter, for a value of another form.

  >>> look_up("t", [{}, {"t": [0.0, 1.0]}, {"t": 9}], "a.1.b", 0.5)
  0.5
  """
  for scope in scopes:
    if name in scope:
      try:
        found = evaluate(scope[name], leaf, place)
      except ValueError as error:
        raise ValueError(f"parameter {name!r} is {error}") from None
      if found is not None:
        return found
  return None


def typed(name: str, value: Any, default: Any) -> Any:
  """Return a parameter's value, checked to be of its kind.

  Raises:
    ValueError: naming the parameter.

  >>> typed("t", 1, ...), typed("normalize", False, True)
  (1.0, False)
  """
  if isinstance(default, bool):
    if not isinstance(value, bool):
      raise ValueError(
        f"parameter {name!r} is {value!r}, expected true or false"
      )
    return value
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f"parameter {name!r} is {value!r}, expected a number")
  return float(value)
