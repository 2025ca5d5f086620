"""Noise levels of consistency models, and how often each of them is drawn.

>>> levels = karras_levels(3, low=1.0, high=9.0, power=1.0)
>>> levels.tolist()
[1.0, 5.0, 9.0]
>>> lognormal_shares(levels).round(3).tolist()
[0.842..., 0.158...]
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees


def karras_levels(
  count: int, low: float = 0.002, high: float = 80.0, power: float = 7.0
) -> jax.Array:
  """Return levels [N] whose roots are spaced evenly, from low to high.

  (low^{1/p} + i / (N - 1) (high^{1/p} - low^{1/p}))^p.

  >>> karras_levels(2).round(3).tolist()
  [0.002..., 80.0]

  Karras et al. 2022, https://arxiv.org/abs/2206.00364 (equation 5).
  """
  if count < 2 or not 0 < low < high or not power > 0:
    raise ValueError(
      f"karras_levels: {count} levels from {low} to {high} with power {power},"
      " expected at least 2, 0 < low < high and power > 0"
    )
  ends = np.array([low, high]) ** (1 / power)
  levels = (ends[0] + np.linspace(0, 1, count) * (ends[1] - ends[0])) ** power
  levels[0], levels[-1] = low, high
  return jnp.asarray(levels, jnp.float32)


def lognormal_shares(
  sigmas: jax.Array, mean: float = -1.1, deviation: float = 2.0
) -> jax.Array:
  """Return the probability of each pair of neighbours under a lognormal level.

  p_i = Phi((ln s_{i+1} - m) / d) - Phi((ln s_i - m) / d), divided by their sum.

  Args:
    sigmas: increasing levels [N].
    mean: m, of ln sigma.
    deviation: d, above 0.

  Returns:
    [N - 1], summing to 1.

  >>> lognormal_shares(jnp.array([0.1, 1.0, 10.0])).sum().item()
  1.0

  Song and Dhariwal 2023, https://arxiv.org/abs/2310.14189 (section 3.5).
  """
  check_levels(sigmas, "lognormal_shares")
  if not deviation > 0:
    raise ValueError(
      f"lognormal_shares: deviation is {deviation}, expected above 0"
    )
  places = jax.scipy.special.ndtr((jnp.log(sigmas) - mean) / deviation)
  shares = jnp.diff(places)
  return shares / shares.sum()


def level_count(
  step: int, steps: int, first: int = 10, last: int = 1280
) -> int:
  """Return how many levels there are at a step: doubled at even intervals.

  N(k) = min(first 2^floor(k / K'), last) + 1 with
  K' = floor(K / (log2 floor(last / first) + 1)).

  >>> [level_count(k, 80) for k in (0, 10, 79)]
  [11, 21, 1281]

  Song and Dhariwal 2023, https://arxiv.org/abs/2310.14189 (section 3.4).
  """
  if not 0 <= step < steps or not 1 <= first <= last:
    raise ValueError(
      f"level_count: step {step} of {steps}, {first} to {last} levels, expected"
      " 0 <= step < steps and 1 <= first <= last"
    )
  each = max(int(steps // (np.log2(last // first) + 1)), 1)
  return min(first * 2 ** (step // each), last) + 1


def check_levels(sigmas: Any, what: str) -> None:
  """Raise a ValueError unless levels are two or more, positive, increasing."""
  if jnp.ndim(sigmas) != 1 or len(sigmas) < 2:
    raise ValueError(
      f"{what}: sigmas are {jnp.shape(sigmas)}, expected [N] with N >= 2"
    )
  if trees.concrete(sigmas):
    levels = np.asarray(sigmas)
    if not (np.isfinite(levels).all() and levels[0] > 0):
      raise ValueError(f"{what}: sigmas are {levels}, expected above 0")
    if not (np.diff(levels) > 0).all():
      at = int(np.argmin(np.diff(levels) > 0))
      raise ValueError(
        f"{what}: sigma {at} is {levels[at]:g} and the next {levels[at + 1]:g},"
        " expected increasing levels"
      )
