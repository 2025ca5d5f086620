"""A vision transformer: patches as tokens, pre-norm blocks, learned positions.

The patches [B, T, p p C] go through `embed/kernel [p p C, width]`, a plain
matrix product on the raw pixels; `positions [T, width]` are added.  Blocks are
`block_b/{norm_attention, attention, norm_mlp, mlp_up, mlp_down}`, then `norm`
and `head`.

>>> import jax, jax.numpy as jnp
>>> module = ViT(patch=4, width=16, layers=1, heads=2)
>>> x = jnp.ones((1, 8, 8, 3))
>>> params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
>>> params["embed"]["kernel"].shape, params["positions"].shape
((48, 16), (4, 16))
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import fields
from weightspace.models.attention import Attention

DTYPES = ("float32", "bfloat16")


def _norm(name: str) -> nn.LayerNorm:
  return nn.LayerNorm(use_fast_variance=False, name=name)


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x))."""

  heads: int
  hidden: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map [B, T, width] to [B, T, width]."""
    width = x.shape[-1]
    attention = Attention(
      self.heads,
      self.heads,
      width // self.heads,
      dtype=self.dtype,
      name="attention",
    )
    x = x + attention(_norm("norm_attention")(x))
    y = _norm("norm_mlp")(x)
    y = nn.gelu(nn.Dense(self.hidden, dtype=self.dtype, name="mlp_up")(y))
    return x + nn.Dense(width, dtype=self.dtype, name="mlp_down")(y)


class ViT(nn.Module):
  """Patches, `layers` blocks, `classes` logits.

  pool="mean" averages the tokens; "token" reads a learned class token.
  ViT-B/16 is patch=16, width=768, layers=12, heads=12.  The residual stream
  stays in float32; `dtype` is that of the products.

  Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929 (pool="token"); the
  mean: Zhai et al. 2022, https://arxiv.org/abs/2106.04560.
  """

  patch: int = 4
  width: int = 64
  layers: int = 4
  heads: int = 4
  ratio: int = 4  # hidden units of the MLP over the width
  classes: int = 10
  pool: str = "mean"
  dtype: str = "float32"

  def __post_init__(self) -> None:
    names = ("patch", "width", "layers", "heads", "ratio", "classes")
    fields.whole(self, *names)
    fields.choice(self, "pool", ("mean", "token"))
    fields.choice(self, "dtype", DTYPES)
    if self.width % self.heads:
      fields.fail(self, "heads", f"a divisor of width={self.width}")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map images [B, H, W, C] to logits [B, classes]."""
    x = self._patches(jnp.asarray(x, jnp.float32))
    x = nn.Dense(self.width, dtype=self.dtype, name="embed")(x)
    x = x.astype(jnp.float32)
    init = nn.initializers.normal(0.02)
    x = x + self.param("positions", init, x.shape[1:])[None]
    if self.pool == "token":
      token = self.param("token", init, (self.width,))
      token = jnp.broadcast_to(token[None, None], (len(x), 1, self.width))
      x = jnp.concatenate([token, x], axis=1)
    hidden = self.ratio * self.width
    for index in range(self.layers):
      x = Block(self.heads, hidden, self.dtype, name=f"block_{index}")(x)
    x = _norm("norm")(x)
    x = x.mean(1) if self.pool == "mean" else x[:, 0]
    return nn.Dense(self.classes, name="head")(x)

  def _patches(self, x: jax.Array) -> jax.Array:
    fields.image(self, x)
    batch, height, width, channels = x.shape
    p = self.patch
    if height % p or width % p:
      raise ValueError(f"vit: x is {x.shape}, expected sides that {p} divides")
    x = x.reshape(batch, height // p, p, width // p, p, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, p * p * channels)
