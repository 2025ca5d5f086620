"""A language model whose feed-forward layers are mixtures of experts.

As `lm`, with `block_b/router/kernel [width, experts]` and, in place of the
gated MLP, `block_b/experts/{gate, up [experts, width, hidden], down [experts,
hidden, width]}`.  A router sends each token to `chosen` experts; the hidden
units of an expert permute together in its gate, up and down.

>>> import jax, jax.numpy as jnp
>>> module = MoE(vocab=31, layers=1, width=32, experts=4)
>>> tokens = jnp.zeros((2, 5), jnp.int32)
>>> made = jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)
>>> made[0].shape, made[1]["params"]["block_0"]["experts"]["up"].shape
((2, 5, 31), (4, 32, 88))
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import fields, lm
from weightspace.models.attention import Attention
from weightspace.models.vit import DTYPES
from weightspace.types import Params

ROUTING = "routing"  # the collection that routers leave their decisions in


class Experts(nn.Module):
  """sum_e g_e down_e (silu(x gate_e) * (x up_e)), all experts computed.

  Exact and simple: every expert maps every token, and gates of zero drop out.
  """

  experts: int
  hidden: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, gates: jax.Array) -> jax.Array:
    """Map [B, T, width] and gates [B, T, experts] to [B, T, width]."""
    width, dtype = x.shape[-1], jnp.dtype(self.dtype)
    draw = nn.initializers.lecun_normal(batch_axis=(0,))

    def kernel(name: str, *shape: int) -> jax.Array:
      return self.param(name, draw, (self.experts, *shape)).astype(dtype)

    x = x.astype(dtype)
    gate = jnp.einsum("btd,edf->btef", x, kernel("gate", width, self.hidden))
    up = jnp.einsum("btd,edf->btef", x, kernel("up", width, self.hidden))
    inner = nn.silu(gate) * up
    down = kernel("down", self.hidden, width)
    out = jnp.einsum("btef,efd->bted", inner, down)
    return jnp.einsum("bted,bte->btd", out, gates.astype(dtype))


class Block(nn.Module):
  """x + attention(norm(x)), then x + experts(y, router(y)), y = norm(x)."""

  heads: int
  kv_heads: int
  hidden: int
  experts: int
  chosen: int
  rotary: float
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map [B, T, width] to [B, T, width]."""
    attention = Attention(
      self.heads,
      self.kv_heads,
      x.shape[-1] // self.heads,
      causal=True,
      rotary=self.rotary,
      bias=False,
      dtype=self.dtype,
      name="attention",
    )
    x = x + attention(nn.RMSNorm(name="norm_attention")(x))
    y = nn.RMSNorm(name="norm_mlp")(x)
    logits = nn.Dense(self.experts, use_bias=False, name="router")(y)
    gates = top_gates(logits, self.chosen)
    if self.is_mutable_collection(ROUTING) and not self.is_initializing():
      self.put_variable(ROUTING, "logits", logits)
      self.put_variable(ROUTING, "gates", gates)
    experts = Experts(self.experts, self.hidden, self.dtype, name="experts")
    return x + experts(y, gates)


def top_gates(logits: jax.Array, chosen: int) -> jax.Array:
  """Return softmax over the `chosen` largest logits, zero for the others.

  >>> top_gates(jnp.array([1.0, 3.0, 3.0, 0.0]), 2).tolist()
  [0.0, 0.5, 0.5, 0.0]
  """
  _, places = jax.lax.top_k(logits, chosen)
  picked = jax.nn.one_hot(places, logits.shape[-1], dtype=bool).any(-2)
  return jax.nn.softmax(jnp.where(picked, logits, -jnp.inf), axis=-1)


class MoE(nn.Module):
  """Tokens [B, T] to the logits of the token after each, [B, T, vocab].

  hidden=None is 8/3 width, rounded up to a multiple of 8.  Shazeer et al. 2017,
  https://arxiv.org/abs/1701.06538; the gates (softmax over the chosen experts)
  and the block follow Jiang et al. 2024, https://arxiv.org/abs/2401.04088.
  """

  vocab: int = 256
  layers: int = 2
  width: int = 64
  heads: int = 4
  kv_heads: int = 2
  hidden: int | None = None
  experts: int = 4
  chosen: int = 2
  tied: bool = True
  rotary: float = 10_000.0
  dtype: str = "float32"

  def __post_init__(self) -> None:
    names = ("vocab", "layers", "width", "heads", "kv_heads", "experts")
    fields.whole(self, *names, "chosen")
    if self.hidden is not None:
      fields.whole(self, "hidden")
    fields.choice(self, "dtype", DTYPES)
    fields.choice(self, "tied", (True, False))
    if self.chosen > self.experts:
      fields.fail(self, "chosen", f"at most experts={self.experts}")
    lm.check_heads(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map tokens [B, T] to logits [B, T, vocab]; a token >= vocab gives NaN."""
    return lm.framed(self, x, self._blocks, "moe")

  def _blocks(self, x: jax.Array) -> jax.Array:
    hidden = self.hidden or 8 * -(-self.width // 3)
    for index in range(self.layers):
      x = Block(
        self.heads,
        self.kv_heads,
        hidden,
        self.experts,
        self.chosen,
        self.rotary,
        self.dtype,
        name=f"block_{index}",
      )(x)
    return x


def routing(model: Any, params: Params, x: Any) -> dict[str, dict[str, Any]]:
  """Return what the router of each block decides, by the block's path.

  Args:
    model: from `build` or `from_linen`, with blocks of this module.
    params: of one model.
    x: tokens [B, T].

  Returns:
    {block: {"logits", "gates"}}, each [B, T, experts]; gates of experts that a
    token does not go to are zero.

  Raises:
    ValueError: when the model has no router.

  >>> from weightspace import models
  >>> model = models.build("moe", vocab=7, layers=1, width=8, experts=3)
  >>> x = jnp.zeros((1, 2), jnp.int32)
  >>> params = model.init(jax.random.key(0), x)
  >>> found = routing(model, params, x)["block_0"]["gates"]
  >>> int((found > 0).sum())  # two experts for each of two tokens
  4
  """
  return decisions(model.module, params, x)


def decisions(module: nn.Module, params: Params, x: Any) -> dict[str, Any]:
  """Return `routing` of a linen module.

  Raises:
    ValueError: when it has no router.
  """
  _, found = module.apply({"params": params}, x, mutable=[ROUTING])
  blocks: dict[str, dict[str, Any]] = {}

  def collect(tree: Any, path: tuple[str, ...]) -> None:
    if isinstance(tree, dict) and "gates" in tree:
      blocks["/".join(path)] = dict(tree)
    elif isinstance(tree, dict):
      for name, inner in tree.items():
        collect(inner, (*path, name))

  collect(found.get(ROUTING, {}), ())
  if not blocks:
    raise ValueError("routing: the model has no router, expected mixtures")
  return blocks


def balance(found: dict[str, dict[str, Any]]) -> jax.Array:
  """Return the load-balancing loss of `routing`, 1 where all is even.

  E sum_e f_e p_e, f_e the share of choices and p_e the mean probability of
  expert e, mean over blocks.

  >>> even = jnp.full((1, 4, 2), 0.5)
  >>> balance({"block": {"logits": jnp.zeros((1, 4, 2)), "gates": even}}).item()
  1.0

  Fedus et al. 2022, https://arxiv.org/abs/2101.03961.
  """

  def block(one: dict[str, Any]) -> jax.Array:
    picked = (one["gates"] > 0).astype(jnp.float32)
    share = picked.mean((0, 1)) / picked.mean((0, 1)).sum()
    chance = jax.nn.softmax(one["logits"], axis=-1).mean((0, 1))
    return len(share) * (share * chance).sum()

  return jnp.stack([block(one) for one in found.values()]).mean()
