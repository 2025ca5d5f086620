"""Recipes for parts of a tree: path patterns, and schedules over layers.

A pattern is a shell pattern of the whole path, in which `*` also crosses `/`
(`"*/kernel"`, `"block_[01]/*"`), or a compiled regular expression that is
searched for (`re.compile(r"block_\\d+/mlp")`).

>>> import jax.numpy as jnp
>>> from weightspace.merge.methods.linear import uniform
>>> models = {"a": jnp.array([1.0, 3.0]), "b": jnp.array([1.0, 3.0])}
>>> merged = only("a", uniform(), rest="first")(models)
>>> merged["a"].item(), merged["b"].item()
(2.0, 1.0)
"""

import fnmatch
import functools
import re
from collections.abc import Callable, Mapping, Sequence

from weightspace.merge.core import checks, contexts
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import Chain, Step, mean

Pattern = str | re.Pattern[str]
Choose = Callable[[tuple[str, ...]], dict[str, Recipe]]

REST = {
  "base": Step("base", lambda x, at: at.base, ("base",), reduces=True),
  "first": Step("first", lambda x, at: x[0], reduces=True),
  "mean": mean,
  "keep": Step("keep", lambda x, at: x, kind="neutral"),
}
PASS = REST["keep"]


def matches(pattern: Pattern, path: str) -> bool:
  """Tell whether a path fits a pattern.

  >>> matches("*/kernel", "block_0/mlp/kernel"), matches("block", "block_0")
  (True, False)
  """
  if isinstance(pattern, str):
    return fnmatch.fnmatchcase(path, pattern)
  return pattern.search(path) is not None


def first_match(
  patterns: Sequence[Pattern], paths: Sequence[str], what: str
) -> dict[str, int]:
  """Return, for each path, the index of the first pattern that it fits.

  Raises:
    ValueError: naming a pattern that is none or fits no path, or a path
      without one.
  """
  for pattern in patterns:
    if not isinstance(pattern, str | re.Pattern):
      raise ValueError(
        f"{what}: pattern {pattern!r} is a {type(pattern).__name__}, expected"
        " text or a compiled regular expression"
      )
    if not any(matches(pattern, path) for path in paths):
      raise ValueError(
        f"{what}: {show(pattern)} matches nothing, expected a pattern of paths"
        f" such as {paths[0]!r}"
      )
  found = {}
  for path in paths:
    fits = [i for i, p in enumerate(patterns) if matches(p, path)]
    if not fits:
      raise ValueError(
        f"{what}: no pattern for {path!r}, expected one of"
        f" {list(map(show, patterns))} to match, or '*' as the last"
      )
    found[path] = fits[0]
  return found


def show(pattern: Pattern) -> str:
  """Return a pattern as an error prints it."""
  return repr(pattern if isinstance(pattern, str) else pattern.pattern)


def only(
  pattern: Pattern, recipe: Recipe | Step, rest: str | Recipe = "base"
) -> Recipe:
  """Return the recipe that merges the leaves whose paths fit a pattern.

  What the recipe measures (the threshold of a trim, say) it measures on these
  leaves alone.  Inside of `on_deltas`, where leaves are task vectors, the rest
  is to "keep" or to "mean"; a whole recipe is limited from outside.

  Args:
    pattern: a shell pattern or a compiled regular expression.
    recipe: what merges them.
    rest: the other leaves are those of the "base", of the "first" model, or
      their "mean"; or they are merged by another recipe.  "keep" leaves them
      as they are, for a recipe that returns a Stack.

  Raises:
    ValueError: for another rest, or (when called) when nothing matches.

  >>> import jax.numpy as jnp
  >>> from weightspace.merge.methods.linear import uniform
  >>> models, start = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": 0.0, "b": 0.0}
  >>> merged = only("a", uniform())(models, base=start)
  >>> merged["a"].item(), merged["b"].item()
  (1.0, 0.0)

  Ours; mergekit's filters match a part of the name.
  """
  if isinstance(rest, str):
    checks.option("only: rest", rest, tuple(REST))
  other = REST[rest] if isinstance(rest, str) else rest
  # A pattern may be "*" itself: the recipe then merges everything.
  return _by_pattern([pattern, "*"], [chain(recipe), chain(other)])


def by_part(recipes: Mapping[Pattern, Recipe | Step]) -> Recipe:
  """Return the recipe that merges each part of a tree by its own recipe.

  Args:
    recipes: {pattern: recipe}; the first pattern that a path fits decides.

  Raises:
    ValueError: when some recipes reduce over the models and others do not, or
      (when called) for a pattern without a leaf or a leaf without a pattern.

  >>> import jax.numpy as jnp
  >>> from weightspace.merge.methods.linear import linear, uniform
  >>> models = {"a": jnp.array([1.0, 3.0]), "b": jnp.array([1.0, 3.0])}
  >>> merged = by_part({"a": linear([1.0, 0.0]), "*": uniform()})(models)
  >>> merged["a"].item(), merged["b"].item()
  (1.0, 2.0)

  Ours.
  """
  return _by_pattern(list(recipes), list(map(chain, recipes.values())))


def _by_pattern(patterns: list[Pattern], made: list[Recipe]) -> Recipe:
  """Return the recipe that merges a leaf by its first pattern's recipe."""

  def choose(paths: tuple[str, ...]) -> dict[str, Recipe]:
    found = first_match(patterns, paths, "by_part")
    return {path: made[index] for path, index in found.items()}

  return by_leaf(made, choose)


def by_leaf(examples: Sequence[Recipe], choose: Choose) -> Recipe:
  """Return the recipe that runs `choose(paths)[path]` on each leaf.

  Step i is the i-th step of each leaf's recipe; where a recipe is shorter than
  the longest of the examples, nothing happens.
  """
  reduces = [any(s.reduces for s in example.steps) for example in examples]
  if len(set(reduces)) > 1:
    raise ValueError(
      "by_part: some recipes return a model and others a Stack, expected one"
      " kind (rest='keep' leaves a Stack as it is)"
    )
  length = max(len(example.steps) for example in examples)
  first = [s.reduces for s in examples[0].steps]  # a chain may reduce once
  reduced = first.index(True) if True in first else None

  @functools.lru_cache(maxsize=16)
  def bound(paths: tuple[str, ...]) -> dict[str, Chain]:
    chosen = choose(paths)
    whole: dict[str, Chain] = {}
    for recipe in dict.fromkeys(chosen.values()):
      mine = [path for path in paths if chosen[path] is recipe]
      inner = contexts.bind(recipe.steps, mine)
      padded = inner + (PASS,) * (length - len(inner))
      whole |= {path: contexts.at_path(padded, path) for path in mine}
    return whole

  def step(index: int) -> Step:
    mine = [e.steps[index] for e in examples if index < len(e.steps)]

    def bind(paths: tuple[str, ...]) -> Step:
      whole = bound(paths)
      return outer._replace(bind=None, resolve=lambda path: whole[path][index])

    outer = Step(
      " or ".join(dict.fromkeys(s.name for s in mine)),
      mine[0].edit,
      needs=tuple(dict.fromkeys(n for s in mine for n in s.needs)),
      measures=max((s.measures for s in mine), key=len),
      reduces=index == reduced,
      bind=bind,
      kind=next((s.kind for s in mine if s.kind == "election"), "edit"),
    )
    return outer

  return Recipe(tuple(map(step, range(length))))
