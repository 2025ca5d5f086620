"""Names for what can be permuted, and the patterns written with them.

>>> merged(["2", "2", "conv"])
['4', 'conv']
"""

from collections.abc import Iterable
from typing import Any

import jax

from weightspace import trees
from weightspace.symmetry import terms
from weightspace.symmetry.axes import BLOCK
from weightspace.symmetry.values import Walk
from weightspace.types import Params


def names(
  walk: Walk, paths: list[str], leaves: list[Any], parents: dict[int, list[int]]
) -> dict[int, str]:
  """Name the free atoms and their blocks, each after a leaf that has it.

  A leaf whose last axis it is says it best, and of those the shortest: a bias
  rather than a kernel.
  """
  blocks = {b for above in parents.values() for b in above}
  places: dict[int, list[tuple[bool, int, int, int]]] = {}
  for number, dims in enumerate(leaves):
    for axis, d in enumerate(dims):
      for atom in terms.atoms(d):
        key = (axis + 1 < len(dims), len(dims), number, axis)
        places.setdefault(atom, []).append(key)
  plain: dict[int, str] = {}
  for atom, found in places.items():
    if walk.forest.pins[atom] and atom not in blocks:
      continue
    *_, number, axis = min(found)
    path = "".join("_" if c in " ()+>\t\n" else c for c in paths[number])
    module = path.rpartition("/")[0] or path
    choices = [module, path, f"{path}:{axis}"]
    choices += [f"{path}:{axis}.{k}" for k in range(len(plain) + 1)]
    taken = set(plain.values())
    plain[atom] = next(
      c for c in choices if c and c not in taken and not c.isdigit()
    )
  return {
    atom: BLOCK.join([plain[b] for b in parents.get(atom, [])] + [name])
    for atom, name in plain.items()
  }


def merged(words: Iterable[str]) -> list[str]:
  """Multiply sizes that follow each other."""
  result: list[str] = []
  for word in words:
    if result and word.isdigit() and result[-1].isdigit():
      result[-1] = str(int(result[-1]) * int(word))
    else:
      result.append(word)
  return result


def patterns(
  walk: Walk, params: Params, leaves: list[Any], names: dict[int, str]
) -> tuple[Any, dict[str, str]]:
  """Return the tree of patterns, and what fixed each axis."""
  pins, found_patterns = {}, []
  forest = walk.forest

  def text(term: Any) -> str:
    found = terms.atoms(term)
    if not any(atom in names for atom in found):
      return str(terms.size(forest, term))
    if isinstance(term, int):
      return names[term]
    if isinstance(term, terms.Sum):
      return f"({'+'.join(map(text, term.parts))})"
    return f"({' '.join(merged(map(text, term.factors)))})"

  for path, dims in zip(trees.names(params), leaves):
    found_patterns.append(" ".join(map(text, dims)))
    for axis, d in enumerate(dims):
      if terms.size(forest, d) == 1:
        continue
      # An axis that was cut into single units has no atoms left.
      reasons = [forest.pins[a] for a in terms.atoms(d)] or ["slice"]
      if all(reasons):
        pins[f"{path}:{axis}"] = reasons[0] or ""
  for atom, name in names.items():
    if forest.pins[atom]:
      pins[name] = forest.pins[atom] or ""
  return jax.tree.unflatten(jax.tree.structure(params), found_patterns), pins
