"""Steps: the stages that recipes are made of, as data.

A Step edits one leaf [M, ...], or reduces it over the models.  It names what
it `needs`; where it wants something global (a threshold over the whole tree) it
has `measures`, folds over leaves that take one pass each.

>>> halve = Step("halve", lambda x, at: x / 2)
>>> halve.edit(jnp.array([2.0, 6.0]), At()).tolist()
[1.0, 3.0]
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means
from weightspace.types import Fold, Key

# What reports take a step for: one whose effect they describe ("edit"), one
# that elects a sign for each entry ("election"), one that goes to task vectors
# or back to models, or one that changes nothing by design ("neutral").
Kind = Literal["edit", "election", "minus_base", "plus_base", "neutral"]


class At(NamedTuple):
  """What a step sees of one leaf beside its values [M, ...]."""

  base: Any = None  # [...], this leaf of the base
  key: Key | None = None  # the recipe's key, the same for every leaf
  seed: Any = np.uint32(0)  # uint32 hash of the leaf's path
  given: Any = None  # {name: this leaf of each statistic}
  measured: Any = None  # the value of the step's last measure
  local: Any = None  # what the step's `local` says of this leaf
  first: Any = np.uint32(0)  # the number of the model at x[0]
  start: Any = np.uint32(0)  # the place in the leaf of the first entry of x[0]


class Measure(NamedTuple):
  """A Fold over leaves that looks at `view(x, at)` of each, not at all of x.

  Under `run` the view is part of the compiled program that edits the leaf.
  `pieces` says that entries count by themselves: a leaf may come as several,
  cut along its entries, and several leaves as one, [M, leaves, ...].
  `concrete` says that it looks at values: traced leaves do not come to it.
  """

  init: Callable[[Any], Any]
  update: Callable[[Any, Any], Any]
  value: Callable[[Any], Any]
  view: Callable[[jax.Array, At], Any] | None = None
  pieces: bool = False
  concrete: bool = False


class Step(NamedTuple):
  """One stage of a recipe, as data.

  `edit(x, at)` maps float32 [M, ...] to [M, ...], or to [...] where `reduces`.
  A measure is a Fold over `(x, at)` of all leaves as they reach this step; its
  `init` is given the value of the measure before it (None for the first), and
  returns None where that value stands and the pass can be skipped.
  `local` are measures of each leaf by itself, the last of which says what
  `edit` wants to know of the whole leaf; `run` takes them outside the compiled
  program, where NumPy may do it.  `of_leaf(function)` is the plainest.
  `fold(at)`, if any, is the same reduction as a Fold over `(index, x)`, model
  by model.  `resolve(path)`, if any, gives the step that one leaf uses; leaves
  that use steps with other measures are measured apart.  `bind(paths)`, if any,
  gives the step for a tree of these leaves, or refuses it.
  `models` is the number of models that the step is made for, None for any.
  An `entrywise` step edits each entry by itself, given what its measures say:
  it may be given some of the models and some rows of the leaf, or of its
  entries in a line; `at.first` and `at.start` say which.
  `check(path, x, at)`, if any, raises a ValueError for a leaf or a statistic
  that does not fit, before work is spent; `x` may be the shape of the leaf.
  `kind` tells reports what the step is for, where that matters to them.
  """

  name: str
  edit: Callable[[jax.Array, At], jax.Array]
  needs: tuple[str, ...] = ()
  measures: tuple[Fold | Measure, ...] = ()
  reduces: bool = False
  fold: Callable[[At], Fold] | None = None
  resolve: Callable[[str], "Step"] | None = None
  bind: Callable[[tuple[str, ...]], "Step"] | None = None
  local: tuple[Measure, ...] = ()
  models: int | None = None
  entrywise: bool = False
  kind: Kind = "edit"
  check: Callable[[str, Any, At], None] | None = None


Chain = tuple[Step, ...]  # the steps of a recipe, or those of one leaf


def view(fold: Fold | Measure, x: jax.Array, at: At) -> Any:
  """Return what a measure sees of a leaf."""
  look = getattr(fold, "view", None)
  return look(x, at) if look else x


def through(
  folds: Sequence[Fold | Measure], x: jax.Array, at: At | None = None
) -> Any:
  """Return what measures say of one leaf.

  >>> top = Fold(lambda _: 0.0, lambda s, item: s + item[0].max(), lambda s: s)
  >>> through([top], jnp.array([1.0, 2.0])).item()
  2.0
  """
  value, at = None, at or At()
  for fold in folds:
    state = fold.init(value)
    if state is not None:
      value = fold.value(fold.update(state, (view(fold, x, at), at)))
  return value


def of_leaf(function: Callable[[jax.Array, At], Any]) -> tuple[Measure]:
  """Return the `local` of a step that wants `function(x, at)` of a whole leaf.

  >>> through(of_leaf(lambda x, at: x.max()), jnp.array([1.0, 2.0])).item()
  2.0
  """
  return (
    Measure(
      init=lambda _: (),
      update=lambda _, item: function(*item),
      value=lambda value: value,
    ),
  )


def reduction(
  name: str,
  fold: Callable[[At], Fold],
  needs: tuple[str, ...] = (),
  models: int | None = None,
  entrywise: bool = False,
  *,
  kind: Kind = "edit",
) -> Step:
  """Return the step of a Fold over models; a Stack is the unrolled loop.

  `fold(at)` has `init(like)`, `update(state, (index, x))` and `value(state)`,
  so that models may also arrive one by one.  `models` is the M it is made for,
  None for any; `entrywise` and `kind` as in `Step`.

  >>> mean.edit(jnp.array([2.0, 6.0]), At()).item()
  4.0
  """

  def edit(x: jax.Array, at: At) -> jax.Array:
    over_models = fold(at)
    state = over_models.init(x[0])
    if len(x) > means.UNROLL:
      items = (jnp.arange(len(x)), x)
      state, _ = jax.lax.scan(
        lambda state, item: (over_models.update(state, item), None),
        state,
        items,
      )
      return over_models.value(state)
    for m in range(len(x)):
      state = over_models.update(state, (m, x[m]))
    return over_models.value(state)

  return Step(
    name,
    edit,
    needs=needs,
    reduces=True,
    fold=fold,
    models=models,
    entrywise=entrywise,
    kind=kind,
  )


def _running_mean(at: At) -> Fold:
  """sum_m x_m / M."""
  return Fold(
    init=lambda like: (jnp.zeros_like(like), 0),
    update=lambda state, item: (state[0] + item[1], state[1] + 1),
    value=lambda state: state[0] / state[1],
    merge=lambda a, b: (a[0] + b[0], a[1] + b[1]),
  )


def _plus_base(x: jax.Array, at: At) -> jax.Array:
  return x + (at.base if x.ndim == at.base.ndim else at.base[None])


def _minus_base(x: jax.Array, at: At) -> jax.Array:
  return x - at.base[None]


mean = reduction("mean", _running_mean, entrywise=True)
minus_base = Step(
  "minus_base", _minus_base, ("base",), entrywise=True, kind="minus_base"
)
plus_base = Step(
  "plus_base", _plus_base, ("base",), entrywise=True, kind="plus_base"
)
