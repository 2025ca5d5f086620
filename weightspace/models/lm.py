"""A decoder-only language model, from a character model to a pod.

RMSNorm, rotary positions, grouped-query attention, a gated MLP and no biases:
`embed/embedding [vocab, width]`, `block_b/{norm_attention, attention, norm_mlp,
gate, up, down}`, `norm`, and `head/kernel [width, vocab]` unless tied, where
the logits are products with the embedding.  The hidden units of the gated MLP
permute together in `gate`, `up` and `down`.

>>> import jax, jax.numpy as jnp
>>> module = LM(vocab=31, layers=1, width=32)
>>> tokens = jnp.zeros((2, 5), jnp.int32)
>>> jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
(2, 5, 31)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import fields
from weightspace.models.attention import Attention
from weightspace.models.vit import DTYPES

EPSILON = 1e-6  # of RMSNorm


class Block(nn.Module):
  """x + attention(norm(x)), then x + down(silu(gate(y)) up(y)), y = norm(x)."""

  heads: int
  kv_heads: int
  hidden: int
  rotary: float
  dtype: str
  size: int | None = None
  epsilon: float = EPSILON

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, None]:
    """Map [B, T, width] to [B, T, width], in the form that `scan` takes."""

    def dense(features: int, name: str) -> nn.Dense:
      return nn.Dense(features, use_bias=False, dtype=self.dtype, name=name)

    attention = Attention(
      self.heads,
      self.kv_heads,
      self.size or x.shape[-1] // self.heads,
      causal=True,
      rotary=self.rotary,
      bias=False,
      dtype=self.dtype,
      name="attention",
    )
    norm = functools.partial(nn.RMSNorm, epsilon=self.epsilon)
    x = x + attention(norm(name="norm_attention")(x))
    y = norm(name="norm_mlp")(x)
    y = nn.silu(dense(self.hidden, "gate")(y)) * dense(self.hidden, "up")(y)
    return x + dense(x.shape[-1], "down")(y), None


class LM(nn.Module):
  """Tokens [B, T] to the logits of the token after each, [B, T, vocab].

  hidden=None is 8/3 width, rounded up to a multiple of 8; size=None, of a head,
  is width / heads; epsilon is that of the norms.  remat=True keeps
  only the inputs of the blocks for the gradient.  scan=True compiles one block:
  the parameters are then `blocks/..` with a leading layer axis.  The residual
  stream and the logits stay in float32; `dtype` is that of the products.

  Touvron et al. 2023, https://arxiv.org/abs/2302.13971 (the block); Ainslie et
  al. 2023, https://arxiv.org/abs/2305.13245 (grouped queries); Press and Wolf
  2017, https://arxiv.org/abs/1608.05859 (tied embeddings).
  """

  vocab: int = 256
  layers: int = 2
  width: int = 64
  heads: int = 4
  kv_heads: int = 2
  hidden: int | None = None
  tied: bool = True
  rotary: float = 10_000.0
  dtype: str = "float32"
  remat: bool = False
  scan: bool = False
  size: int | None = None
  epsilon: float = EPSILON

  def __post_init__(self) -> None:
    fields.whole(self, "vocab", "layers", "width", "heads", "kv_heads")
    for optional in ("hidden", "size"):
      if getattr(self, optional) is not None:
        fields.whole(self, optional)
    fields.choice(self, "dtype", DTYPES)
    for flag in ("tied", "remat", "scan"):
      fields.choice(self, flag, (True, False))
    if self.size is not None and self.size % 2:
      fields.fail(self, "size", "an even number (rotary positions turn pairs)")
    check_heads(self, self.size)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map tokens [B, T] to logits [B, T, vocab]; a token >= vocab gives NaN."""
    return framed(self, x, self._blocks, "lm", self.epsilon)

  def _blocks(self, x: jax.Array) -> jax.Array:
    block = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
    hidden = self.hidden or 8 * -(-self.width // 3)
    heads = self.heads, self.kv_heads
    rest = self.rotary, self.dtype, self.size, self.epsilon
    options = (*heads, hidden, *rest)
    if self.scan:
      blocks = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=self.layers,
      )
      return blocks(*options, name="blocks")(x)[0]
    for index in range(self.layers):
      x, _ = block(*options, name=f"block_{index}")(x)
    return x


def check_heads(model: Any, size: int | None = None) -> None:
  """Refuse heads of an odd size, and keys that queries cannot share."""
  if size is None and model.width % (2 * model.heads):
    even = f"to divide width={model.width} into heads of an even size"
    fields.fail(model, "heads", f"{even} (rotary positions turn pairs)")
  if model.heads % model.kv_heads:
    fields.fail(model, "kv_heads", f"a divisor of heads={model.heads}")


def framed(
  model: Any,
  x: Any,
  blocks: Callable[[jax.Array], jax.Array],
  name: str,
  epsilon: float = EPSILON,
) -> jax.Array:
  """Map tokens to logits: embed, blocks, norm, head; inside a module's call."""
  x = jnp.asarray(x)
  if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
    raise ValueError(
      f"{name}: x is {x.shape} {x.dtype}, expected whole-number tokens [B, T]"
    )
  embed = nn.Embed(model.vocab, model.width, dtype=model.dtype, name="embed")
  x = blocks(embed(x).astype(jnp.float32))
  x = nn.RMSNorm(epsilon=epsilon, name="norm")(x)
  if model.tied:
    return embed.attend(x).astype(jnp.float32)
  head = nn.Dense(model.vocab, use_bias=False, dtype=model.dtype, name="head")
  return head(x).astype(jnp.float32)
