"""Weights trained in few levels: rounded forward, not rounded backward.

The levels are s (i + 1/2) / n for i = -n .. n - 1, n = 2^(bits - 1), with none
at zero; s is twice the mean magnitude of an output (StatsQ) or learned (LSQ).

>>> statsq(jnp.array([1.5, 0.5, -0.5, -1.5]), bits=2).tolist()  # s = 2
[1.5, 0.5, -0.5, -1.5]
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.parametrize import leaf
from weightspace.parametrize.low_rank import Make
from weightspace.types import Key, Params

EDGE = 1e-6  # keeps w = s below the level above the last


@flax.struct.dataclass
class StatsQ:
  """A latent array in few levels, whose scale is a statistic of it."""

  w: Any
  bits: int = flax.struct.field(pytree_node=False, default=2)

  def value(self) -> jax.Array:
    """Return the levels, straight through to the latent array."""
    return statsq(self.w, self.bits)

  def position(self) -> jax.Array:
    """Return where each weight lies among the levels, before rounding."""
    w = leaf.wide(self.w)
    return _position(w, _scale(w), self.bits)

  def codes(self) -> jax.Array:
    """Return the level of each weight, -n .. n - 1."""
    return jnp.round(self.position()).astype(jnp.int8)


@flax.struct.dataclass
class LearnedScale:
  """A latent array in few levels, whose scale for each output is learned."""

  w: Any
  scale: Any  # [1, ..., 1, out]
  bits: int = flax.struct.field(pytree_node=False, default=2)

  def value(self) -> jax.Array:
    """Return the levels, straight through to the array and the scale.

    A weight beyond the scale gets no slope; the scale's slope is divided by
    sqrt(weights n), as in LSQ.
    """
    w, count = leaf.wide(self.w), 2 ** (self.bits - 1)
    rate = 1.0 / np.sqrt(w.size / leaf.wide(self.scale).size * count)
    scale = leaf.wide(self.scale)
    scale = rate * scale + jax.lax.stop_gradient((1.0 - rate) * scale)
    share = jnp.clip(w / scale, -1.0, 1.0 - EDGE)
    level = _level(_position(w, scale, self.bits), count)
    through = share + jax.lax.stop_gradient(level - share)
    return (scale * through).astype(leaf.array(self.w).dtype)

  def position(self) -> jax.Array:
    """Return where each weight lies among the levels, before rounding."""
    return _position(leaf.wide(self.w), leaf.wide(self.scale), self.bits)

  def codes(self) -> jax.Array:
    """Return the level of each weight, -n .. n - 1."""
    return jnp.round(self.position()).astype(jnp.int8)


def statsq(w: Any, bits: int = 2) -> jax.Array:
  """Return weights in 2^bits levels, with the slope of the identity.

  s = 2 mean |w| of each output, taken as a number; n = 2^(bits - 1);
  q = s (round(clip(w / s, -1, 1 - 1e-6) n - 1/2) + 1/2) / n, half to even.

  Args:
    w: [..., out], an output being the last axis; an array of one axis is one
      output.
    bits: 2 to 8.

  Returns:
    Shaped as w, in its dtype; its gradient is one everywhere.

  Raises:
    ValueError: for other bits, or (on concrete values) an output that is all
      zero, whose scale would be none.

  >>> w = jnp.array([[3.0], [-1.0]])  # s = 4
  >>> statsq(w).ravel().tolist()
  [3.0, -1.0]
  >>> jax.grad(lambda w: statsq(w).sum())(w).ravel().tolist()
  [1.0, 1.0]

  Liu et al. 2023, "Oscillation-free quantization for low-bit vision
  transformers", https://arxiv.org/abs/2302.02210, and its code.
  """
  _check_bits(bits)
  y = leaf.wide(w)
  scale = _scale(y)
  if trees.concrete(scale) and not np.all(np.asarray(scale) > 0):
    raise ValueError("statsq: an output is all zero or NaN, expected weights")
  count = 2 ** (bits - 1)
  levels = scale * _level(_position(y, scale, bits), count)
  # Added to exactly zero, so that the levels are exact.
  found = jax.lax.stop_gradient(levels) + (y - jax.lax.stop_gradient(y))
  return found.astype(leaf.array(w).dtype)


def stats_quantised(bits: int = 2) -> Make:
  """Return what makes a `StatsQ` leaf of an array, for `attach`.

  >>> stats_quantised(2)(None, jnp.ones((2, 2))).codes().tolist()
  [[0, 0], [0, 0]]
  """
  _check_bits(bits)

  def make(key: Key | None, x: Any) -> StatsQ:
    return StatsQ(x, bits)

  return make


def scale_learned(bits: int = 2) -> Make:
  """Return what makes a `LearnedScale` leaf, which begins at StatsQ's scale.

  >>> scale_learned(2)(None, jnp.ones((3, 2))).scale.tolist()
  [[2.0, 2.0]]

  Esser et al. 2020, "Learned step size quantization",
  https://arxiv.org/abs/1902.08153; the levels are those of StatsQ, so that
  only the scale differs.
  """
  _check_bits(bits)

  def make(key: Key | None, x: Any) -> LearnedScale:
    return LearnedScale(x, _scale(leaf.wide(x)), bits)

  return make


def query_key(attention: Params) -> jax.Array:
  """Return the products of query and key kernels, one [C, C] for each head.

  W_h = Q_h K_h': scores of inputs x and y are x W_h y', so W can be rounded as
  one where rounding Q and K apart makes their product oscillate.

  Args:
    attention: {"query": {"kernel": [C, heads, size]}, "key": {"kernel": [C,
      heads or fewer, size]}}, without biases; positions must not turn queries
      and keys between the two products.

  Returns:
    [heads, C, C].

  Raises:
    ValueError: for biases, or kernels that do not fit.

  >>> kernels = {"kernel": jnp.ones((2, 1, 3))}
  >>> query_key({"query": kernels, "key": kernels})[0].tolist()
  [[3.0, 3.0], [3.0, 3.0]]

  https://arxiv.org/abs/2302.02210, section 3.4.
  """
  for name in ("query", "key"):
    if set(attention.get(name, {})) != {"kernel"}:
      raise ValueError(
        f"query_key: {name!r} has {sorted(attention.get(name, {}))}, expected a"
        " kernel and no bias"
      )
  query = jnp.asarray(attention["query"]["kernel"])
  key = jnp.asarray(attention["key"]["kernel"])
  fits = query.ndim == key.ndim == 3 and query.shape[::2] == key.shape[::2]
  if not fits or query.shape[1] % key.shape[1]:
    raise ValueError(
      f"query_key: kernels are {query.shape} and {key.shape}, expected [C,"
      " heads, size] of one C and size"
    )
  key = jnp.repeat(key, query.shape[1] // key.shape[1], axis=1)
  return jnp.einsum("chd,ehd->hce", query, key, precision="highest")


def _scale(w: jax.Array) -> jax.Array:
  """Return twice the mean magnitude of each output, axes kept."""
  axes = tuple(range(w.ndim - 1)) if w.ndim > 1 else None
  return 2.0 * jnp.mean(jnp.abs(w), axis=axes, keepdims=True)


def _position(w: jax.Array, scale: jax.Array, bits: int) -> jax.Array:
  share = jnp.clip(w / scale, -1.0, 1.0 - EDGE)
  return share * 2 ** (bits - 1) - 0.5


def _level(position: jax.Array, count: int) -> jax.Array:
  """Return the nearest level, as a share of the scale."""
  return (jnp.round(position) + 0.5) / count


def _check_bits(bits: int) -> None:
  if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
    raise ValueError(f"statsq: bits is {bits}, expected 2 to 8")
