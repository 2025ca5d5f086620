"""Images ringed by coloured patches that usually tell the class.

MultiColorMNIST: the digit is the invariant feature; each of 32 patches is a
spurious one, whose colour agrees with the class in training and fails more and
more under a shift.  Models that lean on different patches make different
mistakes, so that averaging them helps.

>>> x = jnp.zeros((1, 28, 28, 1))
>>> multicolor(jax.random.key(0), x, jnp.array([3]), correlation=1.0).shape
(1, 42, 42, 3)
"""

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.data import geometry
from weightspace.types import Key

PALETTE = np.array(
  [
    (1.0, 1.0, 1.0),
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0),
    (0.0, 1.0, 1.0),
    (1.0, 0.0, 1.0),
    (0.5, 0.5, 0.5),
    (1.0, 0.5, 0.0),
    (0.5, 0.0, 0.5),
  ],
  np.float32,
)
COLORS = len(PALETTE)


def ring(height: int, width: int, border: int, patches: int) -> np.ndarray:
  """Number the patches of a border, clockwise from the upper left corner.

  Four strips, each from one corner up to the next, are cut into patches / 4.

  Returns:
    [height + 2 border, width + 2 border] int32: the patch of each border
    pixel, -1 inside.

  >>> ring(1, 1, 1, 8)
  array([[ 0,  1,  2],
         [ 7, -1,  3],
         [ 6,  5,  4]], dtype=int32)
  """
  rows, columns = height + 2 * border, width + 2 * border
  result = np.full((rows, columns), -1, np.int32)
  per_side = patches // 4
  for side in range(4):
    view = np.rot90(result, side)  # writes through: each strip is on top once
    length = view.shape[1] - border
    view[:border, :length] = (
      side * per_side + np.arange(length) * per_side // length
    )
  return result


def multicolor(
  key: Key,
  x: jax.Array,
  y: jax.Array,
  correlation: float,
  patches: int = 32,
) -> jax.Array:
  """Surround grey images by patches whose colours agree with their classes.

  Independently for each example and patch, with probability `correlation`
  patch i of an example of class c has colour number (c + i) mod 10, otherwise
  one of the ten colours, drawn evenly: it agrees with probability correlation +
  (1 - correlation) / 10.  The paper's failure probability p is 1 - correlation.

  After the paper: ten classes, 32 patches of ten colours around the digit, a
  colour for each pair of patch and class, patches independent given the class.
  That p also lets the right colour be drawn, and images of 42x42, are from
  memory of it.  Ours: the palette, the rule (c + i) mod 10, and the ring: a
  border of a quarter of the height, cut evenly (28x28 becomes 42x42).

  Args:
    key: draws which patches fail, and their colours.
    x: [N, H, W, 1] in [0, 1].
    y: [N] classes, 0 to 9.
    correlation: from 0 to 1.
    patches: a multiple of 4.

  Returns:
    [N, H + 2 (H // 4), W + 2 (H // 4), 3] in the dtype of x.

  Raises:
    ValueError: for images that are not grey, a correlation outside [0, 1], or a
      number of patches that the border cannot hold.

  >>> x, y = jnp.zeros((1, 4, 4, 1)), jnp.array([1])
  >>> multicolor(jax.random.key(0), x, y, 1.0, patches=4)[0, 0, 0].tolist()
  [1.0, 0.0, 0.0]

  Lin et al. 2024, "Spurious feature diversification improves
  out-of-distribution generalization", https://arxiv.org/abs/2309.17230.
  """
  count, height, width, channels = np.shape(geometry.pixels(x))
  border = height // 4
  longest = 4 * (min(height, width) + border)
  if channels != 1 or border < 1 or not 0 < patches <= longest or patches % 4:
    raise ValueError(
      f"x: shape {np.shape(x)} with {patches} patches, expected [N, H, W, 1]"
      f" with H of at least 4, and a multiple of 4 up to {longest}"
    )
  if not 0 <= correlation <= 1:
    raise ValueError(f"correlation {correlation}, expected 0 to 1")
  agree_key, color_key = jax.random.split(key)
  agrees = jax.random.bernoulli(agree_key, correlation, (count, patches))
  drawn = jax.random.randint(color_key, (count, patches), 0, COLORS)
  told = (jnp.asarray(y)[:, None] + jnp.arange(patches)[None]) % COLORS
  colors = jnp.asarray(PALETTE)[jnp.where(agrees, told, drawn)]
  where = ring(height, width, border, patches)
  frame = colors[:, np.maximum(where, 0)]
  pads = ((0, 0), (border, border), (border, border), (0, 0))
  inner = jnp.pad(geometry.pixels(x), pads)
  inside = jnp.asarray(where < 0)[None, :, :, None]
  return geometry.like(jnp.where(inside, inner, frame), x)
