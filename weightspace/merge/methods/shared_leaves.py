"""Models that differ in part: task heads, vocabularies.

>>> from weightspace.merge.methods.linear import uniform
>>> a, b = {"w": 1.0, "head": jnp.ones(2)}, {"w": 3.0, "head": jnp.ones(5)}
>>> run_shared(uniform(), [a, b])["w"].item()
2.0
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain, run
from weightspace.merge.core.steps import mean
from weightspace.merge.per_leaf import by_path
from weightspace.types import Key, Params


def run_shared(
  recipe: Recipe,
  models: Sequence[Params],
  base: Params | None = None,
  *,
  only: by_path.Pattern | None = None,
  rest: str = "first",
  key: Key | None = None,
  **statistics: Any,
) -> Params:
  """Merge models that differ in part: task heads, vocabularies.

  Args:
    recipe: merges the leaves that are shared.
    models: M trees.
    base: as in `run`; it needs to have the shared leaves only.
    only: the pattern of the leaves that are shared; by default those that all
      models (and the base) have in one shape and dtype.
    rest: what else the result holds: the other leaves of the "base" or of the
      "first" model, or the "mean" over the models, which must then agree.
    key: for recipes that draw masks.
    **statistics: trees with the shared leaves.

  Returns:
    Params, of the structure of the base for rest="base", else of model 0.

  Raises:
    ValueError: when nothing is shared, naming the pattern or model 0's first
      leaf; for a leaf that fits `only` and differs; for an unknown rest.

  >>> from weightspace.merge.methods.linear import uniform
  >>> a, b = {"w": 1.0, "head": jnp.ones(2)}, {"w": 3.0, "head": jnp.ones(5)}
  >>> merged = run_shared(uniform(), [a, b])
  >>> merged["w"].item(), merged["head"].shape
  (2.0, (2,))

  Ours.
  """
  checks.option("run_shared: rest", rest, ("base", "first", "mean"))
  if rest == "base" and base is None:
    raise ValueError("run_shared: rest='base' needs base=, which was not given")
  columns = [trees.named(model) for model in models]
  bases = {} if base is None else trees.named(base)
  every = columns + ([bases] if base is not None else [])
  if not columns:
    raise ValueError("run_shared: no models, expected at least one")
  chosen = _agreed(every) if only is None else _fitting(only, columns[0])

  def part(tree: Mapping[str, Any], what: str) -> dict[str, Any]:
    for path in chosen:
      if path not in tree:
        raise ValueError(f"{what}: {path!r} is missing")
    return {path: tree[path] for path in chosen}

  merged = run(
    recipe,
    [part(column, f"model {i}") for i, column in enumerate(columns)],
    None if base is None else part(bases, "base"),
    key=key,
    **{n: part(trees.named(tree), n) for n, tree in statistics.items()},
  )
  like = base if rest == "base" else models[0]

  def leaf(path: str, x: Any) -> Any:
    return merged[path] if path in merged else x

  if rest == "mean":
    others = [p for p in columns[0] if p not in merged]
    for index, column in enumerate(columns):
      for path in others:
        if path not in column:
          raise ValueError(f"model {index}: {path!r} is missing")
    merged |= run(chain(mean), [{p: c[p] for p in others} for c in columns])
  return trees.map_named(leaf, like)


def _agreed(columns: Sequence[Mapping[str, Any]]) -> list[str]:
  """Return the paths that all have, in one shape and dtype."""

  def kind(x: Any) -> Any:
    return jnp.shape(x), jnp.result_type(x)

  found = [
    path
    for path, x in columns[0].items()
    if all(path in c and kind(c[path]) == kind(x) for c in columns)
  ]
  if not found:
    raise ValueError(
      f"run_shared: the models share no leaf, from {next(iter(columns[0]))!r}"
      " on, expected at least one of the same path, shape and dtype"
    )
  return found


def _fitting(pattern: by_path.Pattern, column: Mapping[str, Any]) -> list[str]:
  by_path.first_match([pattern, "*"], list(column), "run_shared")
  return [path for path in column if by_path.matches(pattern, path)]
