"""Wider and deeper networks of the same function, to be trained further.

>>> from weightspace.symmetry import trace_axes
>>> def apply(p, x): return jax.nn.relu(x @ p["w"]) @ p["v"]
>>> params = {"v": jnp.ones((2, 1)), "w": jnp.ones((1, 2))}
>>> x = jnp.ones((1, 1))
>>> axes = trace_axes(apply, params, x)
>>> widen(axes, apply, params, x, {"w": 4})["v"].ravel().tolist()
[0.5, 0.5, 0.5, 0.5]
"""

import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import depth, indices, width
from weightspace.grow.depth import Blocks, Order
from weightspace.jaxpr import linear_maps
from weightspace.symmetry import Axes, checks, moving
from weightspace.symmetry.axes import parse
from weightspace.types import Apply, Key, Params


def widen(
  axes: Axes,
  apply: Apply,
  params: Params,
  x: Any,
  sizes: Mapping[str, int],
  *,
  wide: Apply | None = None,
  key: Key | None = None,
) -> Params:
  """Return a wider model of the same function: units copied, their readers cut.

  A unit that stands k times is read with 1/k of its weight, so what it adds to
  the next layer stays.

  Args:
    axes: from `trace_axes`.
    apply: apply(params, x).
    params: the model.
    x: a batch, on which the function is compared.
    sizes: {name: number}, more units than there are.
    wide: the function of the wide model, for modules that hold their sizes.
    key: which units are copied: drawn with replacement, or one after the other
      where there is none.  A norm over the units keeps its statistics only
      where all are copied equally often.

  Returns:
    Params.

  Raises:
    ValueError: for a name that is unknown or fixed, or fewer units than there
      are; where the function changes: units that are normalised over unevenly,
      compared with each other, chosen among, or read in a loop over time.

  >>> from weightspace.symmetry import trace_axes
  >>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
  >>> params = {"v": jnp.ones((2, 1)), "w": jnp.ones((1, 2))}
  >>> x = jnp.ones((1, 1))
  >>> axes = trace_axes(apply, params, x)
  >>> widen(axes, apply, params, x, {"w": 3})["v"].ravel().tolist()
  [0.5, 1.0, 0.5]

  Chen et al. 2016, "Net2Net", https://arxiv.org/abs/1511.05641.
  """
  axes = checks.fitted(axes, params, "widen")
  index, shares = {}, {}
  for name, number in indices.checked(axes, sizes, False, False).items():
    units = axes.sizes[name]
    if not isinstance(number, int) or number < units:
      raise ValueError(f"widen: {name!r} has {units}, expected a number above")
    places = np.arange(number) % units
    if key is not None:
      own = jax.random.fold_in(key, zlib.crc32(name.encode()))
      drawn = jax.random.randint(own, (number - units,), 0, units)
      places = np.concatenate([np.arange(units), np.asarray(drawn)])
    index[name] = places
    shares[name] = 1 / np.bincount(places)[places]
  grown = width.take(axes, index, params)
  axes = axes._replace(sizes=axes.sizes | {n: len(i) for n, i in index.items()})
  read = {at.path: at.inputs for at in linear_maps.find(apply, params, x)}
  grown = scale_inputs(axes, read, grown, shares)
  _check_function("widen", (apply, params), (wide or apply, grown), x)
  return grown


def scale_inputs(
  axes: Axes,
  read: Mapping[str, tuple[int, ...]],
  params: Params,
  factors: Mapping[str, Any],
) -> Params:
  """Return parameters with each unit read `factors` times as strongly.

  Args:
    axes: whose sizes the parameters have.
    read: the axes of leaves that are contracted with what they read.
    params: the model.
    factors: {name: [n]}, a number for each unit; in blocks the same in each.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"v": "a 1", "w": "1 a"}, {"a": 2}, {})
  >>> params = {"v": jnp.ones((2, 1)), "w": jnp.ones((1, 2))}
  >>> both = scale_inputs(axes, {"v": (0,)}, params, {"a": np.array([1, 3])})
  >>> [x.ravel().tolist() for x in both.values()]
  [[1.0, 3.0], [1.0, 1.0]]
  """
  patterns = trees.named(axes.tree)
  change = functools.partial(_scaled, factors)

  def leaf(path: str, x: Any) -> Any:
    words = parse(patterns[path])
    names = {n for a in read.get(path, ()) for n in checks.names(words[a])}
    if names.isdisjoint(factors):
      return x
    taken = [
      word if axis in read[path] else n  # axes that are not read stay
      for axis, (word, n) in enumerate(zip(words, np.shape(x)))
    ]
    return moving.by_parts(jnp.asarray(x), taken, axes.sizes, change)

  return trees.map_named(leaf, params)


def _scaled(factors: Mapping[str, Any], part: Any, labels: Any) -> Any:
  dtype, result = trees.accumulator(part.dtype), part
  for axis, name in enumerate(labels):
    if name in factors:
      lengths = [-1 if a == axis else 1 for a in range(part.ndim)]
      factor = jnp.asarray(factors[name], dtype).reshape(lengths)
      result = result.astype(dtype) * factor
  return result.astype(part.dtype)


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
  numbers = depth.numbers(params, pattern)
  places = list(order)
  if sorted(set(places)) != numbers or places != sorted(places):
    raise ValueError(
      f"deepen: order is {places}, expected each of {numbers} once or more, in"
      " order"
    )
  new = [k > 0 and places[k - 1] == n for k, n in enumerate(places)]
  change = functools.partial(_deepened, places, new, tuple(zero))
  grown = depth.replace(params, pattern, change)
  _check_function("deepen", (apply, params), (deep or apply, grown), x)
  return grown


def _deepened(
  places: list[int], new: list[bool], zero: tuple[str, ...], found: Blocks
) -> Blocks:
  """Return the blocks with others among them that do nothing."""
  if isinstance(found, depth.Stacked):
    keep = ~np.array(new)

    def layer(x: Any, whole: Any) -> Any:
      rows = jnp.take(jnp.asarray(x), np.array(places), axis=0)
      lengths = [-1, *[1] * (rows.ndim - 1)]
      idle = jnp.zeros((), rows.dtype)
      return rows if whole else jnp.where(keep.reshape(lengths), rows, idle)

    kept = jax.tree.map(lambda x: not x, _written(found.layers, zero))
    return depth.Stacked(jax.tree.map(layer, found.layers, kept))
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


def _check_function(
  what: str, old: tuple[Apply, Params], new: tuple[Apply, Params], x: Any
) -> None:
  """Raise a ValueError where a concrete model has another function."""
  if not trees.concrete(new[1], x):
    return
  wanted, got = (
    [np.asarray(y, np.complex64) for y in jax.tree.leaves(apply(params, x))]
    for apply, params in (old, new)
  )
  dtypes = [jnp.result_type(p) for p in jax.tree.leaves(old[1])]
  eps = max(jnp.finfo(d).eps for d in dtypes if jnp.issubdtype(d, jnp.inexact))
  for a, b in zip(wanted, got, strict=True):
    change = np.abs(a - b).max(initial=0.0)
    if not change <= np.sqrt(float(eps)) * np.abs(a).max(initial=1e-30):
      raise ValueError(
        f"{what}: outputs change by {change:.2g} of {np.abs(a).max():.2g},"
        " expected the same function"
      )
