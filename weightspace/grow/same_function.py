"""Whether a model that has grown still is the same function.

>>> import numpy as np
>>> def apply(p, x): return p * x
>>> check_function("widen", (apply, 1.0), (apply, 2.0), np.ones(1))
Traceback (most recent call last):
ValueError: widen: outputs change by 1 of 1, expected the same function
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Apply, Params


def check_function(
  what: str, old: tuple[Apply, Params], new: tuple[Apply, Params], x: Any
) -> None:
  """Raise a ValueError where a concrete model has another function."""
  if not trees.concrete(new[1], x):
    return
  wanted, got = (
    [np.asarray(y, np.complex64) for y in jax.tree.leaves(apply(params, x))]
    for apply, params in (old, new)
  )
  dtypes = [jnp.result_type(p) for p in jax.tree.leaves(old[1])]
  eps = max(jnp.finfo(d).eps for d in dtypes if jnp.issubdtype(d, jnp.inexact))
  for a, b in zip(wanted, got, strict=True):
    change = np.abs(a - b).max(initial=0.0)
    if not change <= np.sqrt(float(eps)) * np.abs(a).max(initial=1e-30):
      raise ValueError(
        f"{what}: outputs change by {change:.2g} of {np.abs(a).max():.2g},"
        " expected the same function"
      )
