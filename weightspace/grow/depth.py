"""Models of other depths: blocks taken in another order, repeated or left out.

Blocks are numbered subtrees (`block_0`, `block_1`, ...) or the leading axis of
layers that are scanned.  A block that is repeated is one block at several
places: its gradient is the sum over them.

>>> params = {"block_0": {"w": 1.0}, "block_1": {"w": 2.0}, "head": 3.0}
>>> restack(params, "block_*", [0, 0, 1])["block_2"]
{'w': 2.0}
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import numbering
from weightspace.grow.numbering import Blocks, Stacked
from weightspace.types import Params

Order = Sequence[int]  # the old number of each new block


def spaced(old: int, new: int) -> list[int]:
  """Return `new` of `old` blocks, from the first on, each old // new apart.

  Args:
    old: how many blocks there are.
    new: how many to keep, at most `old`.

  Raises:
    ValueError: for other numbers.

  >>> spaced(12, 5)  # the last is not among them
  [0, 2, 4, 6, 8]

  Wu et al. 2023, "TinyCLIP", https://arxiv.org/abs/2309.12314, as their code
  does.
  """
  if not 1 <= new <= old:
    raise ValueError(f"spaced: {new} of {old} blocks, expected 1 to {old}")
  return [k * (old // new) for k in range(new)]


def restack(
  params: Params, pattern: str, order: Order, *, check: bool = True
) -> Params:
  """Return the model whose block i is the block order[i] of `params`.

  Args:
    params: with numbered blocks, or layers stacked on a leading axis; any
      leaves beside them stay.
    pattern: the path of a block with one `*` for its number, "block_*" or
      "encoder/layers/*"; for stacked layers the path of their subtree,
      "blocks", or of the whole tree, "".
    order: numbers of blocks as they are now, at least one; of stacked layers it
      may be traced.
    check: whether blocks of different shapes may only meet as they do now;
      False where it is known that they fit, as from `block_scores`.

  Returns:
    Params; new blocks are numbered from the first old number on.

  Raises:
    ValueError: where no block fits the pattern, for a number that is none, or
      where a block would follow one after which its shapes never stood.

  >>> layers = {"blocks": {"w": jnp.arange(3.0)}}
  >>> restack(layers, "blocks", [0, 2, 2])["blocks"]["w"].tolist()
  [0.0, 2.0, 2.0]

  Repeats: Xia et al. 2024, "Learngene", https://arxiv.org/abs/2404.16897;
  omissions: Jordao et al. 2023, https://arxiv.org/abs/2301.10835.
  """
  return numbering.replace(
    params, pattern, functools.partial(_ordered, order, check)
  )


def _ordered(order: Order, check: bool, found: Blocks) -> Blocks:
  """Return the blocks in an order, numbered from the first number on."""
  if isinstance(found, Stacked):
    places = _numbers(order, numbering.known(found))

    def layer(x: Any) -> Any:
      xp: Any = np if isinstance(x, np.ndarray) else jnp
      xp = xp if trees.concrete(places) else jnp
      return xp.take(xp.asarray(x), places, axis=0)

    return Stacked(jax.tree.map(layer, found.layers))
  if not trees.concrete(order):
    raise ValueError("restack: order is traced, expected numbers for names")
  chosen = _numbers(order, numbering.known(found)).tolist()
  if check:
    _check_seams(found, chosen)
  return {min(found) + k: found[n] for k, n in enumerate(chosen)}


def _numbers(order: Order, known: Sequence[int]) -> Any:
  """Return the order as an array, its concrete numbers being known ones."""
  if not trees.concrete(order):
    return jnp.asarray(order)
  chosen = np.asarray(order)
  if chosen.ndim != 1 or not chosen.size:
    raise ValueError(
      f"restack: order has shape {chosen.shape}, expected [n], n at least 1"
    )
  if not np.issubdtype(chosen.dtype, np.integer):
    raise ValueError(f"restack: order is {chosen.dtype}, expected integers")
  for n in chosen.tolist():
    if n not in known:
      raise ValueError(
        f"restack: order holds {n}, expected numbers of {min(known)} to"
        f" {max(known)}"
      )
  return chosen


def _check_seams(found: dict[int, Any], order: list[int]) -> None:
  """Raise a ValueError where a block follows one that it does not fit.

  What comes out of a block fits the block after it, now, and so all blocks of
  its shapes.  Blocks that are all alike fit each other in any order.
  """
  kinds = {n: _kind(block) for n, block in found.items()}
  if len(set(kinds.values())) == 1:
    return
  seams: list[set[Any]] = []  # what fits together: ends of kinds of blocks
  for seam in map(set, _seams(kinds, list(found))):
    near = [other for other in seams if other & seam]
    seams = [s for s in seams if s not in near] + [seam.union(*near)]
  for place, (end, start) in enumerate(_seams(kinds, order)):
    if not any(end in s and start in s for s in seams):
      raise ValueError(
        f"restack: block {order[min(place, len(order) - 1)]} would"
        f" {_position(place, order)}, where no block of its shapes is now"
      )


def _position(place: int, order: list[int]) -> str:
  if place == len(order):
    return "be the last"
  return f"follow block {order[place - 1]}" if place else "be the first"


def _seams(kinds: dict[int, Any], order: list[int]) -> list[tuple[Any, Any]]:
  """Return what meets in each seam: the end of a block, and a beginning."""
  ends = ["start", *(("out", kinds[n]) for n in order)]
  return list(zip(ends, [*(("in", kinds[n]) for n in order), "end"]))


def _kind(block: Any) -> Any:
  """Return the structure, shapes and dtypes of a block."""
  leaves, structure = jax.tree.flatten(block)
  kinds = tuple((np.shape(x), getattr(x, "dtype", type(x))) for x in leaves)
  return structure, kinds
