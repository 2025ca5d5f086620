"""Deeper networks of the same function: blocks that do nothing yet.

>>> def apply(p, x):
...   for k in range(len(p)): x = jax.nn.relu(x @ p[f"layer_{k}"])
...   return x
>>> params = {"layer_0": jnp.ones((1, 2)), "layer_1": jnp.ones((2, 1))}
>>> grown = deepen(apply, params, jnp.ones((1, 1)), "layer_*", [0, 0, 1])
>>> grown["layer_1"].tolist()
[[1.0, 0.0], [0.0, 1.0]]
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import numbering, same_function
from weightspace.grow.depth import Order
from weightspace.grow.numbering import Blocks
from weightspace.types import Apply, Params


def deepen(
  apply: Apply,
  params: Params,
  x: Any,
  pattern: str,
  order: Order,
  *,
  zero: Sequence[str] = (),
  deep: Apply | None = None,
) -> Params:
  """Return a deeper model of the same function: blocks that do nothing yet.

  Args:
    apply: apply(params, x).
    params: the model.
    x: a batch, on which the function is compared.
    pattern: of the blocks, as in `restack`.
    order: every block once or more, in order: [0, 0, 1] has a new block after
      block 0.
    zero: paths in a residual block, of the layers that write to the stream:
      the new block is a copy in which they are zero.  Without any, blocks are
      layers before a ReLU, and the new one is the identity, dense or
      convolutional.
    deep: the function of the deep model, for modules that hold their depth.

  Returns:
    Params.

  Raises:
    ValueError: for an order that leaves out or moves a block; for a path that
      is none; where the function changes.

  >>> def apply(p, x):
  ...   for k in range(len(p)): x = jax.nn.relu(x @ p[f"layer_{k}"])
  ...   return x
  >>> params = {"layer_0": 2.0 * jnp.ones((1, 1))}
  >>> deepen(apply, params, jnp.ones((1, 1)), "layer_*", [0, 0])["layer_1"]
  Array([[1.]], dtype=float32)

  Chen et al. 2016, "Net2Net", https://arxiv.org/abs/1511.05641; zero layers in
  a copy: Gong et al. 2019, https://proceedings.mlr.press/v97/gong19a.html.
  """
  numbers = numbering.numbers(params, pattern)
  places = list(order)
  if sorted(set(places)) != numbers or places != sorted(places):
    raise ValueError(
      f"deepen: order is {places}, expected each of {numbers} once or more, in"
      " order"
    )
  new = [k > 0 and places[k - 1] == n for k, n in enumerate(places)]
  change = functools.partial(_deepened, places, new, tuple(zero))
  grown = numbering.replace(params, pattern, change)
  same_function.check_function(
    "deepen", (apply, params), (deep or apply, grown), x
  )
  return grown


def _deepened(
  places: list[int], new: list[bool], zero: tuple[str, ...], found: Blocks
) -> Blocks:
  """Return the blocks with others among them that do nothing."""
  if isinstance(found, numbering.Stacked):
    keep = ~np.array(new)

    def layer(x: Any, whole: Any) -> Any:
      rows = jnp.take(jnp.asarray(x), np.array(places), axis=0)
      lengths = [-1, *[1] * (rows.ndim - 1)]
      idle = jnp.zeros((), rows.dtype)
      return rows if whole else jnp.where(keep.reshape(lengths), rows, idle)

    kept = jax.tree.map(lambda x: not x, _written(found.layers, zero))
    return numbering.Stacked(jax.tree.map(layer, found.layers, kept))
  first = min(found)
  return {
    first + k: _idle(found[n], zero) if idle else found[n]
    for k, (n, idle) in enumerate(zip(places, new))
  }


def _written(block: Any, zero: tuple[str, ...]) -> Any:
  """Return which leaves of a block lie at the paths `zero`, as booleans."""
  paths = trees.names(block)

  def within(path: str, upper: str) -> bool:
    return path == upper or path.startswith(f"{upper}/")

  for upper in zero or [""]:
    if not any(within(path, upper) for path in paths):
      raise ValueError(
        f"deepen: zero holds {upper!r}, expected paths in a block, such as"
        f" {paths[0]!r}"
      )
  return trees.map_named(
    lambda path, _: any(within(path, upper) for upper in zero), block
  )


def _idle(block: Any, zero: tuple[str, ...]) -> Any:
  """Return a block that does nothing, shaped like one that does."""
  if zero:
    return jax.tree.map(
      lambda x, written: jnp.zeros_like(x) if written else x,
      block,
      _written(block, zero),
    )

  def layer(path: str, x: Any) -> jax.Array:
    shape, dtype = np.shape(x), jnp.result_type(x)
    if len(shape) == 1:
      return jnp.zeros(shape, dtype)
    if len(shape) < 2:
      raise ValueError(f"deepen: {path!r} is a number, expected zero=...")
    middle = tuple(n // 2 for n in shape[:-2])
    kernel = jnp.zeros((*shape[:-2], shape[-1], shape[-1]), dtype)
    return kernel.at[middle].set(jnp.eye(shape[-1], dtype=dtype))

  return trees.map_named(layer, block)
