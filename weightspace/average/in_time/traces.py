"""Averages along a stream of models: running mean and EMA.

Each is a Fold that rides in a training carry or runs over saved checkpoints.
Its state keeps sums in float32; a scalar of each leaf's own dtype travels with
them, so that `value` gives the input dtype back.  Integer, boolean and key
leaves are those of the latest model.

>>> fold = running_mean()
>>> state = fold.init({"w": jnp.zeros(1)})
>>> for x in (1.0, 2.0, 6.0):
...   state = fold.update(state, {"w": jnp.full(1, x)})
>>> fold.value(state)["w"].tolist()
[3.0]
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.types import Fold, Params

Decay = float | jax.Array | Callable[[jax.Array], jax.Array]


class Trace(NamedTuple):
  """A weighted mean so far: `total / mass` in the dtypes of `kinds`."""

  total: Params  # float32 or wider; integer leaves of the latest model
  kinds: Params  # a zero of each leaf's dtype; integer leaves: nothing
  mass: jax.Array  # [] float32: the sum of the weights in `total`
  seen: jax.Array  # [] int32: updates so far


def running_mean(with_start: bool = False) -> Fold:
  """Return the fold whose value is the mean of all models, m + (x - m) / n.

  SWA and Polyak averaging, with `every` for their period and start.

  Args:
    with_start: count the model that `init` is given as the first.

  Returns:
    Fold over models.  Two parts of a stream merge exactly, in any order.
    Integer leaves are those of the latest model (of the later part).

  Raises:
    ValueError: from `value`, when nothing was averaged (NaN under tracing);
      from `update`, for a model of another structure or other shapes.

  >>> from weightspace.average.in_time.streams import run
  >>> run(running_mean(), [{"w": 1.0}, {"w": 5.0}])["w"].item()
  3.0

  Polyak and Juditsky 1992, https://doi.org/10.1137/0330046; Izmailov et al.
  2018, "Averaging weights leads to wider optima",
  https://arxiv.org/abs/1803.05407.
  """

  def update(state: Trace, params: Params) -> Trace:
    mass = state.mass + 1.0
    return _towards(state, params, 1.0 / mass, mass)

  def merge(a: Trace, b: Trace) -> Trace:
    mass = a.mass + b.mass
    share = b.mass / jnp.maximum(mass, 1.0)
    total = _join(a, b, lambda x, y: x + share.astype(x.dtype) * (y - x))
    return Trace(total, a.kinds, mass, a.seen + b.seen)

  init = _from_start if with_start else _from_zero
  return Fold(init, update, _mean, merge)


def ema(decay: Decay, debias: bool = False) -> Fold:
  """Return the exponential moving average, e <- d e + (1 - d) theta.

  Args:
    decay: d in [0, 1), or a function of the number of updates before this one,
      such as `warmup` or `power` give.
    debias: start at zero and divide by the sum of the weights, which is
      1 - d^t for a constant d; otherwise the average starts from the model that
      `init` is given.

  Returns:
    Fold over models.  With `debias` and a constant decay, two parts of a stream
    merge, the earlier one first; else there is no merge.  Integer leaves are
    those of the latest model.

  Raises:
    ValueError: for a decay outside [0, 1); from `update`, for a model of
      another structure or other shapes.

  >>> fold = ema(0.5, debias=True)
  >>> state = fold.init({"w": jnp.array(0.0)})
  >>> state = fold.update(state, {"w": jnp.array(3.0)})
  >>> fold.value(fold.update(state, {"w": jnp.array(6.0)}))["w"].item()
  5.0

  Polyak and Juditsky 1992; the debiased form is that of Kingma and Ba 2015,
  https://arxiv.org/abs/1412.6980, section 3.
  """
  rate = decay if callable(decay) else None
  if rate is None and trees.concrete(decay):
    number = float(np.asarray(decay))
    if not 0.0 <= number < 1.0:
      raise ValueError(f"ema: decay is {number:g}, expected 0 <= decay < 1")

  def update(state: Trace, params: Params) -> Trace:
    keep = decay if rate is None else rate(state.seen)
    mass = _blend(state.mass, jnp.ones_like(state.mass), keep)
    total = _each(state, params, lambda e, x: _blend(e, x, keep), "ema")
    mass = mass if debias else state.mass
    return Trace(total, state.kinds, mass, state.seen + 1)

  def merge(a: Trace, b: Trace) -> Trace:
    left = 1.0 - b.mass
    total = _join(a, b, lambda x, y: y + left.astype(x.dtype) * x)
    return Trace(total, a.kinds, b.mass + left * a.mass, a.seen + b.seen)

  if not debias:
    return Fold(_from_start, update, lambda state: _cast(state, state.total))
  return Fold(
    _from_zero, update, _weighted, None if rate is not None else merge
  )


def arrays(params: Params) -> Params:
  """Return the leaves as arrays."""
  trees.check_arrays(params, "init")
  return jax.tree.map(jnp.asarray, params)


def _wide(x: jax.Array) -> jax.Array:
  return x.astype(trees.accumulator(x.dtype)) if trees.inexact(x) else x


def _from_start(params: Params) -> Trace:
  """Return the trace of one model."""
  params = arrays(params)
  kinds = jax.tree.map(
    lambda x: jnp.zeros((), x.dtype) if trees.inexact(x) else None, params
  )
  one = jnp.ones(())
  return Trace(
    jax.tree.map(_wide, params), kinds, one, jnp.zeros((), jnp.int32)
  )


def _from_zero(params: Params) -> Trace:
  """Return the trace of no model, structured like this one."""
  state = _from_start(params)
  total = jax.tree.map(
    lambda x: jnp.zeros_like(x) if trees.inexact(x) else x, state.total
  )
  return state._replace(total=total, mass=jnp.zeros(()))


def check(held: Params, params: Params, what: str) -> None:
  """Raise a ValueError at the first leaf that is not shaped as those held.

  >>> check({"w": jnp.zeros(2)}, {"w": jnp.zeros(3)}, "ema")
  Traceback (most recent call last):
  ...
  ValueError: ema: 'w' is (3,) float32, expected (2,) float32
  """
  like, given = (jax.tree.map(_kind, tree) for tree in (held, params))
  trees.check_same(like, given, what)


def _kind(x: Any) -> jax.ShapeDtypeStruct:
  dtype = trees.accumulator(jnp.result_type(x))
  return jax.ShapeDtypeStruct(np.shape(x), dtype)


def _each(
  state: Trace, params: Params, function: Callable[..., Any], what: str
) -> Params:
  """Map over the total and a model; integer leaves are those of the model."""
  check(state.total, params, what)

  def leaf(total: jax.Array, x: Any) -> jax.Array:
    if not trees.inexact(total):
      return jnp.asarray(x)
    return jnp.asarray(function(total, jnp.asarray(x).astype(total.dtype)))

  return jax.tree.map(leaf, state.total, params)


def _join(a: Trace, b: Trace, function: Callable[..., Any]) -> Params:
  joined = _each(a, b.total, function, "merge")
  return jax.tree.map(
    lambda both, x: both if trees.inexact(x) else later(b.seen, both, x),
    joined,
    a.total,
  )


def later(seen: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
  """Return what the later of two parts has seen, if it has seen anything."""
  return jnp.where(seen > 0, y, x)


def _blend(e: jax.Array, x: jax.Array, keep: Any) -> jax.Array:
  """Return keep e + (1 - keep) x, exact where e = x, keep = 0 or keep = 1."""
  if isinstance(keep, float | int):
    return x + keep * (e - x) if keep < 0.5 else e + (1.0 - keep) * (x - e)
  keep = jnp.asarray(keep, e.dtype)
  near = x + keep * (e - x)
  return jnp.where(keep < 0.5, near, e + (1.0 - keep) * (x - e))


def _towards(
  state: Trace, params: Params, share: jax.Array, mass: jax.Array
) -> Trace:
  total = _each(
    state,
    params,
    lambda m, x: m + share.astype(m.dtype) * (x - m),
    "running_mean",
  )
  return Trace(total, state.kinds, mass, state.seen + 1)


def _cast(state: Trace, tree: Params) -> Params:
  """Give each leaf the dtype that it came in."""

  def leaf(path: str, x: jax.Array) -> jax.Array:
    return x.astype(kinds[path].dtype) if path in kinds else x

  kinds = trees.named(state.kinds)
  return trees.map_named(leaf, tree)


def check_count(count: jax.Array, what: str) -> None:
  """Raise a ValueError where nothing was averaged so far."""
  if trees.concrete(count) and not np.all(np.asarray(count) > 0):
    raise ValueError(f"{what}: no models so far, expected at least one")


def _mean(state: Trace) -> Params:
  check_count(state.mass, "running_mean")
  some = state.mass > 0
  total = jax.tree.map(
    lambda x: jnp.where(some, x, math.nan) if trees.inexact(x) else x,
    state.total,
  )
  return _cast(state, total)


def _weighted(state: Trace) -> Params:
  check_count(state.mass, "ema")
  total = jax.tree.map(
    lambda x: x / state.mass.astype(x.dtype) if trees.inexact(x) else x,
    state.total,
  )
  return _cast(state, total)
