"""Folds over models combined: thinned, side by side, followed by a function.

>>> from weightspace.average.in_time.traces import ema, running_mean
>>> both = together(mean=running_mean(), last=ema(0.0))
>>> found = run(both, [{"w": 1.0}, {"w": 2.0}])
>>> found["mean"]["w"].item(), found["last"]["w"].item()
(1.5, 2.0)
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.hosts import concrete
from weightspace.types import Fold, Params, State


class Thinned(NamedTuple):
  """The state of a fold that sees some of the stream."""

  inner: State
  seen: jax.Array  # [] int32: models seen, used or not


def every(
  period: int, fold: Fold, start: int = 0, *, anew: bool = True
) -> Fold:
  """Return a fold that sees update n = start, start + period, ... only.

  With a start above 0 it begins anew there: an EMA that starts late starts from
  the model at its start, not from the one that `init` was given.

  Args:
    period: 1 or more.
    fold: what is updated with them.
    start: the number of the first update that counts; the first of all is 0.
    anew: begin anew at a start above 0; False for a fold that counts the model
      that `init` was given, such as `running_mean(with_start=True)`.

  Returns:
    Fold, without merge: the phase of a later part is not known.

  Raises:
    ValueError: for a period below 1 or a negative start.

  >>> from weightspace.average.in_time.traces import running_mean
  >>> fold = every(2, running_mean(), start=1)
  >>> run(fold, [{"w": x} for x in (9.0, 1.0, 9.0, 3.0)])["w"].item()
  2.0
  """
  for name, number, least in (("period", period, 1), ("start", start, 0)):
    if not isinstance(number, int | np.integer) or number < least:
      raise ValueError(
        f"every: {name} is {number!r}, expected a whole number >= {least}"
      )

  def update(state: Thinned, params: Params) -> Thinned:
    after = state.seen - start
    due = (after >= 0) & (after % period == 0)
    begins = due & (after == 0) & (anew and start > 0)
    ways = (
      lambda inner, _: inner,
      fold.update,
      lambda _, params: fold.update(fold.init(params), params),
    )
    which = due.astype(jnp.int32) + begins
    inner = jax.lax.switch(which, ways, state.inner, params)
    return Thinned(inner, state.seen + 1)

  def init(params: Params) -> Thinned:
    return Thinned(fold.init(params), jnp.zeros((), jnp.int32))

  return Fold(init, update, lambda state: fold.value(state.inner))


def together(**folds: Fold) -> Fold:
  """Return the fold of several over one stream; its value is a dict.

  >>> from weightspace.average.in_time.windows import window
  >>> sorted(run(together(a=window(1), b=window(2)), [{"w": 1.0}]))
  ['a', 'b']

  Raises:
    ValueError: when there is no fold.
  """
  if not folds:
    raise ValueError("together: no folds, expected at least one")

  def merge(a: State, b: State) -> State:
    return {name: merges[name](a[name], b[name]) for name in merges}

  merges = {
    name: fold.merge for name, fold in folds.items() if fold.merge is not None
  }
  return Fold(
    lambda params: {name: fold.init(params) for name, fold in folds.items()},
    lambda state, params: {
      name: fold.update(state[name], params) for name, fold in folds.items()
    },
    lambda state: {
      name: fold.value(state[name]) for name, fold in folds.items()
    },
    merge if len(merges) == len(folds) else None,
  )


def then(fold: Fold, function: Callable[[Any], Any]) -> Fold:
  """Return the fold whose value is `function(value)`.

  After averaging, BatchNorm statistics are those of no model and have to be
  measured again: `then(fold, lambda params: (params, ws.models.population(
  model, params, batches)))` does so.

  >>> from weightspace.average.in_time.windows import window
  >>> run(then(window(1), lambda p: 2 * p["w"]), [{"w": 1.5}]).item()
  3.0

  Recomputing is Izmailov et al. 2018, https://arxiv.org/abs/1803.05407.
  """
  return fold._replace(value=lambda state: function(fold.value(state)))


def run(fold: Fold, models: Iterable[Any]) -> Any:
  """Fold over models one by one, and return the value.

  The fold is initialised from the first model and updated with every one, the
  first too.  Only one model and the state are in memory at a time where
  `models` is a generator, or lists files.

  Args:
    fold: any of this room, or your own.
    models: trees of one structure, or paths of checkpoints, in order.

  Returns:
    The value of the fold.  Where leaves of the first model are NumPy's of 64
    bits, which JAX would shorten, they keep them and come back as NumPy's.

  Raises:
    ValueError: for no models, a model unlike the first (naming it and the first
      path that differs), or NaN in one.

  >>> from weightspace.average.in_time.traces import running_mean
  >>> run(running_mean(), ({"w": float(n)} for n in range(3)))["w"].item()
  1.0
  """
  if isinstance(models, Mapping) or not isinstance(models, Iterable):
    raise ValueError(
      f"run: models are a {type(models).__name__}, expected a list of trees"
    )
  update = jax.jit(fold.update, donate_argnums=0)
  first = state = None
  for index, given in enumerate(models):
    params = _load(given)
    trees.check_arrays(params, f"model {index}")
    if first is None:
      first = jax.eval_shape(lambda x: x, jax.tree.map(jnp.asarray, params))
      widths = jax.tree.map(lambda x: concrete.wide(x) and x.dtype, params)
      long = any(jax.tree.leaves(widths))
    trees.check_same(first, params, f"model {index}")
    trees.check_finite(params, f"model {index}")
    with concrete.in_bits(long):
      params = jax.tree.map(_widened, widths, params) if long else params
      # A copy: the state's memory is given away, the caller's is not.
      state = state if index else jax.tree.map(jnp.copy, fold.init(params))
      state = update(state, params)
  if first is None:
    raise ValueError("run: no models, expected at least one")
  with concrete.in_bits(long):
    value = fold.value(state)
  return concrete.as_numpy(value) if long else value


def _widened(width: Any, leaf: Any) -> Any:
  """Return a leaf with the 64 bits that the first model's has."""
  return np.asarray(leaf, width) if width else leaf


def _load(model: Any) -> Params:
  if not isinstance(model, str | os.PathLike):
    return model
  from weightspace import checkpoints

  return checkpoints.restore(model)
