"""Masks as sets: a tree of booleans beside the parameters.

A mask has the structure and the shapes of what it masks; leaves that are never
pruned are all true.  Two masks meet, join and are compared entry by entry.

>>> a, b = jnp.array([True, True, False]), jnp.array([False, True, True])
>>> union(a, b).tolist(), intersect(a, b).tolist()
([True, True, True], [False, True, False])
"""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Params


def check(params: Params, mask: Params, what: str) -> None:
  """Raise a ValueError at the first leaf that is no boolean, or misshapen."""
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(jnp.shape(x), bool), params
  )
  trees.check_same(wanted, mask, f"{what}: mask")


def _checked(masks: Sequence[Params], what: str) -> list[Params]:
  if not masks:
    raise ValueError(f"{what}: no masks, expected at least one")
  for index, mask in enumerate(masks):
    check(masks[0], mask, f"{what}: {index}-th")
  return [jax.tree.map(jnp.asarray, mask) for mask in masks]


def union(*masks: Params) -> Params:
  """Return what any of some masks keeps.

  Raises:
    ValueError: without masks, or at the first leaf that differs in shape or
      is no boolean.

  >>> union({"w": jnp.array([True, False])})["w"].tolist()
  [True, False]
  """
  return jax.tree.map(
    lambda *leaves: functools.reduce(operator.or_, leaves),
    *_checked(masks, "union"),
  )


def intersect(*masks: Params) -> Params:
  """Return what all of some masks keep.

  Raises:
    ValueError: as `union`.

  >>> intersect(jnp.array([True, False]), jnp.array([True, True])).tolist()
  [True, False]
  """
  return jax.tree.map(
    lambda *leaves: functools.reduce(operator.and_, leaves),
    *_checked(masks, "intersect"),
  )


def exclusive(mask: Params, earlier: Sequence[Params]) -> Params:
  """Return what a mask keeps and no earlier mask does: what it may change.

  Args:
    mask: of the task at hand.
    earlier: the masks of the tasks before it; none for the first task.

  Returns:
    mask and not (earlier[0] or earlier[1] or ...).

  Raises:
    ValueError: where `earlier` is no list, or at the first leaf that differs.

  >>> mask, before = jnp.array([False, True]), jnp.array([True, False])
  >>> exclusive(mask, [before]).tolist()
  [False, True]

  Yadav & Bansal 2023, "Exclusive supermask subnetwork training for continual
  learning", https://arxiv.org/abs/2210.10209.
  """
  if isinstance(earlier, Mapping) or not isinstance(earlier, Sequence):
    raise ValueError(
      f"exclusive: earlier is a {type(earlier).__name__}, expected a list of"
      " masks"
    )
  mask, *before = _checked([mask, *earlier], "exclusive")
  if not before:
    return mask
  return jax.tree.map(lambda new, old: new & ~old, mask, union(*before))


def overlap(a: Params, b: Params) -> jax.Array:
  """Return the intersection of two masks over their union, of all entries.

  Two masks that keep nothing are the same: 1.  Independent masks of density d
  overlap by d / (2 - d).

  Returns:
    float32 in [0, 1].

  Raises:
    ValueError: at the first leaf that differs in shape or is no boolean.

  >>> overlap(jnp.array([True, True]), jnp.array([True, False])).item()
  0.5

  The measure of Zhang et al. 2021, https://arxiv.org/abs/2104.08700.
  """
  both, either = (
    sum(
      (x.sum(dtype=jnp.float32) for x in jax.tree.leaves(tree)), jnp.zeros(())
    )
    for tree in (intersect(a, b), union(a, b))
  )
  return jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0)


def counts(mask: Params) -> dict[str, Any]:
  """Return how many entries a mask keeps in each leaf, by path.

  Raises:
    ValueError: at the first leaf that is no boolean.

  >>> counts({"w": jnp.array([True, False, True])})
  {'w': 2}
  """
  check(mask, mask, "counts")
  if not trees.concrete(mask):
    return {path: jnp.sum(x) for path, x in trees.named(mask).items()}
  return {
    path: int(np.count_nonzero(np.asarray(x)))
    for path, x in trees.named(mask).items()
  }


def apply(params: Params, mask: Params) -> Params:
  """Set to zero what a mask leaves out.

  Args:
    params: of one model.
    mask: booleans, shaped as `params`.

  Returns:
    Params, in their dtypes.

  Raises:
    ValueError: at the first leaf that the mask is not shaped as.

  >>> apply({"w": jnp.ones(2)}, {"w": jnp.array([True, False])})["w"].tolist()
  [1.0, 0.0]
  """
  check(params, mask, "apply")
  return jax.tree.map(
    lambda x, keep: jnp.where(keep, x, jnp.zeros_like(x)), params, mask
  )
