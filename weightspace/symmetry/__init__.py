"""The symmetry of a model, read off its program, and its elements.

`trace_axes` gives each axis of each leaf a name; axes of one name move
together.  A `Perm` is {name: indices}; `permute` moves parameters by it and
leaves the model's function as it is.

>>> import jax.numpy as jnp
>>> params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones((3, 1))}
>>> apply = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
>>> axes = trace_axes(apply, params, jnp.ones((1, 2)))
>>> [(name, perm.tolist()) for name, perm in identity(axes, params).items()]
[('a', [0, 1, 2])]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.symmetry.axes import Axes, Perm, from_json, to_json
from weightspace.symmetry.permutations import (
  compose,
  identity,
  invert,
  permute,
  random,
)
from weightspace.symmetry.tracing import trace_axes

__all__ = [
  "Axes",
  "Perm",
  "compose",
  "from_json",
  "identity",
  "invert",
  "permute",
  "random",
  "to_json",
  "trace_axes",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
