"""What a recipe is given, checked, and what each leaf sees of it.

>>> leaf_contexts(["w"], {"w": 1.0}, None, {})["w"].base
1.0
"""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from weightspace import trees
from weightspace.merge.core import checks, steps
from weightspace.types import Key, Params, Stack

MODELS = ("base", "target")  # inputs that are models


def check_given(
  chained: steps.Chain,
  stack: Stack,
  base: Params | None,
  key: Key | None,
  statistics: dict[str, Any],
  *,
  finite: bool = True,
) -> dict[str, Any]:
  """Refuse missing, unknown or ill-shaped inputs by name, before any work.

  Without `finite`, a base that the steps need is not searched for NaN.
  """
  count = trees.size(stack)
  for step in chained:
    if step.models not in (None, count):
      raise ValueError(
        f"recipe: {step.name!r} is made for {step.models} models, got {count}"
      )
  given = dict(statistics, base=base, key=key)
  needs = [name for step in chained for name in step.needs]
  for name in needs:
    if given.get(name) is None:
      users = [s.name for s in chained if name in s.needs]
      raise ValueError(
        f"recipe: {users[0]!r} needs {name}=, which was not given"
      )
  for name in statistics:
    if name not in needs:
      wanted = sorted({*needs, "base", "key"})
      raise ValueError(f"recipe: unknown input {name!r}, expected {wanted}")
  if key is not None:
    checks.key("recipe: key", key)
  for name in MODELS:
    if given.get(name) is not None:
      trees.check_same(trees.one_model(stack), given[name], name)
  if base is not None and (finite or "base" not in needs):
    trees.check_finite(base, "base")
  trees.check_finite(statistics, "recipe")
  return {
    name: trees.named(trees.spread(tree, stack, name))
    for name, tree in statistics.items()
  }


def leaf_contexts(
  leaves: Iterable[str],
  base: Params | None,
  key: Key | None,
  sources: dict[str, dict[str, Any]],
) -> dict[str, steps.At]:
  """Return the At of every leaf, by path."""
  bases = {} if base is None else trees.named(base)
  return {
    path: steps.At(
      base=bases.get(path),
      key=key,
      seed=np.uint32(zlib.crc32(path.encode())),
      given={name: leaf[path] for name, leaf in sources.items()},
    )
    for path in leaves
  }


def bind(chained: steps.Chain, paths: Iterable[str]) -> steps.Chain:
  """Return the steps for a tree of these paths, which they may refuse."""
  every = tuple(paths)
  return tuple(s.bind(every) if s.bind else s for s in chained)


def at_path(chained: steps.Chain, path: str) -> steps.Chain:
  """Return the steps that the leaf at `path` goes through."""
  return tuple(s.resolve(path) if s.resolve else s for s in chained)
