"""Numbers per leaf and in total, as text and as JSON.

>>> print(text({"w": {"norm": 1.5}}, {"norm": 1.5}))
leaf    norm
w        1.5
total    1.5
"""

import json
import math
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]  # {column: number, list of numbers, or None}


def text(leaves: Mapping[str, Row], total: Row) -> str:
  """Return an aligned table with one row a leaf and one for the total.

  >>> print(text({"w": {"share": None}}, {"share": 0.25}))
  leaf     share
  w            -
  total     0.25
  """
  columns = list(total)
  rows = [["leaf", *columns]]
  for name, row in [*leaves.items(), ("total", total)]:
    rows.append([name, *(_cell(row.get(column)) for column in columns)])
  widths = [max(map(len, column)) for column in zip(*rows)]
  first, rest = widths[0], [width + 2 for width in widths[1:]]
  return "\n".join(
    row[0].ljust(first) + "".join(c.rjust(w) for c, w in zip(row[1:], rest))
    for row in rows
  )


def dump(tree: Any) -> str:
  """Return JSON; what is not finite becomes null.

  >>> dump({"a": float("nan"), "b": [1.0]})
  '{"a": null, "b": [1.0]}'
  """
  return json.dumps(_plain(tree), allow_nan=False)


def _plain(x: Any) -> Any:
  if isinstance(x, Mapping):
    return {str(name): _plain(value) for name, value in x.items()}
  if isinstance(x, list | tuple):
    return [_plain(value) for value in x]
  return None if isinstance(x, float) and not math.isfinite(x) else x


def _cell(x: Any) -> str:
  if x is None or (isinstance(x, float) and not math.isfinite(x)):
    return "-"
  if isinstance(x, list | tuple):
    return " ".join(map(_cell, x))
  return f"{x:.4g}" if isinstance(x, float) else str(x)
