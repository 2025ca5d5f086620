"""Decays of an EMA that change from update to update.

>>> decay = warmup(0.999)
>>> [round(decay(jnp.array(t)).item(), 2) for t in (0, 10, 10**6)]
[0.1, 0.55, 1.0]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def warmup(decay: float) -> Callable[[jax.Array], jax.Array]:
  """Return the decay min(d, (1 + t) / (10 + t)) after t updates, for `ema`.

  >>> warmup(0.999)(jnp.array(0)).item()
  0.10000000149011612

  As in TensorFlow's ExponentialMovingAverage with `num_updates`.
  """
  return lambda t: jnp.minimum(decay, (1.0 + t) / (10.0 + t))


def power(sigma: float) -> Callable[[jax.Array], jax.Array]:
  """Return the decay (1 - 1/t)^(gamma + 1) of a power-function EMA, for `ema`.

  Its weights grow as t^gamma, so its width is a fixed share of the run: with
  sigma^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

  Args:
    sigma: the relative width, between 0 and 0.2886 (gamma = 0, the mean).

  Raises:
    ValueError: for a width out of range.

  >>> round(power(0.1)(jnp.array(99)).item(), 4)  # the hundredth update
  0.9233

  Karras et al. 2024, "Analyzing and improving the training dynamics of
  diffusion models", https://arxiv.org/abs/2312.02696, section 3.1.
  """
  gamma = exponent(sigma)
  return lambda t: (1.0 - 1.0 / (1.0 + t)) ** (gamma + 1.0)


def exponent(sigma: float) -> float:
  """Return gamma of a power-function EMA of relative width sigma.

  >>> round(exponent(0.05), 2)
  16.97
  """
  if not 0.0 < sigma <= 12**-0.5 + 1e-9:
    raise ValueError(f"power: sigma is {sigma}, expected 0 < sigma <= 0.2887")
  inverse = sigma**-2
  roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
  return max(float(roots.real.max()), 0.0)
