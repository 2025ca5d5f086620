"""The network of a diffusion: noise told from a noisy vector and a condition.

A condition is a vector, or a set of vectors whose order does not matter: each
is embedded, and the mean of the embeddings counts.

>>> network = Denoiser(width=4, layers=1, size=2)
>>> z, t, c = jnp.ones((3, 2)), jnp.zeros(3), jnp.ones((3, 5, 1))
>>> params = initial(network, jax.random.key(0), z, t, c)
>>> noise_in(network, params, z, t, c).shape, condition_shape(network, params)
((3, 2), (1,))
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace.models import Model, build
from weightspace.types import Key, Params

TIMES = 32  # sines and cosines that the step is told as
SPEEDS = 8.0  # the fastest turns 2^8 times as far as the slowest
ELEMENTS = "elements"  # the part that embeds the elements of a set


class Denoiser(NamedTuple):
  """The sizes of a network: hidden layers, and the vectors that it denoises."""

  width: int
  layers: int
  size: int


def initial(
  network: Denoiser, key: Key, z: jax.Array, t: jax.Array, c: jax.Array
) -> Params:
  """Return parameters for inputs of these shapes.

  Args:
    network: its sizes.
    key: draws the parameters.
    z: vectors [B, d].
    t: shares of the way to noise, [B].
    c: conditions [B, c], or sets of them [B, S, c].
  """
  first, second = jax.random.split(key)
  params: dict[str, Any] = {}
  if c.ndim == 3:
    params[ELEMENTS] = _embedding(network).init(first, c[0])
  given = _given(network, params, z, t, c)
  return params | {"noise": _mlp(network).init(second, given)}


def noise_in(
  network: Denoiser, params: Params, z: jax.Array, t: jax.Array, c: jax.Array
) -> jax.Array:
  """Return the noise [B, d] that a network sees in vectors; as `initial`."""
  given = _given(network, params, z, t, c)
  return _mlp(network).apply(params["noise"], given)


def condition_shape(network: Denoiser, params: Params) -> tuple[int, ...]:
  """Return the shape of a condition, or of an element of a set."""
  if ELEMENTS in params:
    return params[ELEMENTS]["Dense_0"]["kernel"].shape[:1]
  inputs = params["noise"]["Dense_0"]["kernel"].shape[0]
  return (int(inputs) - network.size - TIMES,)


def _mlp(network: Denoiser) -> Model:
  hidden, size = (network.width,) * network.layers, network.size
  return build("mlp", hidden=hidden, classes=size, activation="gelu")


def _embedding(network: Denoiser) -> Model:
  width = network.width
  return build("mlp", hidden=(width,), classes=width, activation="gelu")


def _given(
  network: Denoiser, params: Params, z: jax.Array, t: jax.Array, c: jax.Array
) -> jax.Array:
  """Return the inputs: the vector, the step as waves, and the condition."""
  if c.ndim == 3:
    flat = c.reshape(-1, c.shape[-1])
    each = _embedding(network).apply(params[ELEMENTS], flat)
    c = each.reshape(*c.shape[:2], -1).mean(1)
  speeds = 2.0 ** jnp.linspace(0.0, SPEEDS, TIMES // 2)
  angles = t[:, None] * speeds[None]
  return jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles), c], 1)
