"""The noise of gradients: how large a batch is before it stops helping.

>>> data = jnp.array([1.0, 3.0])
>>> found = noise_scale(lambda w, x: w * x, jnp.ones(()), data)
>>> found.trace.item(), found.square.item()  # 2 of variance; 2^2 - 2 / 2
(2.0, 3.0)
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures, convolutions
from weightspace.losses import objectives
from weightspace.types import Data, Loss, Params


class NoiseScale(NamedTuple):
  """The simple gradient noise scale and what it is made of."""

  value: jax.Array  # tr(Sigma) / |G|^2, in examples
  stderr: jax.Array  # by the jackknife over examples
  trace: jax.Array  # tr(Sigma), unbiased
  square: jax.Array  # |G|^2, unbiased: may be negative near a minimum


def noise_scale(
  loss: Loss, params: Params, data: Data, batch: int = 16
) -> NoiseScale:
  """Return B = tr(Sigma) / |G|^2 from the gradients of single examples.

  With g_n, their mean g and N examples: tr(Sigma) = sum |g_n - g|^2 / (N - 1)
  and |G|^2 = |g|^2 - tr(Sigma) / N, both unbiased.

  Args:
    loss: `loss(params, data)`, one per example [N].
    params: one model.
    data: [N, ...], N >= 3.
    batch: examples whose gradients are held at a time.

  Returns:
    NoiseScale.

  Raises:
    ValueError: for a loss that is one number, or too few examples.

  >>> x = jnp.array([1.0, 3.0, 2.0])
  >>> round(noise_scale(lambda w, x: w * x, jnp.ones(()), x).value.item(), 4)
  0.2727

  McCandlish et al. 2018, https://arxiv.org/abs/1812.06162; the jackknife is
  ours.
  """
  loss = closures.fixed(loss)
  count = objectives.examples(loss, params, data, "noise_scale")
  if count is None or count < 2:
    raise ValueError("noise_scale: needs a loss that returns [N], N >= 2")
  norms, inner, square = _norms(loss, trees.widened(params), data, batch)
  total = norms.sum()

  def scale(n: jax.Array, total: jax.Array, square: jax.Array) -> jax.Array:
    spread = (total - n * square) / (n - 1)
    return jnp.stack([spread, square - spread / n])

  trace, unbiased = scale(jnp.asarray(float(count)), total, square)
  # Without example n: |N g - g_n|^2 / (N - 1)^2, from numbers that are known.
  left = (count**2 * square - 2 * count * inner + norms) / (count - 1) ** 2
  if count > 2:
    parts = scale(jnp.asarray(count - 1.0), total - norms, left)
    values = parts[0] / parts[1]
    spread = ((values - values.mean()) ** 2).sum()
    error = jnp.sqrt((count - 1) / count * spread)
  else:
    error = jnp.asarray(jnp.inf)
  return NoiseScale(trace / unbiased, error, trace, unbiased)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _norms(
  loss: Loss, params: Params, data: Data, batch: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return |g_n|^2 [N], <g_n, g> [N] and |g|^2 []."""
  chosen = objectives.inexact_leaves(params, "noise_scale")
  leaves, structure = jax.tree.flatten(params)

  def of(free: list[jax.Array], block: Data) -> jax.Array:
    whole = list(leaves)
    for n, x in zip(chosen, free):
      whole[n] = x
    value = loss(jax.tree.unflatten(structure, whole), block)
    return jnp.mean(value.astype(jnp.promote_types(value.dtype, jnp.float32)))

  free = [jnp.asarray(leaves[n]) for n in chosen]
  mean = jax.grad(of)(free, data)

  def one(example: Data) -> tuple[jax.Array, jax.Array]:
    own = jax.grad(of)(free, jax.tree.map(lambda x: x[None], example))
    return _dot(own, own), _dot(own, mean)

  norms, inner = jax.lax.map(
    convolutions.canonical(one), data, batch_size=batch
  )
  return norms, inner, _dot(mean, mean)


def _dot(x: list[jax.Array], y: list[jax.Array]) -> jax.Array:
  wide = [[a.astype(trees.accumulator(a.dtype)) for a in z] for z in (x, y)]
  return jnp.stack([jnp.vdot(a, b) for a, b in zip(*wide)]).sum()


def noise_scale_of_norms(
  small: float, large: float, sizes: tuple[int, int]
) -> tuple[float, float]:
  """Return (tr(Sigma), |G|^2) from gradient norms at two batch sizes.

  |G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b); tr(Sigma) = (|g_b|^2 - |g_B|^2) /
  (1/b - 1/B).  Average both over steps before dividing one by the other.

  Args:
    small: |g_b|^2, a mean over batches of b.
    large: |g_B|^2.
    sizes: (b, B), b < B.

  Raises:
    ValueError: when b is not below B.

  >>> noise_scale_of_norms(3.0, 2.0, (1, 2))
  (2.0, 1.0)

  McCandlish et al. 2018, appendix A.1, https://arxiv.org/abs/1812.06162.
  """
  low, high = sizes
  if not 0 < low < high:
    raise ValueError(f"sizes: {sizes}, expected b < B")
  square = (high * large - low * small) / (high - low)
  spread = (small - large) / (1 / low - 1 / high)
  return float(np.asarray(spread)), float(np.asarray(square))
