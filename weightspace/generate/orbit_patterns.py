"""Orbits of pairs of entries: how a piece can depend on another.

Under reorderings of units, what may be told of several indices of one name is
only which of them are equal.  So a linear map that commutes with every
reordering is a sum of patterns: axes of the input are joined at equal indices
and averaged, down to a few indices that the output is filled by.

>>> [spec for _, spec in reductions(("h",))]
['aY->Y', 'aY->aY']
"""

import itertools
import string
from collections.abc import Iterator
from typing import Any, NamedTuple

from weightspace.generate.unit_pieces import INDEX
from weightspace.symmetry.axes import base, blocks

Kind = tuple[tuple[str, tuple[int, ...]], ...]  # (label, within) of each index


class Part(NamedTuple):
  """Axes of a piece that share an index, and what they lie in."""

  label: str
  within: tuple[int, ...]  # the parts that are its blocks
  places: tuple[int, ...]  # the axes


def _ways(labels: tuple[str, ...]) -> Iterator[tuple[Part, ...]]:
  """Yield every way to let axes of one name share an index.

  Units that lie in blocks share one only where their blocks do.
  """
  names = [base(n).split(INDEX)[0] for n in labels]
  above = [
    tuple(names.index(b) for b in blocks(n) if b in names) for n in labels
  ]
  order = sorted(range(len(labels)), key=lambda a: len(above[a]))

  def join(rest: list[int], parts: tuple[Part, ...]) -> Iterator[Any]:
    if not rest:
      yield parts
      return
    axis, *rest = rest
    holder = {a: i for i, part in enumerate(parts) for a in part.places}
    within = tuple(holder[a] for a in above[axis])
    yield from join(rest, (*parts, Part(labels[axis], within, (axis,))))
    for i, part in enumerate(parts):
      if part[:2] == (labels[axis], within):
        wider = part._replace(places=(*part.places, axis))
        yield from join(rest, (*parts[:i], wider, *parts[i + 1 :]))

  return join(order, ())


def _kept(parts: tuple[Part, ...]) -> Iterator[tuple[int, ...]]:
  """Yield the sets of parts that hold the blocks of their own units."""
  for count in range(len(parts) + 1):
    for chosen in itertools.combinations(range(len(parts)), count):
      if all(set(parts[i].within) <= set(chosen) for i in chosen):
        yield tuple(
          sorted(chosen, key=lambda i: (len(parts[i].within), parts[i].label))
        )


def reductions(labels: tuple[str, ...]) -> Iterator[tuple[Kind, str]]:
  """Yield what a piece comes to when axes are joined and averaged.

  The einsum gives the sum; the last letter is that of the channels.
  """
  for parts in _ways(labels):
    letters = _letters(parts, len(labels))
    for chosen in _kept(parts):
      kind = tuple(
        (parts[i].label, tuple(map(chosen.index, parts[i].within)))
        for i in chosen
      )
      kept = "".join(string.ascii_lowercase[i] for i in chosen)
      yield kind, f"{letters}Y->{kept}Y"


def _letters(parts: tuple[Part, ...], count: int) -> str:
  """Return the letter of the part of each axis."""
  holder = {a: i for i, part in enumerate(parts) for a in part.places}
  return "".join(string.ascii_lowercase[holder[a]] for a in range(count))


def fillings(
  labels: tuple[str, ...], kind: Kind
) -> Iterator[tuple[tuple[Part, ...], tuple[int, ...]]]:
  """Yield the ways to fill a piece with what depends on `kind`'s indices."""
  for parts in _ways(labels):
    for chosen in itertools.permutations(range(len(parts)), len(kind)):
      if all(
        parts[i].label == label
        and parts[i].within == tuple(chosen[w] for w in within)
        for i, (label, within) in zip(chosen, kind)
      ):
        yield parts, chosen
