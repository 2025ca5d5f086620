"""A multi-layer perceptron: the smallest model with a permutation symmetry.

x is flattened to [B, features]; layer l is `Dense_l/{kernel [in, out], bias}`,
with the activation after every layer but the last.  The first layer is linear
in its parameters.  Reordering the units of a hidden layer (columns of its
kernel and its bias, rows of the next kernel) leaves the function as it is.

>>> import jax, jax.numpy as jnp
>>> module = MLP(hidden=(16,), classes=10)
>>> x = jnp.ones((1, 8, 8, 1))
>>> params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
>>> params["Dense_0"]["kernel"].shape, params["Dense_1"]["kernel"].shape
((64, 16), (16, 10))
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import fields

ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "tanh": nn.tanh}


class MLP(nn.Module):
  """Dense layers of `hidden` widths, then `classes` logits.

  hidden=() is the linear model, whose loss is convex.
  """

  hidden: tuple[int, ...] = (128, 128)
  classes: int = 10
  activation: str = "relu"

  def __post_init__(self) -> None:
    fields.sizes(self, "hidden", least=0)
    fields.whole(self, "classes")
    fields.choice(self, "activation", tuple(ACTIVATIONS))
    super().__post_init__()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map x [B, ...] to logits [B, classes]."""
    x = jnp.asarray(x, jnp.float32).reshape(len(x), -1)
    for width in self.hidden:
      x = ACTIVATIONS[self.activation](nn.Dense(width)(x))
    return nn.Dense(self.classes)(x)
