"""Masks that are learned: a hard choice forward, a gradient backward.

>>> scores = jnp.array([0.2, 0.9, -0.4])
>>> straight_through(scores, 0.34).tolist()
[0.0, 1.0, 0.0]
>>> jax.grad(lambda s: (straight_through(s, 0.34) * 3.0).sum())(scores).tolist()
[3.0, 3.0, 3.0]
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.sparse import selection
from weightspace.types import Params

TEMPERATURE = 2 / 3
STRETCH = (-0.1, 1.1)


def straight_through(
  scores: Params, density: Any, scope: str = "leaf"
) -> Params:
  """Return the mask of `top` as numbers whose gradient goes to all scores.

  Forward 0 or 1, exactly; backward the identity, also where nothing is kept.

  Args:
    scores: a tree of real numbers.
    density: as in `top`.
    scope: as in `top`.

  Returns:
    Numbers, in the shapes and dtypes of `scores`.

  Raises:
    ValueError: as `top`.

  >>> straight_through(jnp.array([1.0, 2.0]), 0.5).tolist()
  [0.0, 1.0]

  Bengio et al. 2013, https://arxiv.org/abs/1308.3432; on scores of masks
  Ramanujan et al. 2020, https://arxiv.org/abs/1911.13299.
  """
  mask = selection.top(jax.lax.stop_gradient(scores), density, scope)
  return jax.tree.map(
    # The bracket is exactly 0, and is what the gradient goes through.
    lambda s, keep: keep.astype(s.dtype) + (s - jax.lax.stop_gradient(s)),
    jax.tree.map(jnp.asarray, scores),
    mask,
  )


def supermask(scores: Params, density: Any) -> Params:
  """Return the gates of the largest |scores|, the gradient straight through.

  A subnetwork is the product of frozen weights with it; the sign of a score
  only says which way its magnitude grows.

  Args:
    scores: a tree of real numbers.
    density: the share of each leaf that is kept ("sparsity" in the code).

  Returns:
    Numbers, in the shapes and dtypes of `scores`: 0 or 1.

  Raises:
    ValueError: as `top`.

  >>> supermask(jnp.array([-2.0, 1.0]), 0.5).tolist()
  [1.0, 0.0]

  Yadav & Bansal 2023, https://arxiv.org/abs/2210.10209; Wortsman et al. 2020,
  "Supermasks in superposition", https://arxiv.org/abs/2006.14769.
  """
  return straight_through(jax.tree.map(jnp.abs, scores), density)


def hard_concrete(
  log_alpha: Params,
  uniform: Params,
  temperature: float = TEMPERATURE,
  stretch: tuple[float, float] = STRETCH,
) -> Params:
  """Return random gates in [0, 1] that are exactly 0 or 1 with some chance.

  s = sigmoid((log u - log(1 - u) + log alpha) / temperature), stretched to
  (low, high) and cut to [0, 1].

  Args:
    log_alpha: a tree of numbers [...]; large ones open the gate.
    uniform: numbers in [0, 1], a tree of the same shapes; 0.5 everywhere gives
      the medians.
    temperature: above 0; smaller is closer to a coin.
    stretch: low <= 0 and high >= 1.

  Returns:
    Gates, in the shapes and dtypes of `log_alpha`.

  Raises:
    ValueError: for a temperature or a stretch out of range, for uniform numbers
      of other shapes or outside of [0, 1] (on concrete values).

  >>> hard_concrete(jnp.array([-4.0, 0.0, 4.0]), jnp.full(3, 0.5)).tolist()
  [0.0, 0.5, 1.0]

  Louizos et al. 2018, "Learning sparse neural networks through L0
  regularization", https://arxiv.org/abs/1712.01312.
  """
  _check_concrete("hard_concrete", temperature, stretch)
  low, high = stretch

  def leaf(path: str, location: Any, u: Any) -> jax.Array:
    location, u = jnp.asarray(location), jnp.asarray(u)
    if location.shape != u.shape:
      raise ValueError(
        f"hard_concrete: uniform {path!r} is {u.shape}, expected"
        f" {location.shape}"
      )
    if trees.concrete(u) and not bool(((u >= 0) & (u <= 1)).all()):
      raise ValueError(
        f"hard_concrete: uniform {path!r} leaves [0, 1], expected shares"
      )
    dtype = trees.accumulator(jnp.result_type(location, jnp.bfloat16))
    x = location.astype(dtype)
    edge = jnp.finfo(dtype).tiny, 1 - jnp.finfo(dtype).epsneg
    logit = jax.scipy.special.logit(jnp.clip(u.astype(dtype), *edge))
    s = jax.nn.sigmoid((logit + x) / temperature)
    gate = jnp.clip(s * (high - low) + low, 0, 1)
    return gate.astype(location.dtype)

  return trees.map_named(leaf, log_alpha, uniform)


def open_chance(
  log_alpha: Params,
  temperature: float = TEMPERATURE,
  stretch: tuple[float, float] = STRETCH,
) -> Params:
  """Return the chance that a hard-concrete gate is not 0.

  sigmoid(log alpha - temperature log(-low / high)); its sum is the expected
  number of open gates, which training can make small.

  Args:
    log_alpha: a tree of numbers.
    temperature: as in `hard_concrete`.
    stretch: as in `hard_concrete`.

  Returns:
    Shares, in the shapes of `log_alpha`.

  Raises:
    ValueError: for a temperature or a stretch out of range.

  >>> open_chance(jnp.array([0.0])).round(3).tolist()
  [0.832...]

  Louizos et al. 2018, https://arxiv.org/abs/1712.01312, equation 12.
  """
  _check_concrete("open_chance", temperature, stretch)
  low, high = stretch
  if low == 0:
    return jax.tree.map(lambda x: jnp.ones_like(jnp.asarray(x)), log_alpha)
  shift = temperature * math.log(-low / high)
  return jax.tree.map(
    lambda x: jax.nn.sigmoid(jnp.asarray(x) - shift), log_alpha
  )


def _check_concrete(
  what: str, temperature: float, stretch: tuple[float, float]
) -> None:
  if not temperature > 0:
    raise ValueError(
      f"{what}: temperature is {temperature}, expected a number above 0"
    )
  if not stretch[0] <= 0 or not stretch[1] >= 1:
    raise ValueError(
      f"{what}: stretch is {stretch}, expected (low <= 0, high >= 1)"
    )
