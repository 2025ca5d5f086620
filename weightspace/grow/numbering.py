"""Where the blocks of a model are: numbered subtrees, or a leading axis.

>>> blocks_of({"block_0": 1.0, "block_1": 2.0, "head": 3.0}, "block_*")
{0: 1.0, 1: 2.0}
>>> replace({"block_0": 1.0, "head": 3.0}, "block_*", lambda _: {1: 4.0})
{'head': 3.0, 'block_1': 4.0}
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace import trees
from weightspace.types import Params


class Stacked(NamedTuple):
  """Blocks as one tree whose leaves have a leading axis [blocks, ...]."""

  layers: Any


Blocks = dict[int, Any] | Stacked  # the blocks by number, or stacked


def blocks_of(params: Params, pattern: str) -> Blocks:
  """Return the blocks that fit a pattern, as in `restack`.

  >>> blocks_of({"block_0": 1.0, "block_1": 2.0, "head": 3.0}, "block_*")
  {0: 1.0, 1: 2.0}
  """
  taken: list[Blocks] = []

  def take(blocks: Blocks) -> Blocks:
    taken.append(blocks)
    return blocks

  replace(params, pattern, take)
  return taken[0]


def numbers(params: Params, pattern: str) -> list[int]:
  """Return the numbers of the blocks that fit a pattern, in order."""
  return known(blocks_of(params, pattern))


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


def known(blocks: Blocks) -> list[int]:
  """Return the numbers of blocks."""
  if not isinstance(blocks, Stacked):
    return list(blocks)
  return list(range(np.shape(jax.tree.leaves(blocks.layers)[0])[0]))
