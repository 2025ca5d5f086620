"""Permutations: made, applied, composed and inverted.

A Perm is `{name: indices}`: `indices[i]` is the place whose unit moves to i, so
an axis is permuted by `x[indices]`.  The indices of a name that lies in blocks
are `[*blocks, n]`, one row for each block of the result: rows move with their
blocks.

>>> from weightspace.symmetry.axes import Axes
>>> axes = Axes({"w": "heads heads>inner"}, {"heads": 2, "heads>inner": 2}, {})
>>> perm = {"heads": [1, 0], "heads>inner": [[0, 1], [1, 0]]}
>>> permute(axes, perm, {"w": np.array([[1, 2], [3, 4]])})["w"].tolist()
[[3, 4], [2, 1]]
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.symmetry import checks, moving
from weightspace.symmetry.axes import (
  Axes,
  Perm,
  base,
  blocks,
  free,
  parse,
  shape,
)
from weightspace.types import Key, Params


def identity(axes: Axes, params: Params) -> Perm:
  """Return the permutation that leaves every unit where it is.

  Args:
    axes: from `trace_axes`.
    params: parameters, or their shapes, that the axes must fit.

  Raises:
    ValueError: at the first leaf that does not fit its pattern.

  >>> identity(Axes({"w": "a"}, {"a": 3}, {}), {"w": np.ones(3)})["a"].tolist()
  [0, 1, 2]
  """
  checks.check_params(axes, params, "identity")
  return {
    name: np.broadcast_to(np.arange(axes.sizes[name]), shape(axes, name)).copy()
    for name in free(axes)
  }


def random(axes: Axes, params: Params, key: Key) -> Perm:
  """Return a uniformly random permutation, equal on every machine.

  Each name has a stream of its own, from the key and the name.

  Args:
    axes: from `trace_axes`.
    params: parameters, or their shapes, that the axes must fit.
    key: a typed key.

  >>> axes = Axes({"w": "a"}, {"a": 5}, {})
  >>> sorted(random(axes, {"w": np.ones(5)}, jax.random.key(0))["a"].tolist())
  [0, 1, 2, 3, 4]
  """
  start = identity(axes, params)
  words = np.asarray(jax.random.key_data(key)).ravel().tolist()
  drawn = {}
  for name, places in start.items():
    stream = np.random.Philox([*words, zlib.crc32(name.encode())])
    drawn[name] = np.random.Generator(stream).permuted(places, axis=-1)
  return drawn


def permute(axes: Axes, perm: Perm, tree: Any) -> Any:
  """Move the units of a model: the same function with other parameters.

  Args:
    axes: from `trace_axes`.
    perm: `{name: indices}`; names that are left out stay as they are.
    tree: parameters; or an optimiser state, whose copies of the parameters
      (momenta, averages) move and whose counts stay; or BatchNorm statistics,
      which lie at the paths of their layers and move with them.

  Returns:
    A tree of the same structure; NumPy leaves give NumPy leaves.

  Raises:
    ValueError: at the first leaf that does not fit, or for indices that are
      none: of another length, repeated, or of an unknown name.

  >>> axes = Axes({"b": "a", "w": "2 a"}, {"a": 2}, {})
  >>> params = {"b": np.array([1.0, 2.0]), "w": np.eye(2)}
  >>> permute(axes, {"a": np.array([1, 0])}, params)["b"].tolist()
  [2.0, 1.0]

  Ainsworth et al. 2023, https://arxiv.org/abs/2209.04836, section 3; the rows
  in blocks are ours.
  """
  checks.check_perm(axes, perm)
  return on_copies(axes, tree, functools.partial(_permute, perm))


def on_copies(axes: Axes, tree: Any, change: Callable[[Axes, Any], Any]) -> Any:
  """Apply `change(axes, tree)` to parameters, and to all that lies beside them.

  Args:
    axes: from `trace_axes`.
    tree: parameters, an optimiser state, or statistics, as in `permute`.
    change: what is done with one copy, whose leaves have the axes' patterns.

  >>> axes, halved = Axes({"w": "a"}, {"a": 2}, {}), lambda axes, t: t["w"] / 2
  >>> on_copies(axes, [1.0, {"w": 4.0}], halved)
  [1.0, 2.0]
  """
  spec: Any = jax.tree.structure(axes.tree)
  if jax.tree.structure(tree) == spec:
    return change(axes, tree)
  parts = jax.tree.flatten(
    tree, is_leaf=lambda t: jax.tree.structure(t) == spec
  )
  one = jax.tree_util.treedef_is_leaf(spec)  # a count is a leaf too
  copies = [
    jax.tree.structure(t) == spec and not (one and np.ndim(t) == 0)
    for t in parts[0]
  ]
  if spec.num_leaves and any(copies):
    changed = [change(axes, t) if c else t for t, c in zip(parts[0], copies)]
    return jax.tree.unflatten(parts[1], changed)
  if not set(trees.names(axes.tree)).isdisjoint(trees.names(tree)):
    return change(axes, tree)  # other containers, or it does not fit
  return change(axes._replace(tree=checks.beside(axes, tree)), tree)


def _permute(perm: Perm, axes: Axes, tree: Any) -> Any:
  checks.check_params(axes, tree, "permute")
  patterns, traced = trees.named(axes.tree), not trees.concrete(perm)

  def leaf(path: str, x: Any) -> Any:
    found = parse(patterns[path])
    if not any(map(_moves, found)):
      return x
    x = jnp.asarray(x) if traced else x
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    change = functools.partial(_move_part, xp, perm)
    return moving.by_parts(x, found, axes.sizes, change)

  return trees.map_named(leaf, tree)


def _move_part(xp: Any, perm: Perm, part: Any, labels: Any) -> Any:
  return moving.move(xp, part, labels, perm)


def _moves(term: Any) -> bool:
  return not isinstance(term, int)


def block_places(perm: Perm, name: str, indices: Any) -> tuple[Any, ...]:
  """Return for each row of a result the row that its blocks come from."""
  xp: Any = jnp if not trees.concrete(perm) else np
  names = {base(n): n for n in perm}
  at = np.indices(np.shape(indices)[:-1])
  own, found = blocks(name), []
  for place, block in enumerate(own):
    key = names.get(block)
    if key is None:
      found.append(at[place][..., None])
      continue
    above = tuple(at[own.index(b)] for b in blocks(key))
    found.append(xp.asarray(perm[key])[(*above, at[place])][..., None])
  return tuple(found)


def source_rows(perm: Perm, name: str, lead: tuple[int, ...]) -> np.ndarray:
  """Return for each block of a result, in order, the block it comes from.

  >>> source_rows({"h": np.array([1, 0])}, "h>d", (2,)).tolist()
  [1, 0]
  """
  places = block_places(perm, name, np.empty((*lead, 1)))
  if not places:
    return np.zeros(1, int)
  return np.ravel_multi_index([p[..., 0] for p in places], lead).ravel()


def compose(first: Perm, then: Perm) -> Perm:
  """Return the permutation that does `first`, and `then` another.

  (first, then)[i] = first[then[i]]; rows of blocks are taken from where `then`
  takes the block.

  Args:
    first: applied first.
    then: applied to the result; of the same names.

  Raises:
    ValueError: at the first name that one lacks, or whose shapes differ.

  >>> p, q = np.array([1, 2, 0]), np.array([0, 2, 1])
  >>> compose({"a": p}, {"a": q})["a"].tolist()
  [1, 0, 2]
  """
  checks.check_alike(first, then)
  return {
    name: _xp(first, then).asarray(p)[
      (
        *block_places(then, name, then[name]),
        _xp(first, then).asarray(then[name]),
      )
    ]
    for name, p in first.items()
  }


def _xp(*perms: Perm) -> Any:
  return np if trees.concrete(perms) else jnp


def invert(perm: Perm) -> Perm:
  """Return the permutation that undoes another.

  >>> invert({"a": np.array([1, 2, 0])})["a"].tolist()
  [2, 0, 1]
  """
  checks.check_alike(perm, perm)
  inverse, xp = {}, _xp(perm)
  for name, p in perm.items():
    p = xp.asarray(p)
    rows, back = block_places(perm, name, p), xp.argsort(p, axis=-1)
    if not rows:
      inverse[name] = back
      continue
    at = (
      tuple(np.broadcast_to(r, p.shape) for r in rows)
      if xp is np
      else tuple(jnp.broadcast_to(r, p.shape) for r in rows)
    )
    place = np.broadcast_to(np.arange(p.shape[-1]), p.shape)
    if xp is np:
      result = np.empty_like(back)
      result[(*at, place)] = back
    else:
      result = jnp.zeros_like(back).at[(*at, place)].set(back)
    inverse[name] = result
  return inverse


def moved(perm: Perm) -> int:
  """Return the number of units that are not where they were.

  >>> moved({"a": np.array([1, 0, 2])})
  2
  """
  return sum(
    int((np.asarray(p) != np.arange(np.shape(p)[-1])).sum())
    for p in perm.values()
  )
