"""Hyper-parameters by path: values for patterns, gradients over layers.

>>> import jax.numpy as jnp
>>> from weightspace.merge.methods.task_arithmetic import task_arithmetic
>>> models = {"block_0": jnp.ones(1), "block_1": jnp.ones(1)}
>>> start = {"block_0": jnp.array(0.0), "block_1": jnp.array(0.0)}
>>> recipe = per_layer(task_arithmetic, scale=gradient([0.25, 0.75]))
>>> merged = recipe(models, base=start)
>>> merged["block_0"].item(), merged["block_1"].item()
(0.25, 0.75)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from weightspace.merge.core import checks, steps
from weightspace.merge.core.recipe import Recipe
from weightspace.merge.core.steps import At, Measure, Step
from weightspace.merge.order_statistics import quantiles
from weightspace.merge.per_leaf import by_path

LAYER = re.compile(r"(?:^|[/._])(\d+)(?=[/.]|$)")
BEFORE = re.compile("embed|patch|position|token|stem")
AFTER = re.compile("norm|head|final|out|classifier|logits")
OUTSIDE = ("ends", "first")

Value = tuple[Any, Any]  # what tells it apart, and the hyper-parameter itself


class Gradient(NamedTuple):
  """A hyper-parameter that is piecewise linear over layers."""

  values: tuple[Any, ...]
  layer: re.Pattern[str]
  before: by_path.Pattern
  after: by_path.Pattern
  outside: str


def gradient(
  values: Sequence[Any] | jax.Array,
  layer: str | re.Pattern[str] = LAYER,
  before: by_path.Pattern = BEFORE,
  after: by_path.Pattern = AFTER,
  outside: str = "ends",
) -> Gradient:
  """Return a hyper-parameter that is piecewise linear over layers.

  Layer l of L takes the values interpolated at l / (L - 1), a single layer the
  last one.

  Args:
    values: [K], K >= 1, at even places over the layers.
    layer: regular expression whose groups are a leaf's layer number; several
      count as (stage, block).  By default the first number in the path that
      ends a name, as in `block_3/mlp` or `model.layers.3.mlp`.
    before: pattern of leaves without a number that come before all layers.
    after: pattern of those that come after.
    outside: leaves before the layers take the first value and those after it
      the last ("ends"), or all of them the first ("first", as mergekit does,
      even for the final norm and the head).

  Raises:
    ValueError: for no values, an unknown option, or (when the recipe is called)
      when no leaf has a number, or one neither has a number nor fits `before`
      or `after`.

  >>> gradient([0.0, 1.0]).values
  (0.0, 1.0)

  Gradients as in mergekit's documentation,
  https://github.com/arcee-ai/mergekit; `before` and `after` are ours.
  """
  checks.option("gradient: outside", outside, OUTSIDE)
  values = tuple(values)
  if not values:
    raise ValueError("gradient: no values, expected at least one")
  return Gradient(values, re.compile(layer), before, after, outside)


def per_layer(factory: Callable[..., Recipe], **hyper: Any) -> Recipe:
  """Return a recipe whose hyper-parameters depend on the leaf.

  What the recipe measures over the whole tree stays so: with a density by
  layer, the threshold of each density is that of the whole tree.  A tree is
  measured once for each distinct set of values.

  Args:
    factory: such as `ties`.
    **hyper: each a plain value, {pattern: value} of which the first that fits
      decides, or a `gradient`, which may also be a value of a dict.

  Raises:
    ValueError: for a value that the factory refuses, or (when called) naming a
      pattern without a leaf or a leaf without a value.

  >>> import jax.numpy as jnp
  >>> from weightspace.merge.methods.task_arithmetic import task_arithmetic
  >>> models, start = {"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": 0.0, "b": 0.0}
  >>> recipe = per_layer(task_arithmetic, scale={"a": 0.5, "*": 1.0})
  >>> recipe(models, base=start)["a"].item()
  0.5

  Filters and gradients as in mergekit, https://github.com/arcee-ai/mergekit.
  """
  example = factory(**{n: _first(value) for n, value in hyper.items()})
  made: dict[Any, Recipe] = {}

  def choose(paths: tuple[str, ...]) -> dict[str, Recipe]:
    tables = {n: _table(n, value, paths) for n, value in hyper.items()}
    chosen = {}
    for path in paths:
      which = tuple(table[path][0] for table in tables.values())
      if which not in made:
        made[which] = factory(**{n: t[path][1] for n, t in tables.items()})
      chosen[path] = made[which]
    groups = list(dict.fromkeys(chosen.values()))
    shared = dict(zip(groups, _together(example, groups)))
    return {path: shared[recipe] for path, recipe in chosen.items()}

  return by_path.by_leaf([example], choose)


def _first(value: Any) -> Any:
  if isinstance(value, Mapping):
    if not value:
      raise ValueError(
        "per_layer: an empty schedule, expected {pattern: value}"
      )
    return _first(next(iter(value.values())))
  return value.values[0] if isinstance(value, Gradient) else value


def _table(name: str, value: Any, paths: Sequence[str]) -> dict[str, Value]:
  if isinstance(value, Gradient):
    places = _places(name, value, paths)
    return {path: (t, _interpolate(value.values, t)) for path, t in places}
  if not isinstance(value, Mapping):
    return {path: (None, value) for path in paths}
  found = by_path.first_match(list(value), paths, f"per_layer: {name}")
  table: dict[str, Value] = {}
  for index, entry in enumerate(value.values()):
    mine = [path for path in paths if found[path] == index]
    rows = _table(name, entry, mine) if mine else {}
    table |= {path: ((index, key), v) for path, (key, v) in rows.items()}
  return table


def _interpolate(values: tuple[Any, ...], t: float) -> Any:
  """Return the piecewise linear value at t in [0, 1]; exact at the knots."""
  below, share = divmod(t * (len(values) - 1), 1)
  below = int(below)
  if not share:
    return values[below]
  return (1 - share) * values[below] + share * values[below + 1]


def _places(
  name: str, value: Gradient, paths: Sequence[str]
) -> list[tuple[str, float]]:
  found = {path: value.layer.search(path) for path in paths}
  numbers = {
    path: tuple(int(n) for n in match.groups() if n is not None)
    for path, match in found.items()
    if match
  }
  order = sorted(set(numbers.values()))
  if not order:
    raise ValueError(
      f"per_layer: {name}: no layer number in {paths[0]!r} or any other path"
    )
  last = len(order) - 1
  return [
    (
      path,
      (order.index(numbers[path]) / last if last else 1.0)
      if path in numbers
      else _outside(name, value, path),
    )
    for path in paths
  ]


def _outside(name: str, value: Gradient, path: str) -> float:
  if value.outside == "first" or by_path.matches(value.before, path):
    return 0.0
  if by_path.matches(value.after, path):
    return 1.0
  raise ValueError(
    f"per_layer: {name}: {path!r} has no layer number, expected it to fit the"
    " before= or after= of the gradient"
  )


def _together(example: Recipe, recipes: Sequence[Recipe]) -> list[Recipe]:
  """Let each recipe measure all leaves, those of the other recipes too."""
  lengths = {len(recipe.steps) for recipe in (example, *recipes)}
  if len(lengths) > 1:
    raise ValueError(
      f"per_layer: values give recipes of {sorted(lengths)} steps, expected as"
      " many for each"
    )
  columns = [
    _measured_by_all(column) for column in zip(*(r.steps for r in recipes))
  ]
  return [Recipe(chained) for chained in zip(*columns)]


def _measured_by_all(column: tuple[Step, ...]) -> list[Step]:
  turns = max(len(step.measures) for step in column)
  if not turns:
    return list(column)
  for step in column:
    if step.bind or step.resolve:
      raise ValueError(
        f"per_layer: {step.name!r} differs by leaf itself, expected per_layer"
        " inside of only or by_part"
      )
  measures = quantiles.together(*(_padded(step, turns) for step in column))

  def own(index: int, step: Step) -> Step:
    def seen(at: At) -> At:
      return at._replace(measured=at.measured[index])

    fold = step.fold

    def of_leaf(measure: Measure) -> Measure:
      return measure._replace(
        update=lambda state, item: measure.update(
          state, (item[0], seen(item[1]))
        ),
        view=lambda x, at: steps.view(measure, x, seen(at)),
      )

    return step._replace(
      edit=lambda x, at: step.edit(x, seen(at)),
      fold=fold and (lambda at: fold(seen(at))),
      local=tuple(map(of_leaf, step.local)),
      measures=measures,
    )

  return [own(index, step) for index, step in enumerate(column)]


def _padded(step: Step, turns: int) -> list[Measure]:
  """Return so many measures of a step; those that it lacks see nothing."""
  found = [
    m if isinstance(m, Measure) else Measure(*m[:3]) for m in step.measures
  ]
  return found + [_IDLE] * (turns - len(found))


_IDLE = Measure(
  init=lambda known: None,
  update=lambda state, item: state,
  value=lambda state: state,
  view=lambda x, at: (),
  pieces=True,
  concrete=True,
)
