"""Checks of hyper-parameters and of the number of models.

>>> option("scope", "tensor", ("tensor", "row"))
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees


def count(what: str, x: jax.Array, exactly: int = 0, least: int = 1) -> None:
  """Raise a ValueError unless a leaf has as many models as a method takes."""
  if exactly and len(x) != exactly:
    raise ValueError(f"{what}: {len(x)} models, expected {exactly}")
  if len(x) < least:
    raise ValueError(f"{what}: {len(x)} models, expected at least {least}")


def option(name: str, value: str, choices: Sequence[str]) -> None:
  """Raise a ValueError when a named option is not one of its choices."""
  if value not in choices:
    raise ValueError(f"{name} is {value!r}, expected one of {list(choices)}")


def number(
  name: str,
  value: float | np.ndarray | jax.Array,
  least: float = -np.inf,
  most: float = np.inf,
  *,
  many: bool = False,
) -> None:
  """Raise a ValueError for a value that is not one number in [least, most].

  Of traced values the shape alone is looked at; with `many` any shape will do.

  >>> number("rate", "0.5", 0, 1)
  Traceback (most recent call last):
  ValueError: rate is '0.5', expected a number in [0, 1]
  """
  expected = f"a number in [{least}, {most}]"
  expected = expected if least > -np.inf else "a finite number"
  concrete = trees.concrete(value)
  x: Any = np.asarray(value) if concrete else value
  real = (jnp.bool, jnp.integer, jnp.floating)
  fits = any(jnp.issubdtype(x.dtype, kind) for kind in real)
  fits = fits and (many or x.ndim == 0)
  if fits and concrete:
    fits = bool(np.all(np.isfinite(x) & (x >= least) & (x <= most)))
  if not fits:
    shown = repr(value) if isinstance(value, str) else value
    raise ValueError(f"{name} is {shown}, expected {expected}")


def key(name: str, value: Any) -> None:
  """Raise a ValueError for a value that is not a PRNG key.

  >>> key("key", 0)
  Traceback (most recent call last):
  ValueError: key is 0, expected a key such as jax.random.key(0)
  """
  if not hasattr(value, "dtype") or np.shape(value) not in ((), (2,), (4,)):
    raise ValueError(
      f"{name} is {value}, expected a key such as jax.random.key(0)"
    )
