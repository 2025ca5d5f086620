"""Terms: what an axis is made of, and the unification of axes.

A term is an atom (a whole number: a set of units that are alike), a Product of
terms (a reshaped axis, major first) or a Sum of terms (a concatenated axis).
That two axes belong together is an equation between terms; solving it splits
atoms into products and sums where one side is finer than the other.  What
cannot be solved is pinned, with the primitive as the reason.

>>> forest = Forest([], [], [])
>>> pixels = fresh(forest, 6)
>>> units = Product((fresh(forest, 2), fresh(forest, 3)))
>>> unify(forest, pixels, units, "reshape")
>>> resolve(forest, pixels)
Product(factors=(1, 2))
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


def unify(forest: Forest, a: Term, b: Term, why: str) -> None:
  """Solve a = b; pin what has no solution, with `why` as the reason."""
  a, b = resolve(forest, a), resolve(forest, b)
  if a == b:
    return
  if isinstance(a, int):
    _bind(forest, a, b)
  elif isinstance(b, int):
    _bind(forest, b, a)
  elif isinstance(a, Sum) and isinstance(b, Sum):
    _unify_sums(forest, list(a.parts), list(b.parts), why)
  elif isinstance(a, Product) and isinstance(b, Product):
    _unify_products(forest, list(a.factors), list(b.factors), why)
  elif isinstance(a, Sum) and isinstance(b, Product):
    _unify_mixed(forest, a, b, why)
  else:
    unify(forest, b, a, why)


def _bind(forest: Forest, atom: int, term: Term) -> None:
  forest.links[atom] = term
  reason = forest.pins[atom]
  if reason:
    pin(forest, term, reason)


def _fail(forest: Forest, why: str, *terms: Term) -> None:
  for term in terms:
    pin(forest, term, why)


def _unify_sums(forest: Forest, a: list[Any], b: list[Any], why: str) -> None:
  while a and b:
    left, right = size(forest, a[0]), size(forest, b[0])
    if left == right:
      unify(forest, a.pop(0), b.pop(0), why)
    elif left < right:
      b[:1] = split_sum(forest, b[0], left, why)
    else:
      a[:1] = split_sum(forest, a[0], right, why)
    a[:] = parts(resolve(forest, Sum(tuple(a))))
    b[:] = parts(resolve(forest, Sum(tuple(b))))


def _unify_products(
  forest: Forest, a: list[Any], b: list[Any], why: str
) -> None:
  while a and b:
    left, right = size(forest, a[0]), size(forest, b[0])
    if left == right:
      unify(forest, a.pop(0), b.pop(0), why)
    else:
      fine, coarse = (a, b) if left < right else (b, a)
      halves = split_product(forest, coarse[0], min(left, right), why)
      if halves is None:
        return _fail(forest, why, Product(tuple(a)), Product(tuple(b)))
      unify(forest, fine.pop(0), halves[0], why)
      coarse[:1] = [halves[1]]
    a[:] = factors(resolve(forest, Product(tuple(a))))
    b[:] = factors(resolve(forest, Product(tuple(b))))


def _unify_mixed(forest: Forest, a: Sum, b: Product, why: str) -> None:
  """Solve a_1 + ... + a_n = (outer inner): every part ends in `inner`."""
  inner = b.factors[-1]
  width, outers = size(forest, inner), []
  if any(size(forest, part) % width for part in a.parts):
    return _fail(forest, why, a, b)
  for part in a.parts:
    count = size(forest, part) // width
    halves = split_product(forest, resolve(forest, part), count, why)
    if halves is None:
      return _fail(forest, why, a, b)
    outers.append(halves[0])
    unify(forest, halves[1], inner, why)
  outer = Product(b.factors[:-1])
  if all(o == ONE for o in outers):
    return pin(forest, outer, why)
  unify(forest, total(outers), outer, why)


def split_product(
  forest: Forest, term: Term, outer: int, why: str
) -> tuple[Term, Term] | None:
  """Return (major, minor) with `outer` units in the major one; None if not."""
  count = size(forest, term)
  if outer == 1 or outer == count:
    return (ONE, term) if outer == 1 else (term, ONE)
  if count % outer:
    return None
  if isinstance(term, int):
    why_pinned = forest.pins[term]
    halves = (
      fresh(forest, outer, why_pinned),
      fresh(forest, count // outer, why_pinned),
    )
    _bind(forest, term, Product(halves))
    return halves
  if isinstance(term, Sum):
    return _split_parts(forest, term, count // outer, why)
  major: list[Term] = []
  for place, factor in enumerate(term.factors):
    width, rest = size(forest, factor), term.factors[place + 1 :]
    if outer % width:
      halves_ = split_product(forest, factor, outer, why)
      if halves_ is None:
        return None
      return product([*major, halves_[0]]), product([halves_[1], *rest])
    major.append(factor)
    outer //= width
    if outer == 1:
      return product(major), product(rest)
  return None


def _split_parts(
  forest: Forest, term: Sum, width: int, why: str
) -> tuple[Term, Term] | None:
  """Return (sum of majors, minor) where every part ends in one minor term."""
  if any(size(forest, part) % width for part in term.parts):
    return None
  majors, minor = [], None
  for part in term.parts:
    count = size(forest, part) // width
    halves = split_product(forest, resolve(forest, part), count, why)
    if halves is None:
      return None
    majors.append(halves[0])
    if minor is None:
      minor = halves[1]
    unify(forest, minor, halves[1], why)
  if minor is None or any(m == ONE for m in majors):
    return None
  return total(majors), minor


def split_sum(
  forest: Forest, term: Term, at: int, why: str
) -> tuple[Term, Term]:
  """Return the first `at` units of a term, and the rest."""
  count = size(forest, term)
  if at in (0, count):
    none = Sum(())
    return (none, term) if at == 0 else (term, none)
  if isinstance(term, int):
    reason = forest.pins[term]
    halves = fresh(forest, at, reason), fresh(forest, count - at, reason)
    _bind(forest, term, Sum(halves))
    return halves
  if isinstance(term, Sum):
    first, *rest = term.parts
    width = size(forest, first)
    if at < width:
      head, tail = split_sum(forest, first, at, why)
      return head, total([tail, *rest])
    head, tail = split_sum(forest, total(rest), at - width, why)
    return total([first, head]), tail
  head, *rest = term.factors
  width = size(forest, product(rest))
  if at % width == 0:
    upper, lower = split_sum(forest, head, at // width, why)
    return product([upper, *rest]), product([lower, *rest])
  pin(forest, term, why)
  return fresh(forest, at, why), fresh(forest, count - at, why)
