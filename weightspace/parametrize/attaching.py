"""Changes of kernels that stay as they are: put on, taken off, merged.

A change is a struct with `value_of(kernel)` and, where it can be undone,
`kernel_of(changed)`; `Changed(base, change)` is the leaf that stands in the
tree.  Kernels of convolutions and of attention are seen as matrices.

>>> from weightspace.parametrize.low_rank import lora
>>> params = {"w": jnp.ones((4, 3)), "b": jnp.zeros(3)}
>>> tree = attach(params, "w", lora(2), jax.random.key(0))
>>> detach(tree)["w"] is params["w"], leaf.value(tree)["w"].shape
(True, (4, 3))
"""

import dataclasses
import fnmatch
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.matrix_views import View, kernels
from weightspace.parametrize import leaf
from weightspace.parametrize.merging import Changed, Shaped, unmerged
from weightspace.types import Key, Params


def attach(
  params: Params,
  pattern: str | Sequence[str],
  make: Callable[[Key | None, Any], Any],
  key: Key | None = None,
  *,
  view: View = kernels,
) -> Params:
  """Return the tree with computed leaves in place of some arrays.

  Args:
    params: a tree of arrays, or of arrays and computed leaves.
    pattern: a shell pattern of whole paths, in which `*` also crosses `/`, or
      several of these.
    make: `make(key, x)`, called with the array as a matrix [in, out] or
      [batch, in, out] where it is one; it returns a change, as `lora(4)` does,
      which is put beside the array, or a leaf, which takes its place.
    key: for what is drawn; each path draws from the key and its name.
    view: which arrays are matrices, and how.

  Returns:
    Params: `value` of it is what it was before, up to rounding, for every
    change that starts at zero.

  Raises:
    ValueError: for a pattern that fits no path, or naming the path of an array
      that `make` cannot take.

  >>> from weightspace.parametrize.blocks import miss
  >>> tree = attach({"w": jnp.ones((4, 3))}, "w", miss(2))
  >>> tree["w"].change.d.shape
  (2, 3)

  Ours.
  """
  patterns = [pattern] if isinstance(pattern, str) else list(pattern)
  names = [path for path, _ in leaf.nodes(params)]
  for one in patterns:
    if not any(fnmatch.fnmatchcase(name, one) for name in names):
      raise ValueError(
        f"attach: {one!r} fits no path, expected a pattern of paths such as"
        f" {names[:3]}"
      )

  def at(path: str, x: Any) -> Any:
    if not any(fnmatch.fnmatchcase(path, one) for one in patterns):
      return x
    mine = None if key is None else jax.random.fold_in(key, _number(path))
    seen = _as_matrix(path, x, view)
    return _put(x, seen, make(mine, leaf.array(seen)))

  return leaf.map_leaves(at, params)


def with_changes(
  params: Params, changes: Mapping[str, Any], view: View = kernels
) -> Params:
  """Return the tree with the changes at the given paths.

  Args:
    params: a tree of arrays, or of arrays and computed leaves.
    changes: {path: change}, or a nested dict of these as `changes` returns.
    view: which arrays are matrices, and how.

  Raises:
    ValueError: naming a path that the tree lacks.

  >>> from weightspace.parametrize.low_rank import Adapter
  >>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 2)))
  >>> leaf.value(with_changes({"w": jnp.zeros((2, 2))}, {"w": one}))["w"].sum()
  Array(4., dtype=float32)
  """
  given = dict(leaf.nodes(changes, until=leaf.is_change))
  names = [path for path, _ in leaf.nodes(params)]
  for path in given:
    if path not in names:
      raise ValueError(f"with_changes: {path!r} is not in the tree")

  def at(path: str, x: Any) -> Any:
    if path not in given:
      return x
    return _put(x, _as_matrix(path, x, view), given[path])

  return leaf.map_leaves(at, params)


def changes(tree: Params) -> dict[str, Any]:
  """Return the changes alone, as {path: change}: what an adapter file holds.

  `with_changes(detach(tree), changes(tree))` is the tree again.

  >>> from weightspace.parametrize.blocks import miss
  >>> list(changes(attach({"w": jnp.ones((4, 3))}, "w", miss(2))))
  ['w']
  """
  return {
    path: _inner(x).change
    for path, x in leaf.nodes(tree)
    if isinstance(_inner(x), Changed)
  }


def detach(tree: Params) -> Params:
  """Return the tree with every change taken off, bit for bit.

  Merged changes are undone first, which rounds.  Leaves that are no change of
  a base stay: `value` computes them.

  >>> from weightspace.parametrize.blocks import miss
  >>> params = {"w": jnp.ones((4, 3))}
  >>> detach(attach(params, "w", miss(2)))["w"] is params["w"]
  True
  """

  def bare(x: Any) -> Any:
    while isinstance(x, Changed):
      x = unmerged(x).base
    if isinstance(x, Shaped):
      inner = bare(x.inner)
      if leaf.is_leaf(inner):
        return dataclasses.replace(x, inner=inner)
      return inner.reshape(x.shape)
    return x

  return leaf.map_leaves(lambda path, x: bare(x), tree)


def _inner(x: Any) -> Any:
  return x.inner if isinstance(x, Shaped) else x


def _number(path: str) -> int:
  return zlib.crc32(path.encode())


def _as_matrix(path: str, x: Any, view: View) -> Any:
  """Return a node as a matrix where it is one; its leaf where that fits."""
  shape = jax.eval_shape(leaf.array, x).shape
  sizes = view(path)(shape)
  if sizes is None:
    return x
  matrix = sizes if sizes[0] > 1 else sizes[1:]
  if matrix == shape:
    return x
  return Shaped(x, matrix) if leaf.is_leaf(x) else jnp.reshape(x, matrix)


def _unfinished(change: Any) -> bool:
  """Tell whether a field of a change is None: `share` will fill it."""
  return any(field is None for field in vars(change).values())


def _put(x: Any, seen: Any, found: Any) -> Any:
  """Return the leaf that stands for `x`, which was seen as a matrix."""
  if leaf.is_change(found):
    found = Changed(seen, found)
  if not leaf.is_leaf(found):
    raise ValueError(
      f"make gave a {type(found).__name__}, expected a change or a leaf with"
      " value()"
    )
  wanted = jax.eval_shape(leaf.array, x).shape
  if isinstance(found, Changed) and _unfinished(found.change):
    got = jax.eval_shape(leaf.array, seen).shape  # what is shared comes later
  else:
    got = jax.eval_shape(leaf.array, found).shape
  if got == wanted:
    return found
  if np.prod(got) != np.prod(wanted):
    raise ValueError(f"the new leaf is {got}, expected {wanted}")
  return Shaped(found, wanted)
