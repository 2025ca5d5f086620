"""Attention with heads as axes of the kernels, shared by the transformers.

`query/kernel [in, heads, size]`, `key` and `value` `[in, kv_heads, size]` and
`out/kernel [heads, size, out]`.  With grouped queries (kv_heads < heads) head h
reads the keys and values of head h // (heads / kv_heads): permuting kv heads
moves their whole groups of query heads.

>>> import jax.numpy as jnp
>>> rotate(jnp.ones((1, 2, 1, 2)))[0, :, 0].round(2).tolist()
[[1.0, 1.0], [-0.29..., 1.37...]]
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


def rotate(x: jax.Array, base: float = 10_000.0) -> jax.Array:
  """Turn pairs of features by an angle that grows with the position.

  Features i and i + D/2 at position t turn by t base^(-2i/D), so that the inner
  product of a query at s and a key at t depends on their contents and s - t.

  Args:
    x: [B, T, H, D], D even.
    base: the longest wavelength is 2 pi base.

  Returns:
    [B, T, H, D], in the dtype of `x`.

  Su et al. 2021, https://arxiv.org/abs/2104.09864; which features are paired
  (halves, not neighbours) follows the released Llama weights at Hugging Face.
  """
  half = x.shape[-1] // 2
  frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = jnp.outer(jnp.arange(x.shape[1], dtype=jnp.float32), frequencies)
  cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return turned.astype(x.dtype)


class Attention(nn.Module):
  """out(softmax(q k^T / sqrt(size)) v) over T, for each head.

  Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; grouped queries:
  Ainslie et al. 2023, https://arxiv.org/abs/2305.13245.
  """

  heads: int
  kv_heads: int
  size: int
  causal: bool = False
  rotary: float | None = None  # base of the rotary positions, None for none
  bias: bool = True
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map [B, T, width] to [B, T, width]."""

    def project(name: str, heads: int) -> jax.Array:
      shape = (heads, self.size)
      return nn.DenseGeneral(
        shape, use_bias=self.bias, dtype=self.dtype, name=name
      )(x)

    query = project("query", self.heads)
    key, value = project("key", self.kv_heads), project("value", self.kv_heads)
    if self.rotary is not None:
      query, key = rotate(query, self.rotary), rotate(key, self.rotary)
    y = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
    return nn.DenseGeneral(
      x.shape[-1], (-2, -1), use_bias=self.bias, dtype=self.dtype, name="out"
    )(y)
