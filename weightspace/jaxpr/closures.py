"""Functions by what they compute now: themselves, and what they close over.

Compiled programs are kept by the function that they came from.  A function that
reads a variable of another scope computes something else when that variable is
bound anew, and would get the program of before.  `fixed` gives such a function
another name for each set of values, so that equal values find their program and
others have one of their own.

>>> scale = {"of": 1.0}
>>> def loss(p, scale=scale): return p * scale["of"]
>>> first = fixed(loss)
>>> scale["of"] = 2.0
>>> fixed(loss) is first, fixed(loss) is fixed(loss), fixed(abs) is abs
(False, True, True)
"""

import collections
import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

KEPT, NODES = 256, 20_000  # functions at a time, values of one looked at
# Their globals are fixed; what their functions close over is not.
LIBRARIES = {"jax", "jaxlib", "flax", "optax", "numpy", "scipy", "weightspace"}
LIBRARIES |= {"equinox", "haiku", "orbax"} | set(sys.stdlib_module_names)
ATOMS = (bool, int, float, complex, str, bytes, type(None), np.dtype)

Place = tuple[Any, ...]  # where a value is kept in a function
Parts = Iterable[tuple[Any, Any]]


@dataclasses.dataclass(eq=False)
class _Same:
  """An object that is equal to itself alone, kept alive."""

  thing: Any

  def __eq__(self, other: Any) -> bool:
    return isinstance(other, _Same) and self.thing is other.thing

  def __hash__(self) -> int:
    return id(self.thing)


class _Walk:
  """The values of a function by their places, as far as they were looked at."""

  def __init__(self, function: Any):
    self.skipped = _written.get(_code(function), frozenset())
    self.tokens: dict[Place, Any] = {}
    self.places: dict[int, tuple[Place, Any]] = {}
    self.values = False  # whether any of them can change
    self.traced = False  # whether one belongs to an outer trace
    self.visit(function, ())

  def visit(self, thing: Any, place: Place) -> None:
    if place in self.skipped:
      return
    if isinstance(thing, ATOMS):
      self.values |= not isinstance(thing, str | bytes | type(None))
      equal = thing if thing == thing else "NaN"
      self.tokens[place] = type(thing), equal
    elif isinstance(thing, jax.Array | np.ndarray | np.generic):
      self.values = True
      self.traced |= isinstance(thing, jax.core.Tracer)
      self.tokens[place] = _Same(thing)
    elif id(thing) in self.places:
      self.tokens[place] = "see", self.places[id(thing)][0]
    elif len(self.places) > NODES:
      self.tokens[place] = _Same(thing)
    else:
      self.values |= isinstance(thing, list | dict | set | collections.deque)
      # Kept, so that no other object gets its number.
      self.places[id(thing)] = place, thing
      self.tokens[place], parts = _opened(thing)
      for name, part in parts:
        self.visit(part, (*place, name))


class _Fixed:
  """A function with the values that it has now."""

  def __init__(self, function: Callable[..., Any]):
    self.function = function
    name = getattr(function, "__qualname__", type(function).__name__)
    self.__qualname__, self.__name__ = name, name.rpartition(".")[2]

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    before = _Walk(self.function)
    result = self.function(*args, **kwargs)
    after = _Walk(self.function)
    if after.tokens != before.tokens:
      self._wrote(before.tokens, after.tokens)
    return result

  def _wrote(self, before: dict[Place, Any], after: dict[Place, Any]) -> None:
    """What a function itself writes (a count of its calls) is no input."""
    pairs = before.items() ^ after.items()
    changed = {place for place, _ in pairs}
    code = _code(self.function)
    _written[code] = _written.get(code, frozenset()) | changed
    _keep(_Walk(self.function), self)

  @property
  def __wrapped__(self) -> Callable[..., Any]:  # its signature is asked for
    return self.function


_known: collections.OrderedDict[Any, _Fixed] = collections.OrderedDict()
_written: dict[Any, frozenset[Place]] = {}


def fixed(function: Callable[..., Any]) -> Callable[..., Any]:
  """Return a function that stands for this one with its values of now.

  The same object for equal values; the function itself where there are none.
  Values are arrays (each equal to itself alone, never written to), numbers, and
  what containers, objects, classes, partials, methods, defaults and globals
  hold of them.

  Args:
    function: to be an argument of a compiled program, by which it is kept.

  >>> fixed(lambda x: x)(3.0)
  3.0
  """
  if not callable(function):  # whoever asked for one will name it
    return function
  if isinstance(function, _Fixed):
    function = function.function
  walk = _Walk(function)
  key = tuple(walk.tokens.items())
  if walk.traced:  # of an outer trace: to be kept by nobody
    return _Fixed(function)
  if key in _known:
    _known.move_to_end(key)
    _known[key].function = function  # that of before may have others now
    return _known[key]
  return _keep(walk, _Fixed(function)) if walk.values else function


def _keep(walk: _Walk, function: _Fixed) -> _Fixed:
  """Keep a function by these values, the latest of as many as are kept."""
  _known[tuple(walk.tokens.items())] = function
  while len(_known) > KEPT:
    _known.popitem(last=False)
  return function


def _code(function: Any) -> _Same:
  return _Same(getattr(function, "__code__", function))


def _opened(thing: Any) -> tuple[Any, Parts]:
  """Return what an object is, and what it is made of."""
  if isinstance(thing, types.FunctionType):
    return (_Same(thing.__code__), _Same(thing.__globals__)), _reads(thing)
  if isinstance(thing, types.MethodType):
    return "method", [("of", thing.__func__), ("self", thing.__self__)]
  if isinstance(thing, functools.partial):
    parts = ("of", thing.func), ("args", thing.args), ("names", thing.keywords)
    return functools.partial, parts
  if isinstance(thing, types.BuiltinFunctionType | types.ModuleType):
    return _Same(thing), ()
  if isinstance(thing, dict):
    names = [k if isinstance(k, ATOMS) else _Same(k) for k in thing]
    return type(thing), list(zip(names, thing.values()))
  if isinstance(thing, list | tuple | collections.deque):
    return (type(thing), len(thing)), enumerate(thing)
  if isinstance(thing, set | frozenset):
    return (type(thing), len(thing)), enumerate(sorted(thing, key=repr))
  if isinstance(thing, type):
    own = {} if _library(thing.__module__) else dict(vars(thing))
    return _Same(thing), [(n, v) for n, v in own.items() if n[:2] != "__"]
  return _object(thing)


def _object(thing: Any) -> tuple[Any, Parts]:
  """Return the leaves of a tree, or the attributes of an object."""
  try:
    leaves, structure = jax.tree.flatten(thing)
    hash(structure)
  except Exception:  # a structure of values without a hash
    leaves, structure = [thing], None
  is_tree = not (len(leaves) == 1 and leaves[0] is thing)
  known = _library(type(thing).__module__)
  own: dict[Any, Any] = dict(enumerate(leaves)) if is_tree else {}
  own["wrapped"] = getattr(thing, "__wrapped__", None)
  if dataclasses.is_dataclass(thing) and not (is_tree and known):
    names = [field.name for field in dataclasses.fields(thing)]
    own |= {name: getattr(thing, name, None) for name in names}
  elif not known:
    own |= getattr(thing, "__dict__", {})
    own |= {n: getattr(thing, n, None) for n in _slots(type(thing))}
  if not known:
    own["class"] = type(thing)
  return structure if is_tree else _Same(thing), list(own.items())


def _slots(kind: type) -> list[str]:
  slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
  return [n for s in slots for n in ((s,) if isinstance(s, str) else s)]


def _library(module: Any) -> bool:
  return str(module).partition(".")[0] in LIBRARIES


def _reads(function: Any) -> Parts:
  """Return what a function reads besides its arguments."""
  names = function.__code__.co_freevars
  cells = zip(names, map(_content, function.__closure__ or ()))
  own = "__defaults__", "__kwdefaults__", "__wrapped__"
  parts = [*cells, *((name, getattr(function, name, None)) for name in own)]
  if not _library(function.__module__):
    parts += _globals(function)
  return parts


def _content(cell: Any) -> Any:
  try:
    return cell.cell_contents
  except ValueError:  # not bound yet
    return None


def _globals(function: Any) -> Parts:
  """Return the globals, and attributes of modules, that a function names."""
  names: set[str] = set()
  codes = [function.__code__]
  for code in codes:
    names |= set(code.co_names)
    codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
  scope: dict[str, Any] = function.__globals__
  found: list[tuple[Any, Any]] = []
  for name in sorted(names & scope.keys()):
    value = scope[name]
    if not inspect.ismodule(value):
      found.append((f"global {name}", value))
    elif not _library(value.__name__):
      own = vars(value)
      found += [(f"{name}.{n}", own[n]) for n in sorted(names & own.keys())]
  return found
