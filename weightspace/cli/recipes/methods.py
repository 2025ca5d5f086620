"""Methods by mergekit's names: their parameters, inputs and recipes.

Every method here is a recipe of `weightspace.merge` under mergekit's names,
defaults and conventions.  Equal parameters give the same Recipe object, so that
leaves which share them share their compiled programs.

>>> made = recipe("linear", {"weight": (1.0, 3.0)}, {"normalize": True}, False)
>>> import jax.numpy as jnp
>>> made({"w": jnp.array([0.0, 4.0])})["w"].item()
3.0
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from weightspace import merge
from weightspace.cli.recipes import families
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, reduction
from weightspace.train import hyperparameters
from weightspace.types import Fold

REQUIRED: Any = ...  # a parameter without a default
Values = Mapping[str, Any]


class Method(NamedTuple):
  """One method: what it takes and how its recipe is made."""

  make: Callable[[Values, Values, bool], Recipe]  # (each, whole, has a base)
  each: Mapping[str, Any] = {}  # parameters of every model, with defaults
  whole: Mapping[str, Any] = {}  # parameters of the merge, with defaults
  base: str = "apart"  # or "among" the models, "first" of them
  required: bool = True  # whether there must be a base
  least: int = 1  # models, the base not counted where it is apart
  most: int | None = None


def _weighted(each: Values, whole: Values, based: bool) -> Recipe:
  return merge.linear(list(each["weight"]), normalize=whole["normalize"])


def _slerp(each: Values, whole: Values, based: bool) -> Recipe:
  return merge.slerp(whole["t"])


def _nuslerp(each: Values, whole: Values, based: bool) -> Recipe:
  # mergekit's flag is named the other way round from its effect.
  scope = "column" if whole["nuslerp_row_wise"] else "row"
  scope = "tensor" if whole["nuslerp_flatten"] else scope
  made = merge.nuslerp(list(each["weight"]), scope)
  return on_deltas(made) if based else made


def _multislerp(each: Values, whole: Values, based: bool) -> Recipe:
  made = merge.multislerp(list(each["weight"]), whole["normalize_weights"])
  return on_deltas(made) if based else made


def _karcher(each: Values, whole: Values, based: bool) -> Recipe:
  return merge.karcher(int(whole["max_iter"]), whole["tol"])


def _stock(each: Values, whole: Values, based: bool) -> Recipe:
  return merge.model_stock("row" if whole["filter_wise"] else "tensor")


def _ram(each: Values, whole: Values, based: bool) -> Recipe:
  rescale, most = whole.get("r", 0.0), whole.get("alpha", 1.0)
  return merge.ram(whole["epsilon"], rescale, most, scope="tensor")


def _passthrough(each: Values, whole: Values, based: bool) -> Recipe:
  """Return the one model, as it is where it is not scaled."""
  (scale,) = each["scale"]

  def fold(at: At) -> Fold:
    return Fold(
      init=lambda like: like,
      update=lambda state, item: item[1],
      value=lambda x: x if scale is None else scale * x,
    )

  return chain(reduction("passthrough", fold, models=1, entrywise=True))


def _family(name: str, normalize: bool, rescale: bool, **each: Any) -> Method:
  def make(each: Values, whole: Values, based: bool) -> Recipe:
    return families.task_vectors(name, each, whole)

  whole = {"lambda": 1.0, "normalize": normalize, "rescale": rescale}
  return Method(make, {"weight": REQUIRED, **each}, whole)


METHODS: dict[str, Method] = {
  "linear": Method(
    _weighted,
    {"weight": REQUIRED},
    {"normalize": True},
    base="among",
    required=False,
  ),
  "slerp": Method(_slerp, {}, {"t": REQUIRED}, base="first", least=2, most=2),
  "nuslerp": Method(
    _nuslerp,
    {"weight": REQUIRED},
    {"nuslerp_flatten": True, "nuslerp_row_wise": False},
    required=False,
    least=2,
    most=2,
  ),
  "multislerp": Method(
    _multislerp,
    {"weight": REQUIRED},
    {"normalize_weights": True, "eps": 1e-8},
    required=False,
  ),
  "karcher": Method(
    _karcher,
    {},
    {"max_iter": 10, "tol": 1e-5},
    base="among",
    required=False,
  ),
  "task_arithmetic": _family("task_arithmetic", False, False),
  "ties": _family("ties", True, False, density=1.0),
  "dare_linear": _family("dare_linear", False, True, density=1.0),
  "dare_ties": _family("dare_ties", False, True, density=1.0),
  "breadcrumbs": _family("breadcrumbs", False, False, density=1.0, gamma=0.01),
  "breadcrumbs_ties": _family(
    "breadcrumbs_ties", False, False, density=1.0, gamma=0.01
  ),
  "della": _family("della", True, True, density=1.0, epsilon=0.15),
  "della_linear": _family(
    "della_linear", False, True, density=1.0, epsilon=0.15
  ),
  "sce": Method(
    lambda each, whole, based: merge.sce(whole["select_topk"]),
    {},
    {"select_topk": 1.0},
  ),
  "model_stock": Method(_stock, {}, {"filter_wise": False}, least=2),
  "nearswap": Method(
    lambda each, whole, based: merge.nearswap(whole["t"]),
    {},
    {"t": REQUIRED},
    most=1,
  ),
  "ram": Method(_ram, {}, {"epsilon": 1e-5}),
  "ramplus_tl": Method(_ram, {}, {"epsilon": 1e-5, "r": 0.1, "alpha": 0.2}),
  "passthrough": Method(
    _passthrough, {"scale": None}, {}, base="among", required=False, most=1
  ),
}
# Accepted wherever mergekit accepts them: they change no result there.
IDLE = ("int8_mask", "eps")
KNOWN = {
  name for method in METHODS.values() for name in (*method.each, *method.whole)
} | set(IDLE)


def named(name: str) -> Method:
  """Return a method by mergekit's name.

  Raises:
    ValueError: for a name that is not in the table.

  >>> named("arcee_fusion")
  Traceback (most recent call last):
  ValueError: merge_method: 'arcee_fusion' is not supported, expected one of ...
  """
  if name not in METHODS:
    raise ValueError(
      f"merge_method: {name!r} is not supported, expected one of"
      f" {', '.join(METHODS)}; recipe: NAME gives those of weightspace.merge"
    )
  return METHODS[name]


def recipe(name: str, each: Values, whole: Values, based: bool) -> Recipe:
  """Return the recipe of a method; the same object for the same values.

  Args:
    name: of the method.
    each: {parameter: [M] values}.
    whole: {parameter: value}.
    based: whether the recipe is given a base apart from the models.

  Raises:
    ValueError: for a value out of its range.
  """
  columns = tuple((key, tuple(values)) for key, values in each.items())
  return _made(name, columns, tuple(whole.items()), based)


@functools.cache
def _made(
  name: str, each: tuple[Any, ...], whole: tuple[Any, ...], based: bool
) -> Recipe:
  return METHODS[name].make(dict(each), dict(whole), based)


def own(name: str, values: Values) -> Recipe:
  """Return a recipe of the library by its own name and arguments.

  The same object for the same values: what a recipe measures over the whole
  model it measures once.  Matrices of files are [out, in]: methods that tell
  the two apart have `inputs="last"` here.

  Raises:
    ValueError: for an unknown recipe or argument.

  >>> own("ties", {"density": 0.2}).passes > 1
  True
  """
  return _own(name, json.dumps(dict(values), sort_keys=True))


@functools.cache
def _own(name: str, text: str) -> Recipe:
  if name not in merge.RECIPES:
    raise ValueError(
      f"recipe: {name!r} is unknown, expected one of {', '.join(merge.RECIPES)}"
    )
  factory: Any = merge.RECIPES[name]
  known, values = (
    sorted(hyperparameters.accepted(factory) or ()),
    json.loads(text),
  )
  if "inputs" in known:
    values = {"inputs": "last"} | values
  for key in values:
    if key not in known:
      raise ValueError(
        f"recipe: {name!r} has no parameter {key!r}, expected one of"
        f" {', '.join(known)}"
      )
  try:
    return factory(**values)
  except TypeError as error:  # a missing argument, or text for a number
    raise ValueError(f"recipe: {name!r}: {error}") from None
