"""Consistency training: a model agrees with itself along rays of noise.

The teacher is evaluated at the lower of two neighbouring noise levels, on the
same example and noise.  A teacher that lags behind (an EMA of the weights) has
a loss that forgets the data as levels grow finer; the student itself, stopped,
does not: `average.ema(0.0)`.

>>> pseudo_huber(jnp.array([3.0, 4.0]), jnp.zeros(2), 12.0).item()
1.0
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.generate.noise_levels import check_levels
from weightspace.types import Key

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]  # f(x, sigma)
Metric = Callable[[jax.Array, jax.Array], jax.Array]


def pseudo_huber(x: jax.Array, y: jax.Array, c: float | jax.Array) -> jax.Array:
  """Return sqrt(|x - y|^2 + c^2) - c: quadratic near 0, linear far from it.

  |x - y|^2 / (2 c) for distances far below c, |x - y| - c far above.

  Args:
    x: one vector [D], or a batch [B, ...], of which each example has a norm.
    y: of the same shape.
    c: above 0; the paper takes 0.00054 sqrt(D).

  Returns:
    [], or [B]; float32 or wider inside, in the dtype of x - y.

  Raises:
    ValueError: for c that is not above 0, or shapes that differ.

  >>> pseudo_huber(jnp.array([3.0, 4.0]), jnp.zeros(2), 12.0).item()
  1.0

  Song and Dhariwal 2023, "Improved techniques for training consistency models",
  https://arxiv.org/abs/2310.14189.
  """
  if trees.concrete(c) and not 0.0 < float(c) < float("inf"):
    raise ValueError(f"pseudo_huber: c is {c}, expected above 0")
  x, y = jnp.asarray(x), jnp.asarray(y)
  if x.shape != y.shape:
    raise ValueError(f"pseudo_huber: {x.shape} and {y.shape}, expected equal")
  given = jnp.result_type(x, y)
  dtype = given if jnp.issubdtype(given, jnp.floating) else jnp.float32
  gap = x.astype(trees.accumulator(dtype)) - y.astype(trees.accumulator(dtype))
  square = jnp.sum(gap**2, range(1 if gap.ndim > 1 else 0, gap.ndim))
  # The difference of two nearly equal numbers is written as a quotient.
  value = square / (jnp.sqrt(square + c * c) + c)
  return value.astype(dtype)


def consistency_loss(
  f: Denoiser,
  teacher: Denoiser | None,
  x: jax.Array,
  key: Key,
  sigmas: jax.Array,
  metric: Metric,
  *,
  shares: jax.Array | None = None,
  weights: jax.Array | None = None,
) -> jax.Array:
  """Return the mean of metric(f(x + s' z, s'), teacher(x + s z, s)).

  s < s' are neighbouring levels, drawn for each example; z ~ N(0, 1) is the
  same for both, and no gradient goes through the teacher.

  Args:
    f: `f(x, sigma)`: x [B, ...], sigma [B, 1, ...] of as many axes.
    teacher: of the same shape; None for f itself, as the paper has it.
    x: data [B, ...].
    key: draws levels and noise.
    sigmas: N >= 2 increasing levels, above 0.
    metric: `metric(a, b)` of two batches [B, ...] (of scalars: [B, 1]), the
      mean of whose result counts.
    shares: probabilities [N - 1] of the pairs, such as `lognormal_shares`;
      None for all equal.
    weights: factors [N - 1] of the pairs' losses, for a metric that returns
      [B]; the paper takes 1 / (s' - s).

  Returns:
    [].

  Raises:
    ValueError: for levels that are not increasing and positive, or shares or
      weights that are not [N - 1], not finite, negative or all 0.

  >>> f = lambda x, sigma: sigma * jnp.ones_like(x)
  >>> gap = lambda a, b: (a - b)[:, 0]
  >>> consistency_loss(f, None, jnp.ones((4, 1)), jax.random.key(0),
  ...   jnp.array([1.0, 3.0]), gap).item()
  2.0

  Song et al. 2023, https://arxiv.org/abs/2303.01469; Song and Dhariwal 2023,
  https://arxiv.org/abs/2310.14189.
  """
  what = "consistency_loss"
  sigmas, x = jnp.asarray(sigmas), jnp.asarray(x)
  check_levels(sigmas, what)
  pairs = len(sigmas) - 1
  shares = jnp.ones(pairs) if shares is None else jnp.asarray(shares)
  _check_pairs(shares, pairs, f"{what}: shares")
  if not x.ndim or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      f"{what}: x is {x.shape} {x.dtype}, expected floats [B, ..]"
    )
  at, noise = jax.random.split(key)
  lower = jax.random.categorical(at, jnp.log(shares), shape=(len(x),))
  z = jax.random.normal(noise, x.shape, x.dtype)

  def answer(g: Denoiser, level: jax.Array) -> jax.Array:
    sigma = sigmas[level].astype(x.dtype)
    sigma = sigma.reshape(-1, *(1,) * (x.ndim - 1))
    y = g(x + sigma * z, sigma)
    return y[:, None] if y.ndim == 1 else y

  target = jax.lax.stop_gradient(
    answer(f if teacher is None else teacher, lower)
  )
  values = jnp.asarray(metric(answer(f, lower + 1), target))
  if weights is not None:
    weights = jnp.asarray(weights)
    _check_pairs(weights, pairs, f"{what}: weights")
    if values.shape != (len(x),):
      raise ValueError(
        f"{what}: the metric gave {values.shape}, expected ({len(x)},) for"
        " weights"
      )
    values = values * weights[lower]
  return values.mean()


def _check_pairs(values: Any, pairs: int, what: str) -> None:
  if jnp.shape(values) != (pairs,):
    raise ValueError(f"{what} are {jnp.shape(values)}, expected ({pairs},)")
  if trees.concrete(values):
    numbers = np.asarray(values)
    if not (np.isfinite(numbers) & (numbers >= 0)).all() or not numbers.any():
      raise ValueError(f"{what} expected finite, >= 0 and not all zero")
