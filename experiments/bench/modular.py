"""Sums modulo a number, as pairs of one-hot vectors: what networks grok.

>>> train, test = sums(5, 0.6, jax.random.key(0))
>>> train["x"].shape, test["y"].shape
((15, 10), (10,))
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Data


def sums(modulus: int, share: float, key: Any) -> tuple[Data, Data]:
  """Return all sums a + b mod p as one-hot pairs, split into train and test."""
  a, b = np.divmod(np.arange(modulus**2), modulus)
  eye = np.eye(modulus, dtype=np.float32)
  data = {
    "x": np.concatenate([eye[a], eye[b]], 1),
    "y": ((a + b) % modulus).astype(np.int32),
  }
  order = np.asarray(jax.random.permutation(key, modulus**2))
  cut = int(share * modulus**2)
  return tuple(  # type: ignore[return-value]
    {k: jnp.asarray(v[part]) for k, v in data.items()}
    for part in (order[:cut], order[cut:])
  )
