"""Terms: what an axis is made of.

A term is an atom (a whole number: a set of units that are alike), a Product of
terms (a reshaped axis, major first) or a Sum of terms (a concatenated axis).
That two axes belong together is an equation between terms (`equations`).

>>> forest = Forest([], [], [])
>>> units = Product((fresh(forest, 2), fresh(forest, 3)))
>>> size(forest, units), atoms(units)
(6, [0, 1])
"""

import math
from typing import Any, NamedTuple


class Product(NamedTuple):
  """Every combination of the factors, the last one fastest."""

  factors: tuple[Any, ...]


class Sum(NamedTuple):
  """The parts one after the other."""

  parts: tuple[Any, ...]


Term = int | Product | Sum
ONE = Product(())  # an axis of size one


class Forest(NamedTuple):
  """All atoms by number: size, what they turned out to be, why they are fixed.

  The lists grow and change while equations are solved.
  """

  sizes: list[int]
  links: list[Term | None]
  pins: list[str | None]


def fresh(forest: Forest, size: int, why: str | None = None) -> Term:
  """Return a new atom, pinned where a reason is given; ONE for size one."""
  if size == 1:
    return ONE
  forest.sizes.append(int(size))
  forest.links.append(None)
  forest.pins.append(why)
  return len(forest.sizes) - 1


def size(forest: Forest, term: Term) -> int:
  """Return the number of units of a term."""
  if isinstance(term, int):
    return forest.sizes[term]
  if isinstance(term, Product):
    return math.prod(size(forest, factor) for factor in term.factors)
  return sum(size(forest, part) for part in term.parts)


def factors(term: Term) -> tuple[Any, ...]:
  """Return the factors of a product, or the term alone."""
  return term.factors if isinstance(term, Product) else (term,)


def parts(term: Term) -> tuple[Any, ...]:
  """Return the parts of a sum, or the term alone."""
  return term.parts if isinstance(term, Sum) else (term,)


def product(terms: Any) -> Term:
  """Return the product of terms, flat; of one term, that term."""
  flat = tuple(f for term in terms for f in factors(term))
  return flat[0] if len(flat) == 1 else Product(flat)


def total(terms: Any) -> Term:
  """Return the sum of terms, flat; of one term, that term."""
  flat = tuple(p for term in terms for p in parts(term))
  return flat[0] if len(flat) == 1 else Sum(flat)


def resolve(forest: Forest, term: Term) -> Term:
  """Return a term in which every atom is one that nothing more is known of."""
  if isinstance(term, int):
    link = forest.links[term]
    if link is None:
      return term
    found = resolve(forest, link)
    forest.links[term] = found
    return found
  if isinstance(term, Product):
    return product(resolve(forest, factor) for factor in term.factors)
  return total(resolve(forest, part) for part in term.parts)


def atoms(term: Term) -> list[int]:
  """Return the atoms of a resolved term, from left to right."""
  if isinstance(term, int):
    return [term]
  inner = term.factors if isinstance(term, Product) else term.parts
  return [atom for part in inner for atom in atoms(part)]


def pin(forest: Forest, term: Term, why: str) -> None:
  """Fix the units of a term where they are; the first reason stays."""
  for atom in atoms(resolve(forest, term)):
    forest.pins[atom] = forest.pins[atom] or why
