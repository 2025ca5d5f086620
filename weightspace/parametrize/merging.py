"""Changes added into the kernels that they change, and taken out again.

>>> import jax.numpy as jnp
>>> from weightspace.parametrize.low_rank import Adapter
>>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 2)))
>>> whole = merge({"w": Changed(jnp.zeros((2, 2)), one)})
>>> whole["w"].base.sum().item(), unmerge(whole)["w"].base.sum().item()
(4.0, 0.0)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax

from weightspace.parametrize import leaf
from weightspace.types import Params


@flax.struct.dataclass
class Changed:
  """A kernel that stays as it is, beside a change of it that is trained."""

  base: Any  # [..., in, out], or a leaf of that value
  change: Any  # with `value_of`
  merged: bool = flax.struct.field(pytree_node=False, default=False)
  frozen = ("base",)

  def value(self) -> jax.Array:
    """Return the changed kernel, in the base's dtype."""
    base = jax.lax.stop_gradient(leaf.array(self.base))
    return base if self.merged else self.change.value_of(base)


@flax.struct.dataclass
class Shaped:
  """A leaf that was computed as a matrix, in the shape of its parameter."""

  inner: Any
  shape: tuple[int, ...] = flax.struct.field(pytree_node=False)

  def value(self) -> jax.Array:
    """Return the leaf's value in its shape."""
    return leaf.array(self.inner).reshape(self.shape)


def merge(tree: Params) -> Params:
  """Return the tree with every change added into its base, and kept beside it.

  Its `value` costs nothing; `unmerge` takes the changes out again.

  Raises:
    ValueError: naming the path of a base that is itself computed.

  >>> import jax.numpy as jnp
  >>> from weightspace.parametrize.low_rank import Adapter
  >>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 2)))
  >>> one = Changed(jnp.zeros((2, 2)), one)
  >>> merge({"w": one})["w"].base.sum().item()
  4.0
  """

  def one(x: Changed) -> Changed:
    if x.merged:
      return x
    if leaf.is_leaf(x.base):
      raise ValueError(
        f"merge: the base is a {type(x.base).__name__}, expected an array"
      )
    return dataclasses.replace(x, base=x.value(), merged=True)

  return _each_change(one, tree)


def unmerge(tree: Params) -> Params:
  """Undo `merge`: return the tree with its bases as they were, up to rounding.

  Raises:
    ValueError: naming the path of a change that cannot be undone.

  >>> import jax.numpy as jnp
  >>> from weightspace.parametrize.low_rank import Adapter
  >>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 2)))
  >>> one = Changed(jnp.zeros((2, 2)), one)
  >>> unmerge(merge({"w": one}))["w"].base.sum().item()
  0.0
  """
  return _each_change(unmerged, tree)


def unmerged(x: Changed) -> Changed:
  """Return a change beside its base, apart if it was merged."""
  if not x.merged:
    return x
  if not hasattr(x.change, "kernel_of"):
    raise ValueError(
      f"unmerge: a {type(x.change).__name__} has no kernel_of, keep the base"
    )
  return dataclasses.replace(x, base=x.change.kernel_of(x.base), merged=False)


def _each_change(
  function: Callable[[Changed], Changed], tree: Params
) -> Params:
  def at(path: str, x: Any) -> Any:
    if isinstance(x, Changed):
      return function(x)
    if isinstance(x, Shaped) and isinstance(x.inner, Changed):
      return dataclasses.replace(x, inner=function(x.inner))
    return x

  return leaf.map_leaves(at, tree)
