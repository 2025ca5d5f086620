"""Deep networks from modules that are trained apart, in one shallow network.

A meta network has one block for each module.  A module is trained in its place
there, so it learns to work with what the others will give it; then the modules
are put together.

>>> meta = {"block_0": 1.0, "block_1": 2.0, "head": 3.0}
>>> hybrid(meta, {"block_0": 5.0, "block_1": 6.0}, 1)
{'head': 3.0, 'block_0': 1.0, 'block_1': 5.0, 'block_2': 6.0}
>>> assemble([{"block_0": 4.0}, {"block_0": 5.0, "block_1": 6.0, "head": 7.0}])
{'head': 7.0, 'block_0': 4.0, 'block_1': 5.0, 'block_2': 6.0}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import depth, numbering
from weightspace.grow.numbering import Blocks, Stacked
from weightspace.types import Params

PATTERN = "block_*"


def part(
  params: Params,
  places: Sequence[int],
  owned: Sequence[str] = (),
  pattern: str = PATTERN,
) -> Params:
  """Return some blocks of a model, and the leaves beside them that they own.

  Args:
    params: of a model, or of a hybrid.
    places: the numbers of the blocks.
    owned: paths beside the blocks: an embedding goes with the first module, a
      head with the last.
    pattern: of the blocks, as in `restack`.

  Raises:
    ValueError: for a block or a path that is not there.

  >>> part({"block_0": 1.0, "block_1": 2.0, "head": 3.0}, [1], ["head"])
  {'head': 3.0, 'block_0': 2.0}
  """
  chosen = depth.restack(params, pattern, places)
  count = numbering.numbers(chosen, pattern)
  return _pruned(chosen, inside(chosen, count, owned, pattern))


def _pruned(tree: Any, mask: Any) -> Any:
  """Leave out the leaves of a dict whose mask is nowhere true."""
  if not isinstance(tree, Mapping):
    return tree
  items = {
    key: _pruned(child, mask[key])
    for key, child in tree.items()
    if any(np.any(m) for m in jax.tree.leaves(mask[key]))
  }
  return type(tree)(items)  # type: ignore[call-arg]


def inside(
  params: Params,
  places: Sequence[int],
  owned: Sequence[str] = (),
  pattern: str = PATTERN,
) -> Params:
  """Return where a module lies: booleans, true in its blocks and what it owns.

  With `sparse.train_only` it has an optimiser leave the rest as it is, while
  gradients pass through it.

  Args:
    params, places, owned, pattern: as in `part`.

  >>> inside({"block_0": 1.0, "block_1": 2.0}, [1])
  {'block_0': array(False), 'block_1': array(True)}
  """
  known = numbering.numbers(params, pattern)
  for place in places:
    if place not in known:
      raise ValueError(f"inside: no block {place}, expected some of {known}")
  paths = trees.names(params)
  for upper in owned:
    if not any(_within(path, upper) for path in paths):
      raise ValueError(f"inside: {upper!r} is no path, expected {paths[0]!r}")

  def beside(path: str, x: Any) -> np.ndarray:
    here = any(_within(path, upper) for upper in owned)
    return np.full(np.shape(x), here)

  rows = np.isin(known, list(places))

  def layer(x: Any) -> np.ndarray:
    return np.broadcast_to(rows.reshape(-1, *[1] * (x.ndim - 1)), x.shape)

  def mark(blocks: Blocks) -> Blocks:
    if isinstance(blocks, Stacked):
      return Stacked(jax.tree.map(layer, blocks.layers))
    return {
      n: jax.tree.map(lambda x, n=n: np.full(x.shape, n in places), block)
      for n, block in blocks.items()
    }

  return numbering.replace(trees.map_named(beside, params), pattern, mark)


def _within(path: str, upper: str) -> bool:
  return path == upper or path.startswith(f"{upper}/")


def hybrid(
  meta: Params, module: Params, place: int, pattern: str = PATTERN
) -> Params:
  """Return the meta network with a module in the place of one of its blocks.

  Args:
    meta: with one block for each module.
    module: blocks of the same pattern, any number; leaves beside them replace
      those of the meta network.
    place: the number of the block that goes.
    pattern: of the blocks, as in `restack`.

  Returns:
    Params, everything outside of the module as it was.

  Raises:
    ValueError: for a block that is not there, or a module whose blocks or other
      leaves have other shapes.

  >>> layers = {"blocks": jnp.array([1.0, 2.0])}
  >>> hybrid(layers, {"blocks": jnp.array([7.0, 8.0])}, 0, "blocks")["blocks"]
  Array([7., 8., 2.], dtype=float32)

  Ni et al. 2023, "Deep Incubation", https://arxiv.org/abs/2212.04129: gradients
  pass through the modules behind, which stay.
  """
  known = numbering.numbers(meta, pattern)
  if place not in known:
    raise ValueError(f"hybrid: no block {place}, expected one of {known}")
  at, own = known.index(place), numbering.blocks_of(module, pattern)
  beside = trees.named(_rest(module, pattern))

  def leaf(path: str, x: Any) -> Any:
    y = beside.pop(path, x)
    trees.check_same(x, y, f"hybrid: {path!r} of the module")
    return y

  def change(blocks: Blocks) -> Blocks:
    _check_alike(_rows(blocks, [place]), own, f"hybrid: block {place}")
    rows = _rows(blocks, known[:at]), own, _rows(blocks, known[at + 1 :])
    return _joined(rows, known[0])

  whole = trees.map_named(leaf, meta)
  if beside:
    raise ValueError(
      f"hybrid: {next(iter(beside))!r} of the module is not in the meta network"
    )
  return numbering.replace(whole, pattern, change)


def assemble(modules: Sequence[Params], pattern: str = PATTERN) -> Params:
  """Return the network of modules, one after the other.

  Args:
    modules: each with blocks of the pattern, and the leaves beside them that it
      owns.
    pattern: of the blocks, as in `restack`.

  Returns:
    Params, the blocks numbered anew.

  Raises:
    ValueError: for no modules, blocks of different shapes, or a leaf that two
      modules own and that differs.

  >>> assemble([{"blocks": jnp.ones(1)}, {"blocks": jnp.zeros(2)}], "blocks")
  {'blocks': Array([1., 0., 0.], dtype=float32)}

  Ni et al. 2023, https://arxiv.org/abs/2212.04129.
  """
  if not modules:
    raise ValueError("assemble: no modules, expected at least one")
  rows = [numbering.blocks_of(module, pattern) for module in modules]
  whole, first = modules[0], numbering.numbers(modules[0], pattern)[0]
  for number, module in enumerate(modules[1:], 1):
    _check_alike(rows[0], rows[number], f"assemble: module {number}")
    whole = _union(whole, _rest(module, pattern), "")
  return numbering.replace(whole, pattern, lambda _: _joined(rows, first))


def _rest(module: Params, pattern: str) -> Params:
  """Return a module without its blocks."""
  mask = inside(module, numbering.numbers(module, pattern), (), pattern)
  return _pruned(module, jax.tree.map(np.logical_not, mask))


def _rows(blocks: Blocks, numbers: Sequence[int]) -> Blocks:
  """Return some of the blocks; stacked ones are numbered from 0."""
  if not isinstance(blocks, Stacked):
    return {n: blocks[n] for n in numbers}
  rows = np.array(numbers, int)
  return Stacked(jax.tree.map(lambda x: x[rows], blocks.layers))


def _joined(rows: Sequence[Blocks], first: int) -> Blocks:
  """Return blocks one after the other, numbered from the first number on."""
  stacks = [row.layers for row in rows if isinstance(row, Stacked)]
  if stacks:
    return Stacked(jax.tree.map(lambda *xs: jnp.concatenate(xs), *stacks))
  listed = [b for row in rows for b in row.values()]  # type: ignore[union-attr]
  return {first + k: block for k, block in enumerate(listed)}


def _check_alike(a: Blocks, b: Blocks, what: str) -> None:
  """Raise a ValueError at the first block that has other shapes."""
  if isinstance(a, Stacked) or isinstance(b, Stacked):
    if not (isinstance(a, Stacked) and isinstance(b, Stacked)):
      raise ValueError(f"{what}: numbered blocks beside stacked layers")
    first, second = (jax.tree.map(lambda x: x[0], row.layers) for row in (a, b))
    return trees.check_same(first, second, what)
  like = next(iter(a.values()))
  for block in b.values():
    trees.check_same(like, block, what)


def _union(a: Any, b: Any, path: str) -> Any:
  """Return a dict with the leaves of two; a leaf of both has to be the same."""
  if isinstance(a, Mapping) and isinstance(b, Mapping):
    items = dict(a)
    for key, child in b.items():
      below = f"{path}/{key}" if path else f"{key}"
      items[key] = _union(a[key], child, below) if key in a else child
    return type(a)(items)  # type: ignore[call-arg]
  trees.check_same(a, b, f"assemble: {path!r}")
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b))
  if not all(x is y or _equal(x, y) for x, y in pairs):
    raise ValueError(
      f"assemble: {path!r} differs between modules, expected one owner"
    )
  return a


def _equal(x: Any, y: Any) -> bool:
  return trees.concrete(x, y) and np.array_equal(x, y)
