"""A VGG-like convolutional network: stages of 3x3 convolutions, then pooling.

Stage s holds `depths[s]` convolutions of `widths[s]` channels and halves the
image.  VGG16 is widths=(64, 128, 256, 512, 512), depths=(2, 2, 3, 3, 3).
Layers are numbered through: `conv_0/kernel [3, 3, in, out]`, `norm_0/{scale,
bias}`, `dense_0/{kernel, bias}`, `head/{kernel, bias}`.  With pool="flatten"
the rows of the layer after the images are ordered (pixel, channel): permuting
channels permutes them in blocks.

>>> import jax, jax.numpy as jnp
>>> module = VGG(widths=(4, 8), depths=(1, 1))
>>> x = jnp.ones((1, 8, 8, 3))
>>> params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
>>> params["conv_1"]["kernel"].shape, params["head"]["kernel"].shape
((3, 3, 4, 8), (8, 10))
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import fields, norms


class VGG(nn.Module):
  """Stages of convolutions and pooling, dense layers, `classes` logits.

  A convolution has a bias only where norm="none": elsewhere the norm has one.

  Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556 (norm="none",
  pool="flatten"); the norms and the mean over pixels are later custom.
  """

  widths: tuple[int, ...] = (16, 32, 64)
  depths: tuple[int, ...] = (2, 2, 2)
  hidden: tuple[int, ...] = ()
  classes: int = 10
  norm: str = "layer"
  groups: int = 4
  pool: str = "mean"

  def __post_init__(self) -> None:
    fields.sizes(self, "widths", "depths")
    fields.sizes(self, "hidden", least=0)
    fields.whole(self, "classes", "groups")
    fields.choice(self, "norm", norms.KINDS)
    fields.choice(self, "pool", ("mean", "flatten"))
    if len(self.depths) != len(self.widths):
      fields.fail(self, "depths", f"{len(self.widths)} numbers, as in widths")
    if self.norm == "group" and any(w % self.groups for w in self.widths):
      fields.fail(self, "groups", f"a divisor of each of widths={self.widths}")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map images [B, H, W, C] to logits [B, classes]."""
    fields.image(self, x)
    least = 2 ** len(self.widths)
    if min(x.shape[1:3]) < least:
      raise ValueError(
        f"vgg: x is {x.shape}, expected images of at least {least} pixels a"
        f" side for {len(self.widths)} poolings"
      )
    x = jnp.asarray(x, jnp.float32)
    bias, count = self.norm == "none", 0
    for width, depth in zip(self.widths, self.depths):
      for _ in range(depth):
        x = nn.Conv(width, (3, 3), use_bias=bias, name=f"conv_{count}")(x)
        x = nn.relu(norms.norm(self.norm, self.groups, f"norm_{count}")(x))
        count += 1
      x = nn.max_pool(x, (2, 2), strides=(2, 2))
    x = x.mean((1, 2)) if self.pool == "mean" else x.reshape(len(x), -1)
    for index, width in enumerate(self.hidden):
      x = nn.relu(nn.Dense(width, name=f"dense_{index}")(x))
    return nn.Dense(self.classes, name="head")(x)
