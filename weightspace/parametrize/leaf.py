"""What a computed leaf is: a pytree struct with `.value()`, and its value.

A leaf may hold further leaves (a change of a quantised kernel); `value` works
from the outside in and needs no registration: any class will do that is a
pytree and has a method `value`.

>>> import flax.struct
>>> @flax.struct.dataclass
... class Square:
...   root: jax.Array
...   def value(self):
...     return self.root**2
>>> value({"w": Square(jnp.array(3.0)), "b": jnp.array(1.0)})["w"].item()
9.0
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Params


def is_leaf(x: Any) -> bool:
  """Tell whether a node stands where an array stands: it has `.value()`.

  >>> is_leaf(jnp.ones(2)), is_leaf({"value": 1.0})
  (False, False)
  """
  plain = isinstance(x, jax.Array | np.ndarray | dict | list)
  return not plain and callable(getattr(type(x), "value", None))


def is_change(x: Any) -> bool:
  """Tell whether a node is a change of kernels: it has `.value_of(kernel)`."""
  return callable(getattr(type(x), "value_of", None))


def value(tree: Params) -> Params:
  """Return plain parameters: every computed leaf as its `.value()`.

  Args:
    tree: parameters in which structs with `.value()` stand for some arrays,
      nested anywhere; a single struct is such a tree.  It is a pure function:
      under `vmap` it serves a Stack of such trees.

  Returns:
    Params: the same containers with arrays as leaves.

  Raises:
    ValueError: naming the path of a leaf whose parts do not fit each other.

  >>> from weightspace.parametrize.low_rank import Adapter
  >>> tree = {"w": Adapter(jnp.ones((2, 1)), jnp.ones((1, 3)), 0.5)}
  >>> value(tree)["w"].tolist()
  [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]

  Ours; the idea is that of torch.nn.utils.parametrize.
  """
  return map_leaves(lambda path, x: x.value() if is_leaf(x) else x, tree)


def plain(tree: Params, stacked: bool = False) -> Params:
  """Return the tree itself, or `value` of it where a leaf is computed.

  Args:
    tree: as in `value`.
    stacked: whether every array has a leading model axis.
  """
  if not any(is_leaf(x) for x in jax.tree.leaves(tree, is_leaf=is_leaf)):
    return tree
  return jax.vmap(value)(tree) if stacked else value(tree)


def map_leaves(function: Callable[[str, Any], Any], tree: Params) -> Params:
  """Map `function(path, node)` over arrays and computed leaves alike.

  An error is given the path at which it arose.
  """

  def at(path: Any, x: Any) -> Any:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    try:
      return function(name, x)
    except ValueError as error:
      if not name or repr(name) in str(error):
        raise
      raise ValueError(f"{name!r}: {error}") from None

  return jax.tree_util.tree_map_with_path(at, tree, is_leaf=is_leaf)


def nodes(
  tree: Params, until: Callable[[Any], bool] = is_leaf
) -> list[tuple[str, Any]]:
  """Return the arrays and computed leaves by path."""
  found = jax.tree_util.tree_flatten_with_path(tree, is_leaf=until)[0]
  return [
    (jax.tree_util.keystr(path, simple=True, separator="/"), x)
    for path, x in found
  ]


def array(x: Any) -> jax.Array:
  """Return what stands at a place as an array, computed or not."""
  return x.value() if is_leaf(x) else jnp.asarray(x)


def wide(x: Any) -> jax.Array:
  """Return an array in float32 or wider: what leaves are computed in."""
  x = array(x)
  return x.astype(jnp.promote_types(trees.accumulator(x.dtype), jnp.float32))


def still(x: Any) -> jax.Array:
  """Return an array in float32 or wider that no gradient passes."""
  return jax.lax.stop_gradient(wide(x))


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return a @ b at full precision on every device."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def check_matrix(
  what: str, kernel: Any, shape: tuple[int | None, int | None]
) -> None:
  """Raise a ValueError unless a kernel is [..., in, out] of given sizes.

  Args:
    what: names the change in the error.
    kernel: the array.
    shape: (in, out); None where any size will do.
  """
  got = jnp.shape(kernel)
  fits = len(got) >= 2 and all(
    wanted in (None, size) for wanted, size in zip(shape, got[-2:])
  )
  if not fits:
    sizes = ", ".join(
      name if size is None else str(size)
      for name, size in zip(("in", "out"), shape)
    )
    raise ValueError(f"{what}: the kernel is {got}, expected [{sizes}]")
