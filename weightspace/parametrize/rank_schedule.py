"""How many ranks AdaLoRA keeps after each step.

>>> [rank_budget(t, 12, 4, 2, 3, 10) for t in range(11)]
[12, 12, 12, 8, 5, 4, 4, 4, 4, 4, 4]
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np


def rank_budget(step: Any, b0: int, bT: int, ti: int, tf: int, T: int) -> Any:
  """Return how many ranks are kept after a step, falling as a cubic.

  b0 for step <= ti, bT for step > T - tf, and between them
  floor(bT + (b0 - bT) (1 - (step - ti) / (T - ti - tf))^3).

  Args:
    step: a whole number, or an array of them, traced or not.
    b0: the budget at the start.
    bT: the budget at the end, at most b0.
    ti: steps before it falls.
    tf: steps after it has fallen, with ti + tf < T.
    T: steps in all.

  Returns:
    An int for an int, else an int32 array.

  Raises:
    ValueError: for numbers that are not in order.

  >>> rank_budget(5, 8, 4, 0, 0, 10)  # 4 + 4 / 8
  4

  Zhang et al. 2023, "AdaLoRA", https://arxiv.org/abs/2303.10512, equation 12.
  """
  if not 0 <= bT <= b0:
    raise ValueError(f"rank_budget: from {b0} to {bT}, expected 0 <= bT <= b0")
  if ti < 0 or tf < 0 or ti + tf >= T:
    raise ValueError(
      f"rank_budget: ti + tf is {ti} + {tf}, expected less than T = {T} and"
      " none below 0"
    )
  falls = _falls(b0, bT, ti, tf, T)
  if isinstance(step, int | np.integer):
    return b0 - int(np.searchsorted(falls, int(step), side="right"))
  passed = jnp.searchsorted(jnp.asarray(falls), step, side="right")
  return jnp.asarray(b0 - passed, jnp.int32)


@functools.lru_cache(maxsize=32)
def _falls(b0: int, bT: int, ti: int, tf: int, T: int) -> np.ndarray:
  """Return the step [b0 - bT] from which on each unit is gone.

  In float64, so that float32 under jit cannot round a whole budget down.
  """
  steps = np.arange(T + 1)
  left = 1.0 - (steps - ti) / (T - ti - tf)
  budget = np.floor(bT + (b0 - bT) * left**3)
  budget = np.where(steps <= ti, b0, np.where(steps > T - tf, bT, budget))
  budget[-1] = bT
  wanted = np.arange(b0 - 1, bT - 1, -1)
  return np.searchsorted(-budget, -wanted, side="left").astype(np.int32)
