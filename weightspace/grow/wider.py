"""Wider networks of the same function, to be trained further.

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
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import indices, same_function, width
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
  same_function.check_function(
    "widen", (apply, params), (wide or apply, grown), x
  )
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
