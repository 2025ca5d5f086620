"""Sums of squared gradients of a linear map, from its inputs and outputs.

The gradient of one example is sum_t x_t g_t' over its tokens.  Its elementwise
square is the sum over pairs of tokens of (x_t x_s)(g_t g_s)', products that all
examples share one matrix product for; where there are many tokens and few rows
of g the gradient itself is cheaper.  With one token both are x^2 (g^2)'.

>>> x, g = jnp.ones((1, 1, 1, 2)), jnp.full((1, 1, 1, 1, 3), 2.0)
>>> summed(x, g)[0].tolist()
[[4.0, 4.0, 4.0], [4.0, 4.0, 4.0]]
"""

import jax
import jax.numpy as jnp
import numpy as np

ROWS = 2**24  # values of gradients that are held at a time


def summed(x: jax.Array, g: jax.Array) -> jax.Array:
  """Return sum_n sum_r (sum_t x_nt g_nrt')^2.

  Args:
    x: [N, batch, T, in].
    g: [N, R, batch, T, out]: R gradients of each output.

  Returns:
    [batch, in, out].
  """
  tokens, rows, inner = x.shape[2], g.shape[1], x.shape[3]
  pairs = tokens**2 * (rows + inner)
  direct = rows * (tokens + 2) * inner
  return _by_pairs(x, g) if pairs <= direct or tokens == 1 else _direct(x, g)


def _by_pairs(x: jax.Array, g: jax.Array) -> jax.Array:
  """Pairs t <= s of tokens; those with t < s count twice."""
  first, second = np.triu_indices(x.shape[2])
  twice = jnp.where(first == second, 1.0, 2.0).astype(g.dtype)
  if x.shape[2] == 1:
    both = (g**2).sum(1)
  else:
    both = jnp.einsum("nrbto,nrbso->nbtso", g, g)[:, :, first, second]
    both = both * twice[None, None, :, None]
  inputs = x[:, :, first] * x[:, :, second]
  return jnp.einsum("nbpi,nbpo->bio", inputs, both)


def _direct(x: jax.Array, g: jax.Array) -> jax.Array:
  """The gradients of a few rows at a time."""
  rows = g.shape[1]
  values = x.shape[1] * x.shape[3] * g.shape[4]
  part = max(
    d
    for d in range(1, rows + 1)
    if rows % d == 0 and d * values <= max(ROWS, values)
  )
  g = g.reshape(len(x), rows // part, part, *g.shape[2:])

  def example(total: jax.Array, item: tuple) -> tuple[jax.Array, None]:
    inputs, outputs = item

    def some(total: jax.Array, out: jax.Array) -> tuple[jax.Array, None]:
      gradient = jnp.einsum("bti,rbto->rbio", inputs, out)
      return total + (gradient**2).sum(0), None

    return jax.lax.scan(some, total, outputs)[0], None

  zeros = jnp.zeros((x.shape[1], x.shape[3], g.shape[-1]), g.dtype)
  return jax.lax.scan(example, zeros, (x, g))[0]
