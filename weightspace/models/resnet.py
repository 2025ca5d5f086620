"""Residual networks for small images, with any width, depth and norm.

A 3x3 convolution, then `stages` stages of (depth - 2) / (2 stages) blocks; each
stage after the first halves the image and doubles the channels, from 16 width.
ResNet20 is the default; ResNet18 is depth=18, stages=4, width=4.  Names are
`stem/kernel`, `norm/..`, `block_b/{conv_0, norm_0, conv_1, norm_1, shortcut,
norm_shortcut}` and `head`.  The shortcut between stages is a convolution, so
each stage has one residual stream with one permutation of its own.

>>> import jax, jax.numpy as jnp
>>> module = ResNet(depth=8, width=0.25)
>>> x = jnp.ones((1, 8, 8, 3))
>>> params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
>>> params["stem"]["kernel"].shape, params["head"]["kernel"].shape
((3, 3, 3, 4), (16, 10))
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import fields, norms

CHANNELS = 16  # of the first stage at width 1


class Block(nn.Module):
  """relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

  channels: int
  stride: int
  norm: str
  groups: int
  shortcut: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map [B, H, W, C] to [B, H / stride, W / stride, channels]."""

    def layer(x: jax.Array, size: int, stride: int, *names: str) -> jax.Array:
      conv = nn.Conv(
        self.channels,
        (size, size),
        (stride, stride),
        use_bias=self.norm == "none",
        name=names[0],
      )
      return norms.norm(self.norm, self.groups, names[1])(conv(x))

    y = nn.relu(layer(x, 3, self.stride, "conv_0", "norm_0"))
    y = layer(y, 3, 1, "conv_1", "norm_1")
    if x.shape != y.shape:
      x = layer(x, self.shortcut, self.stride, "shortcut", "norm_shortcut")
    return nn.relu(x + y)


class ResNet(nn.Module):
  """The CIFAR ResNets: depth 20, 32, 44, 56, 110 with three stages.

  `shortcut` is the kernel size of the projection between stages: 1 is option B
  of the paper, 3 what Git Re-Basin uses.

  He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2 (option A there:
  padding, which ties the channels of all stages); Ainsworth et al. 2023,
  https://arxiv.org/abs/2209.04836 (LayerNorm, width multipliers up to 32).
  """

  depth: int = 20
  width: float = 1
  classes: int = 10
  norm: str = "layer"
  groups: int = 8
  stages: int = 3
  shortcut: int = 1

  def __post_init__(self) -> None:
    fields.whole(self, "depth", "classes", "groups", "stages", "shortcut")
    fields.choice(self, "norm", norms.KINDS)
    if self.depth < 2 + 2 * self.stages or (self.depth - 2) % (2 * self.stages):
      fields.fail(self, "depth", f"2 + {2 * self.stages} n for a whole n > 0")
    channels = CHANNELS * self.width
    if channels < 1 or channels != int(channels):
      fields.fail(self, "width", f"a positive multiple of 1/{CHANNELS}")
    if self.norm == "group" and channels % self.groups:
      fields.fail(self, "groups", f"a divisor of {int(channels)} channels")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map images [B, H, W, C] to logits [B, classes]."""
    fields.image(self, x)
    channels = int(CHANNELS * self.width)
    x = jnp.asarray(x, jnp.float32)
    x = nn.Conv(channels, (3, 3), use_bias=self.norm == "none", name="stem")(x)
    x = nn.relu(norms.norm(self.norm, self.groups, "norm")(x))
    blocks = (self.depth - 2) // (2 * self.stages)
    for index in range(self.stages * blocks):
      stage = index // blocks
      stride = 2 if stage and index % blocks == 0 else 1
      x = Block(
        channels * 2**stage,
        stride,
        self.norm,
        self.groups,
        self.shortcut,
        name=f"block_{index}",
      )(x)
    return nn.Dense(self.classes, name="head")(x.mean((1, 2)))
