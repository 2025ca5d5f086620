"""Models of other depths: blocks taken in another order, repeated or left out.

Blocks are numbered subtrees (`block_0`, `block_1`, ...) or the leading axis of
layers that are scanned.  A block that is repeated is one block at several
places: its gradient is the sum over them.

>>> params = {"block_0": {"w": 1.0}, "block_1": {"w": 2.0}, "head": 3.0}
>>> restack(params, "block_*", [0, 0, 1])["block_2"]
{'w': 2.0}
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
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


def restack(params: Params, pattern: str, order: Order) -> Params:
  """Return the model whose block i is the block order[i] of `params`.

  Args:
    params: with numbered blocks, or layers stacked on a leading axis; any
      leaves beside them stay.
    pattern: the path of a block with one `*` for its number, "block_*" or
      "encoder/layers/*"; for stacked layers the path of their subtree,
      "blocks", or of the whole tree, "".
    order: numbers of blocks as they are now, at least one; of stacked layers it
      may be traced.

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
  return replace(params, pattern, lambda found: _ordered(found, order))


def count(params: Params, pattern: str) -> int:
  """Return how many blocks fit a pattern, as in `restack`.

  >>> count({"block_0": 1.0, "block_1": 2.0}, "block_*")
  2
  """
  return len(numbers(params, pattern))


def numbers(params: Params, pattern: str) -> list[int]:
  """Return the numbers of the blocks that fit a pattern, in order."""
  known: list[int] = []

  def note(blocks: Blocks) -> Blocks:
    known.extend(_known(blocks))
    return blocks

  replace(params, pattern, note)
  return known


class Stacked(NamedTuple):
  """Blocks as one tree whose leaves have a leading axis [blocks, ...]."""

  layers: Any


Blocks = dict[int, Any] | Stacked  # the blocks by number, or stacked


def replace(
  params: Params, pattern: str, change: Callable[[Blocks], Blocks]
) -> Params:
  """Put other blocks in the place of those that fit a pattern.

  Args:
    params, pattern: as in `restack`.
    change: what to make of the blocks; their numbers become their names.

  Raises:
    ValueError: for a pattern of several `*`, or that fits no blocks.

  >>> replace({"a0": 1, "b": 2}, "a*", lambda blocks: blocks | {1: 5})
  {'b': 2, 'a0': 1, 'a1': 5}
  """
  if pattern.count("*") > 1:
    raise ValueError(f"restack: pattern {pattern!r}, expected one '*' at most")
  before, star, after = pattern.partition("*")
  number = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
  result, count = _numbered(params, "", number, change) if star else (params, 0)
  if not count and not after:
    upper = before.removesuffix("/") if star else pattern
    result, count = _stacked(params, "", upper, change)
  if count != 1:
    paths = ", ".join(map(repr, trees.names(params)[:3]))
    raise ValueError(
      f"restack: {pattern!r} fits {'several lists of' if count else 'no'}"
      f" blocks, the paths begin with {paths}"
    )
  return result


Changed = tuple[Any, int]  # a tree, and in how many places it was changed


def _numbered(
  tree: Any,
  path: str,
  number: re.Pattern[str],
  change: Callable[[Blocks], Blocks],
) -> Changed:
  """Change the numbered children of each container that has some."""
  others, blocks, names, count = {}, {}, {}, 0
  for key, child in _children(tree).items():
    match = number.fullmatch(f"{path}{key}")
    if match:
      start, stop = (place - len(path) for place in match.span(1))
      names[int(match[1])] = key, start, stop
      blocks[int(match[1])] = child
    else:
      others[key], below = _numbered(child, f"{path}{key}/", number, change)
      count += below
  if blocks:
    key, start, stop = names[min(names)]
    changed = change({n: blocks[n] for n in sorted(blocks)})
    for n, block in changed.items():  # type: ignore[union-attr]
      name = f"{str(key)[:start]}{n}{str(key)[stop:]}"
      others[type(key)(name)] = block
    count += 1
  return (_rebuilt(tree, others), count) if count else (tree, 0)


def _stacked(
  tree: Any, path: str, upper: str, change: Callable[[Blocks], Blocks]
) -> Changed:
  """Change the subtree at a path, whose leaves have a leading axis."""
  if path == upper:
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or () in lengths:
      return tree, 0
    return change(Stacked(tree)).layers, 1  # type: ignore[union-attr]
  items, count = _children(tree), 0
  for key, child in items.items():
    below = f"{path}/{key}" if path else f"{key}"
    items[key], more = _stacked(child, below, upper, change)
    count += more
  return (_rebuilt(tree, items), count) if count else (tree, 0)


def _children(tree: Any) -> dict[Any, Any]:
  """Return what a dict or a list holds; nothing for another tree."""
  if isinstance(tree, Mapping):
    return dict(tree)
  return dict(enumerate(tree)) if isinstance(tree, list | tuple) else {}


def _rebuilt(tree: Any, items: dict[Any, Any]) -> Any:
  """Return a container like `tree` that holds other items."""
  if isinstance(tree, Mapping):
    return type(tree)(items)  # type: ignore[call-arg]
  values = [items[key] for key in sorted(items)]
  return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


def _known(blocks: Blocks) -> list[int]:
  """Return the numbers of blocks."""
  if not isinstance(blocks, Stacked):
    return list(blocks)
  return list(range(np.shape(jax.tree.leaves(blocks.layers)[0])[0]))


def _ordered(blocks: Blocks, order: Order) -> Blocks:
  """Return the blocks in an order, numbered from the first number on."""
  if isinstance(blocks, Stacked):
    places = _numbers(order, _known(blocks))

    def layer(x: Any) -> Any:
      xp: Any = np if isinstance(x, np.ndarray) else jnp
      xp = xp if trees.concrete(places) else jnp
      return xp.take(xp.asarray(x), places, axis=0)

    return Stacked(jax.tree.map(layer, blocks.layers))
  if not trees.concrete(order):
    raise ValueError("restack: order is traced, expected numbers for names")
  chosen = _numbers(order, _known(blocks)).tolist()
  _check_seams(blocks, chosen)
  return {min(blocks) + k: blocks[n] for k, n in enumerate(chosen)}


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


def _check_seams(blocks: dict[int, Any], order: list[int]) -> None:
  """Raise a ValueError where a block follows one that it does not fit.

  What comes out of a block fits the block after it, now, and so all blocks of
  its shapes.  Blocks that are all alike fit each other in any order.
  """
  kinds = {n: _kind(block) for n, block in blocks.items()}
  if len(set(kinds.values())) == 1:
    return
  seams: list[set[Any]] = []  # what fits together: ends of kinds of blocks
  for seam in map(set, _seams(kinds, list(blocks))):
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
