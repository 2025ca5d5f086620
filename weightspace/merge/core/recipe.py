"""Recipes: chains of steps, called on a Stack; `run` takes a list of models.

A recipe knows its passes and its needs before any work, and the same object
runs in memory, under `jit` and `vmap`, sharded, or leaf by leaf (`run`).

>>> from weightspace.merge.core.steps import mean
>>> recipe = on_deltas(mean)
>>> models, start = {"w": jnp.array([2.0, 4.0])}, {"w": jnp.array(1.0)}
>>> recipe(models, base=start)["w"].item()
3.0
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.hosts import concrete
from weightspace.merge.core import alike, engine, leaves, one_by_one
from weightspace.merge.core import bound as bound_recipes
from weightspace.merge.core.steps import At, Step, minus_base, plus_base
from weightspace.parametrize import leaf
from weightspace.types import Key, Params, Stack


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
  """A chain of steps, called `recipe(stack, base=..., key=..., **statistics)`.

  Returns Params, or a Stack where no step reduces.  Arithmetic is float32, cast
  once to the input dtype; integer leaves are those of model 0.  Computed leaves
  (`weightspace.parametrize`) are merged as their values.
  """

  steps: tuple[Step, ...]

  def __repr__(self) -> str:
    asked = f", needs {', '.join(self.needs)}" if self.needs else ""
    return f"Recipe({len(self.steps)} steps{asked})"

  @property
  def needs(self) -> tuple[str, ...]:
    """Names that must be given: base, key, or statistics."""
    return tuple(dict.fromkeys(n for s in self.steps for n in s.needs))

  @property
  def passes(self) -> int:
    """How often every leaf is visited: one, and one more per measure."""
    return 1 + sum(len(step.measures) for step in self.steps)

  def __call__(
    self,
    stack: Stack,
    *,
    base: Params | None = None,
    key: Key | None = None,
    **statistics: Any,
  ) -> Params:
    stack, base = leaf.plain(stack, stacked=True), leaf.plain(base)
    bound = bound_recipes.bind(
      self.steps, stack, base=base, key=key, statistics=statistics
    )
    trees.check_finite(stack, "stack", stacked=True)
    arrays = {path: jnp.asarray(x) for path, x in trees.named(stack).items()}
    if not trees.concrete(stack, base, key, statistics):
      merged = alike.merge(bound, arrays)
    else:
      bound = bound.measure(bound.over(arrays))
      merged = {
        path: engine.finish(bound.leaf(path), x) for path, x in arrays.items()
      }
    return jax.tree.unflatten(jax.tree.structure(stack), merged.values())


def chain(*steps: Step | Recipe) -> Recipe:
  """Return the recipe that applies steps (or whole recipes) in order.

  Raises:
    ValueError: when two steps reduce over the models, or for what is neither
      a step nor a recipe.

  >>> double = Step("double", lambda x, at: 2 * x)
  >>> chain(double, double)({"w": jnp.array([1.0])})["w"].tolist()
  [4.0]
  """
  flat: list[Step] = []
  for step in steps:
    if not isinstance(step, Step | Recipe):
      raise ValueError(
        f"chain: got {type(step).__name__}, expected a Step or a Recipe"
      )
    flat += step.steps if isinstance(step, Recipe) else [step]
  reducing = [step.name for step in flat if step.reduces]
  if len(reducing) > 1:
    raise ValueError(
      f"chain: {reducing[1]!r} follows {reducing[0]!r}, but only one step may"
      " reduce over the models"
    )
  return Recipe(tuple(flat))


def on_deltas(step: Step | Recipe) -> Recipe:
  """Return base + step(stack - base): a step in task-vector space.

  Raises (when called): ValueError without `base=`.

  >>> from weightspace.merge.core.steps import mean
  >>> recipe = on_deltas(chain(Step("double", lambda x, at: 2 * x), mean))
  >>> models, start = {"w": jnp.array([2.0, 4.0])}, {"w": jnp.array(1.0)}
  >>> recipe(models, base=start)["w"].item()
  5.0

  Ilharco et al. 2023, "Editing models with task arithmetic",
  https://arxiv.org/abs/2212.04089.
  """
  return chain(minus_base, step, plus_base)


def run(
  recipe: Recipe,
  models: Sequence[Params],
  base: Params | None = None,
  *,
  key: Key | None = None,
  **statistics: Any,
) -> Params:
  """Merge a list of models, stacking one leaf at a time.

  The same as `recipe(stack(models), base=...)` without a Stack: leaf by leaf,
  each under jit, where leaves of one shape share a program.

  Args:
    recipe: a Recipe whose measures, if any, take one pass over leaves each.
    models: M trees of one structure, shapes and dtypes; of computed leaves the
      values count.
    base: what the models were fine-tuned from, where the recipe needs it.
    key: for recipes that draw masks.
    **statistics: what else the recipe needs, by name.

  Returns:
    Params.  Leaves that are NumPy's in all models and have 64 bits, which JAX
    would shorten, keep them and come back as NumPy's.

  Raises:
    ValueError: naming the first path, model or input that does not fit.

  >>> from weightspace.merge.core.steps import mean
  >>> run(chain(mean), [{"w": 1.0}, {"w": 3.0}])["w"].item()
  2.0
  """
  recipe = check(recipe, "run")
  if isinstance(models, list | tuple):
    models = [leaf.plain(model) for model in models]
  models, base = trees.as_models(models, "run"), leaf.plain(base)
  wide = trees.keeps_bits(models, base)
  with concrete.in_bits(wide):
    merged = _run(recipe, models, base, key, statistics)
  return concrete.as_numpy(merged) if wide else merged


def _run(
  recipe: Recipe,
  models: Sequence[Params],
  base: Params | None,
  key: Key | None,
  statistics: dict[str, Any],
) -> Params:
  """Merge models leaf by leaf, in JAX's dtypes."""
  count = len(models)
  like = jax.tree.map(functools.partial(_stacked_like, count), models[0])
  bound = bound_recipes.bind(
    recipe.steps, like, base=base, key=key, statistics=statistics, finite=False
  )
  columns = [trees.named(model) for model in models]

  def stream() -> Iterator[tuple[str, leaves.Leaf, At]]:
    for path, at in bound.contexts.items():
      yield path, tuple(_array(column[path]) for column in columns), at

  measured = bound.measure(stream, compiled=True)
  merged = []
  for path, x, _ in stream():
    one = engine.finish_marked(measured.leaf(path), x)
    _check_marked(one, models, base)
    merged.append(one)
  return jax.tree.unflatten(jax.tree.structure(models[0]), merged)


def check(recipe: Any, what: str) -> Recipe:
  """Return a recipe that runs leaf by leaf, or raise a ValueError."""
  if isinstance(recipe, Recipe):
    return recipe
  kind = type(recipe).__name__
  if isinstance(recipe, one_by_one.OneByOne):
    raise ValueError(
      f"{what}: {kind} takes whole models one by one and cannot run leaf by"
      " leaf, expected a Recipe; give it models by init, update, value"
    )
  raise ValueError(f"{what}: got {kind}, expected a Recipe")


def _stacked_like(count: int, x: Any) -> jax.ShapeDtypeStruct:
  if not isinstance(x, jax.Array):
    return jax.ShapeDtypeStruct((count, *jnp.shape(x)), jnp.result_type(x))
  return jax.ShapeDtypeStruct((count, *x.shape), x.dtype)


def _array(x: Any) -> jax.Array:
  return x if isinstance(x, jax.Array) else jnp.asarray(x)


def _check_marked(
  leaf: jax.Array, models: Sequence[Params], base: Params | None
) -> None:
  """Raise a ValueError where a merged leaf is NaN because an input is.

  The inputs are read once, to be merged; their NaN show in what comes out.
  """
  if trees.inexact(leaf) and concrete.any_nan([leaf])[0]:
    inputs = [(f"model {index}", m) for index, m in enumerate(models)]
    for what, tree in [*inputs, *([] if base is None else [("base", base)])]:
      trees.check_finite(tree, what)
