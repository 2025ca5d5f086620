"""A small vision transformer whose feed-forward layers may be experts.

With `experts/..` leaves [N, ...] each batch's tokens are dealt out at random;
without the first axis the same function is an ordinary transformer.

>>> x = np.zeros((2, 8, 8, 1), np.float32)
>>> params = init(jax.random.key(0), x, Shape(4, 8, 1), count=2)
>>> apply(average.merge_experts(params, EXPERTS), x).shape
(2, 10)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import average, losses
from weightspace.types import Data, Key, Params

EXPERTS = "block_*/experts/*"
CLASSES = 10


class Shape(NamedTuple):
  """Sizes of the transformer."""

  patch: int
  width: int
  blocks: int


def init(
  key: Key, x: Any, shape: Shape, count: int, apart: bool = True
) -> Params:
  """Draw parameters; each feed-forward layer is `count` experts.

  They are drawn apart, or are copies of one.  The patch size is read off the
  embedding later, so it is no parameter.
  """
  patch, width = shape.patch, shape.width
  tokens = (np.shape(x)[1] // patch) * (np.shape(x)[2] // patch)
  keys = iter(jax.random.split(key, 3 + 4 * shape.blocks))

  def draw(*sizes: int) -> jax.Array:
    return jax.random.normal(next(keys), sizes) / sizes[-2] ** 0.5

  def experts(*sizes: int) -> jax.Array:
    if apart:
      return draw(count, *sizes)
    return jnp.repeat(draw(1, *sizes), count, 0)

  params: dict[str, Any] = {
    "embed": draw(patch * patch * np.shape(x)[3], width),
    "place": 0.1 * draw(tokens, width),
    "head": draw(width, CLASSES),
  }
  for block in range(shape.blocks):
    params[f"block_{block}"] = {
      "mix": draw(width, 3 * width),
      "out": draw(width, width),
      "experts": {
        "up": experts(width, 4 * width),
        "down": experts(4 * width, width),
      },
    }
  return params


def apply(params: Params, x: jax.Array, key: Key | None = None) -> jax.Array:
  """Return logits [B, 10]; a key is needed where there are experts."""
  tokens = _patches(params, x) @ params["embed"] + params["place"][None]
  blocks = sorted(name for name in params if name.startswith("block_"))
  for turn, name in enumerate(blocks):
    block = params[name]
    tokens = tokens + _attend(block, _norm(tokens))
    own = None if key is None else jax.random.fold_in(key, turn)
    tokens = tokens + _feed(block["experts"], _norm(tokens), own)
  return _norm(tokens).mean(1) @ params["head"]


def loss(params: Params, batch: Data) -> jax.Array:
  """Return the cross-entropy of each example; `batch["words"]` is a key."""
  key = jax.random.wrap_key_data(batch["words"])
  logits = apply(params, batch["x"], key)
  return losses.cross_entropy(logits, batch["y"])


def keyed(key: Key, batch: Data) -> Data:
  """Give a batch the key of its deal."""
  return batch | {"words": jax.random.key_data(key)}


def _patches(params: Params, x: jax.Array) -> jax.Array:
  count, height, width, channels = x.shape
  size = int((params["embed"].shape[0] // channels) ** 0.5)
  rows, columns = height // size, width // size
  x = x[:, : rows * size, : columns * size]
  x = x.reshape(count, rows, size, columns, size, channels)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, rows * columns, -1)


def _norm(x: jax.Array) -> jax.Array:
  return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def _attend(block: Params, x: jax.Array) -> jax.Array:
  q, k, v = jnp.split(x @ block["mix"], 3, -1)
  logits = jnp.einsum("bid,bjd->bij", q, k) / x.shape[-1] ** 0.5
  return jax.nn.softmax(logits) @ v @ block["out"]


def _ffn(params: Params, x: jax.Array) -> jax.Array:
  return jax.nn.gelu(x @ params["up"]) @ params["down"]


def _feed(experts: Params, x: jax.Array, key: Key | None) -> jax.Array:
  if experts["up"].ndim == 2:
    return _ffn(experts, x)
  if key is None:
    raise ValueError("experts: no key, expected one to deal the tokens with")
  flat = x.reshape(-1, x.shape[-1])
  return average.deal(key, _ffn, experts, flat).reshape(x.shape)
