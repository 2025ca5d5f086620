"""Axes: a model's permutation symmetry as plain data.

For each parameter there is a pattern, one word for each axis.  A name stands
for units that can be reordered, the same name everywhere meaning the same
order; a number is the size of an axis that is fixed.  Brackets tell what an
axis is made of: `(49 conv)` is a flattened image, every pixel with the same
channels, `(a+b)` a concatenation.  A name may say in which blocks it lies: the
units `heads>inner` have an order of their own in each head, and move with it.

>>> axes = Axes({"w": "3 units", "b": "units"}, {"units": 2}, {"w:0": "input"})
>>> print(axes)
b  units
w  3 units
units  2 units on 2 axes
w:0  fixed by input
"""

import functools
import json
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from weightspace import trees
from weightspace.symmetry import terms
from weightspace.types import Params

BLOCK = ">"  # between the names of blocks and what lies in them


class Axes(NamedTuple):
  """The symmetry of a model; every field is plain data.

  `tree` has the structure of the parameters, a pattern at each leaf; `sizes`
  the number of units of each name; `pins` says what fixed an axis, by
  "path:axis", or by name where fixed blocks hold units of their own;
  `statistics` are the paths of the running statistics of norms, which move but
  are never scored: None where no program was read, and names tell.
  """

  tree: Any
  sizes: dict[str, int]
  pins: dict[str, str]
  statistics: tuple[str, ...] | None = None

  def __str__(self) -> str:
    patterns = trees.named(self.tree)
    width = max(map(len, patterns), default=0)
    lines = [f"{path:{width}}  {p}".rstrip() for path, p in patterns.items()]
    for name in free(self):
      count = sum(p.count(name) > 0 for p in map(words, patterns.values()))
      lines.append(f"{name}  {self.sizes[name]} units on {count} axes")
    lines += [f"{place}  fixed by {why}" for place, why in self.pins.items()]
    return "\n".join(lines)


Perm = dict[str, Any]  # {name: indices [*blocks, n]}


def words(pattern: str) -> list[str]:
  """Return the names and numbers of a pattern.

  >>> words("3 (49 conv)")
  ['3', '49', 'conv']
  """
  return re.findall(r"[^\s()+]+", pattern)


def base(name: str) -> str:
  """Return a name without its blocks.

  >>> base("heads>inner")
  'inner'
  """
  return name.rpartition(BLOCK)[2]


def blocks(name: str) -> list[str]:
  """Return the blocks that a name lies in, outermost first, without theirs.

  >>> blocks("layers>heads>inner")
  ['layers', 'heads']
  """
  return name.split(BLOCK)[:-1]


def free(axes: Axes) -> list[str]:
  """Return the names that can be permuted, in order of their leaves."""
  return [name for name in axes.sizes if name not in axes.pins]


def shape(axes: Axes, name: str) -> tuple[int, ...]:
  """Return the shape of a permutation: of its blocks, then its units."""
  sizes = {base(n): size for n, size in axes.sizes.items()}
  return (*(sizes[block] for block in blocks(name)), axes.sizes[name])


@functools.lru_cache(maxsize=4096)
def parse(pattern: str) -> tuple[Any, ...]:
  """Return a pattern as terms whose atoms are names and numbers.

  Raises:
    ValueError: for unbalanced brackets, or "+" outside of them.

  >>> parse("3 (49 conv)")[1]
  Product(factors=(49, 'conv'))
  """
  tokens = re.findall(r"[()+]|[^\s()+]+", pattern)
  found, rest = _read(tokens)
  if rest:
    raise ValueError(f"axes: pattern {pattern!r}, expected balanced brackets")
  return found


def _read(tokens: list[str]) -> tuple[tuple[Any, ...], list[str]]:
  """Read words up to a closing bracket or a plus."""
  items: list[Any] = []
  while tokens and tokens[0] not in (")", "+"):
    head, *tokens = tokens
    if head != "(":
      items.append(int(head) if head.isdigit() else head)
      continue
    parts = []
    while True:
      inner, tokens = _read(tokens)
      parts.append(terms.product(inner) if len(inner) != 1 else inner[0])
      if not tokens:
        raise ValueError("axes: a bracket is not closed")
      head, *tokens = tokens
      if head == ")":
        break
    items.append(parts[0] if len(parts) == 1 else terms.Sum(tuple(parts)))
  return tuple(items), tokens


def extent(term: Any, sizes: dict[str, int]) -> int:
  """Return the number of units of a parsed term."""
  if isinstance(term, terms.Product):
    return int(np.prod([extent(f, sizes) for f in term.factors], dtype=int))
  if isinstance(term, terms.Sum):
    return sum(extent(part, sizes) for part in term.parts)
  return term if isinstance(term, int) else sizes[term]


def to_json(axes: Axes, perm: Perm | None = None) -> str:
  """Return axes, and a permutation where one is given, as JSON.

  >>> to_json(Axes({"w": "a"}, {"a": 2}, {}), {"a": np.array([1, 0])})
  '{"axes": {"w": "a"}, "sizes": {"a": 2}, "pins": {}, "perm": {"a": [1, 0]}}'
  """
  plain: dict[str, Any] = {
    "axes": trees.named(axes.tree),
    "sizes": axes.sizes,
    "pins": axes.pins,
  }
  if axes.statistics is not None:
    plain["statistics"] = list(axes.statistics)
  if perm is not None:
    plain["perm"] = {name: np.asarray(p).tolist() for name, p in perm.items()}
  return json.dumps(plain)  # the order of names is that of matching


def from_json(text: str, params: Params) -> tuple[Axes, Perm | None]:
  """Return the axes of `params`, and the permutation, that were saved.

  Args:
    text: what `to_json` gave.
    params: parameters of the model, or their shapes, for their structure.

  Raises:
    ValueError: at the first path that one of the two does not have, or for
      another text.

  >>> text = to_json(Axes({"w": "a"}, {"a": 2}, {}))
  >>> from_json(text, {"w": np.ones(2)})[0].tree
  {'w': 'a'}
  """
  plain = json.loads(text)
  for part in ("axes", "sizes", "pins"):
    if part not in plain:
      raise ValueError(f"axes: the text has no {part!r}, expected `to_json`'s")
  patterns, paths = plain["axes"], trees.names(params)
  for path in [*paths, *patterns]:
    if path not in patterns or path not in paths:
      where = "the parameters" if path in patterns else "the file"
      raise ValueError(f"axes: {path!r} is not in {where}")
  tree = jax.tree.unflatten(
    jax.tree.structure(params), [*map(patterns.get, paths)]
  )
  perm = plain.get("perm")
  if perm is not None:
    perm = {name: np.asarray(p, np.int64) for name, p in perm.items()}
  own = plain.get("statistics")
  return Axes(
    tree, plain["sizes"], plain["pins"], own if own is None else tuple(own)
  ), perm
