"""Checks of hyper-parameters and of the number of models.

>>> option("scope", "tensor", ("tensor", "row"))
"""

from collections.abc import Sequence

import jax
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
  value: float | jax.Array,
  least: float = -np.inf,
  most: float = np.inf,
) -> None:
  """Raise a ValueError for a concrete value that is not in [least, most]."""
  if not trees.concrete(value):
    return
  x = np.asarray(value)
  if not np.all(np.isfinite(x) & (x >= least) & (x <= most)):
    expected = "a finite number"
    if least > -np.inf:
      expected = f"a number in [{least}, {most}]"
    raise ValueError(f"{name} is {value}, expected {expected}")
