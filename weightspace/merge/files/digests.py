"""What a recipe is made of, as a digest: the same work has the same digest.

A recipe is functions that closed over their hyper-parameters.  The digest
follows them: code, defaults, and whatever their closures hold, so that an
interrupted merge goes on only under the recipe that began it.

>>> from weightspace.merge.methods.ties import ties
>>> [digest(ties(0.2)) == digest(ties(other)) for other in (0.2, 0.3)]
[True, False]
"""

import functools
import hashlib
import re
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from weightspace.merge.core.recipe import Recipe


def digest(recipe: Recipe) -> str:
  """Return a short hash of the steps of a recipe and what they hold.

  Raises:
    ValueError: when a step holds something that has no lasting description.
  """
  return hashlib.sha256(_text(recipe.steps, ()).encode()).hexdigest()[:16]


def _text(value: Any, within: tuple[int, ...]) -> str:
  """Describe a value by what it holds, never by where it lies."""
  if id(value) in within:  # functions that hold each other
    return f"up {len(within) - within.index(id(value))}"
  inner = functools.partial(_text, within=(*within, id(value)))
  if value is None or isinstance(value, bool | int | float | str | bytes):
    return repr(value)
  if isinstance(value, jax.Array) and jax.dtypes.issubdtype(
    value.dtype, jax.dtypes.prng_key
  ):
    value = jax.random.key_data(value)
  if isinstance(value, jax.Array | np.ndarray | np.generic):
    array = np.asarray(value)
    data = hashlib.sha256(array.tobytes()).hexdigest()
    return f"{array.dtype}{array.shape}{data}"
  if isinstance(value, types.FunctionType):
    return _function(value, inner)
  if hasattr(value, "__wrapped__"):  # cached, or compiled
    return inner(value.__wrapped__)
  if isinstance(value, types.MethodType):
    return f"{inner(value.__func__)} of {inner(value.__self__)}"
  if isinstance(value, functools.partial):
    return f"{inner(value.func)}({inner(value.args)}{inner(value.keywords)})"
  if isinstance(value, Mapping):
    return "{" + ",".join(f"{k!r}:{inner(v)}" for k, v in value.items()) + "}"
  if isinstance(value, set | frozenset):
    return "{" + ",".join(sorted(map(inner, value))) + "}"
  if isinstance(value, tuple | list):
    return type(value).__name__ + "(" + ",".join(map(inner, value)) + ")"
  if isinstance(value, Recipe):
    return inner(value.steps)
  if isinstance(value, re.Pattern | np.dtype):
    return repr(value)
  name = getattr(value, "__qualname__", None)  # a class, a builtin, a ufunc
  name = name or getattr(value, "__name__", None)
  if name is None:
    raise ValueError(
      f"recipe: a step holds a {type(value).__name__}, which has no lasting"
      " description, expected numbers, arrays and functions"
    )
  return f"{getattr(value, '__module__', '')}.{name}"


def _function(value: types.FunctionType, inner: Any) -> str:
  """Describe a function: its code, defaults and closure."""
  name = f"{value.__module__}.{value.__qualname__}"
  cells = []
  for variable, cell in zip(
    value.__code__.co_freevars, value.__closure__ or ()
  ):
    try:
      held = cell.cell_contents
    except ValueError:  # not filled yet
      continue
    cells.append(f"{variable}={inner(held)}")
  code = hashlib.sha256(value.__code__.co_code).hexdigest()[:8]
  return f"{name}:{code}{inner(value.__defaults__)}[{';'.join(cells)}]"
