"""Equations between terms: that two axes belong together, solved.

Solving an equation splits atoms into products and sums where one side is finer
than the other.  What cannot be solved is pinned, with the primitive as the
reason.

>>> forest = Forest([], [], [])
>>> pixels = fresh(forest, 6)
>>> units = Product((fresh(forest, 2), fresh(forest, 3)))
>>> unify(forest, pixels, units, "reshape")
>>> resolve(forest, pixels)
Product(factors=(1, 2))
"""

from typing import Any

from weightspace.symmetry.terms import (
  ONE,
  Forest,
  Product,
  Sum,
  Term,
  factors,
  fresh,
  parts,
  pin,
  product,
  resolve,
  size,
  total,
)


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
