"""What a package shows: its rooms and public names, and nothing else.

>>> lookup, names = face("weightspace.match", ["permute", "trace_axes"])
>>> names()
['permute', 'trace_axes']
>>> lookup("trace_axis")
Traceback (most recent call last):
...
AttributeError: module 'weightspace.match' has no attribute 'trace_axis', ...
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


def face(
  module: str, public: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """Return `__getattr__` and `__dir__` of a package with these names.

  Args:
    module: its name.
    public: what it shows; a name that is like one of them is suggested.

  >>> face("room", ["b", "a"])[1]()
  ['a', 'b']
  """
  names = sorted(public)

  def lookup(name: str) -> Any:
    raise AttributeError(unknown(module, name, names))

  return lookup, lambda: list(names)


def unknown(module: str, name: str, names: Iterable[str]) -> str:
  """Return the message about a name that is not there.

  >>> unknown("weightspace", "weigted_mean", ["weighted_mean"])
  "module 'weightspace' has no attribute 'weigted_mean', did you mean ..."
  """
  near = difflib.get_close_matches(name, list(names), 1)
  hint = f", did you mean {near[0]!r}?" if near else ""
  return f"module {module!r} has no attribute {name!r}{hint}"
