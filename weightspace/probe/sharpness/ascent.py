"""Worst-case sharpness: projected ascent to the top of a ball.

The steps are those of Auto-PGD: normalised, with momentum, and halved at
checkpoints where the ascent has stalled, going on from the best point so far.

>>> def loss(w, a): return 0.5 * w @ a @ w
>>> a = jnp.diag(jnp.array([1.0, 9.0]))
>>> worst_sharpness(loss, jnp.array([0.01, 0.01]), a, rho=1.0).round(2).item()
4.5...
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace.jaxpr import convolutions
from weightspace.losses import objectives
from weightspace.probe.curvature.operators import Part
from weightspace.probe.sharpness import sharpness
from weightspace.types import Data, Key, Loss, Params

BALLS = ("l2", "linf")
MOMENTUM, SUCCESS = 0.75, 0.75
BISECTIONS = 40


def worst_sharpness(
  loss: Loss,
  params: Params,
  data: Data,
  rho: float = 0.1,
  steps: int = 20,
  *,
  ball: str = "l2",
  adaptive: bool = False,
  key: Key | None = None,
) -> jax.Array:
  """Return the largest L(w + d) - L(w) found with |d| <= rho.

  Adaptive: |d / |w|| <= rho; a parameter that is 0 does not move.

  Args:
    loss: `loss(params, data)`.
    params: one model.
    data: a pytree; the papers use 128 examples at a time and average.
    rho: radius.
    steps: gradients; the first step is 2 rho long, or the size of the box.
    ball: "l2" or "linf".
    adaptive: measure d relative to |w|.
    key: of a random start within the ball; None starts at w.

  Returns:
    [] >= 0: a lower bound of the supremum, the best of all points visited.

  Raises:
    ValueError: for rho, steps or ball out of range.

  >>> def loss(w, x): return w.sum()
  >>> worst_sharpness(loss, jnp.zeros(4), None, 0.5, ball="linf").item()
  2.0

  Andriushchenko et al. 2023, https://arxiv.org/abs/2302.07011; Croce and Hein
  2020 (Auto-PGD), https://arxiv.org/abs/2003.01690.
  """
  loss, part, params = sharpness.opened(loss, params, data, "worst_sharpness")
  sharpness.check_rho(rho, "worst_sharpness")
  if steps < 1 or ball not in BALLS:
    raise ValueError(
      f"worst_sharpness: steps {steps} and ball {ball!r}, expected at least 1"
      f" and one of {BALLS}"
    )
  flags = ball == "l2", adaptive
  return _climb(loss, part, params, data, rho, key, steps, flags)


def checkpoints(steps: int) -> list[int]:
  """Return after which steps the step size is looked at.

  At 22 % of the steps first, then at gaps that shrink by 3 % to 6 % at least.

  >>> checkpoints(20)
  [5, 9, 12, 14, 16, 18, 19, 20]

  Croce and Hein 2020, https://arxiv.org/abs/2003.01690.
  """
  places, gap, at = [], 0.22, 0.22
  while at < 1.0:
    places.append(math.ceil(round(at * steps, 6)))
    gap = max(gap - 0.03, 0.06)
    at += gap
  return sorted({*places, steps} - {0})


def _project(d: jax.Array, scale: jax.Array, rho: Any, l2: bool) -> jax.Array:
  """Return the nearest point with |d / scale| <= rho."""
  if not l2:
    return jnp.clip(d, -rho * scale, rho * scale)
  # Where the constraint binds, d_i s_i^2 / (s_i^2 + m), with m >= 0 such that
  # the norm is rho; bisection on log m.
  safe = jnp.where(scale > 0, scale, 1.0)
  d = jnp.where(scale > 0, d, 0.0)

  def norm(m: jax.Array) -> jax.Array:
    return jnp.linalg.norm(d * safe / (safe**2 + m))

  def halve(_: Any, ends: tuple[jax.Array, jax.Array]) -> Any:
    low, high = ends
    middle = (low + high) / 2
    above = norm(jnp.exp(middle)) > rho
    return jnp.where(above, middle, low), jnp.where(above, high, middle)

  size = jnp.linalg.norm(d / safe)
  widest = jnp.log(safe.max() ** 2 * jnp.maximum(size / rho, 1.0) + 1e-30) + 1.0
  ends = jax.lax.fori_loop(0, BISECTIONS, halve, (widest - 60.0, widest))
  m = jnp.exp(ends[1])
  return jnp.where(size > rho, d * safe**2 / (safe**2 + m), d)


class _State(NamedTuple):
  """What goes from step to step of an ascent."""

  d: jax.Array  # [n], where it is
  before: jax.Array  # where it was
  best: jax.Array  # the highest place so far
  uphill: jax.Array  # the gradient there
  height: jax.Array  # the loss there
  last: jax.Array  # the loss of the last step
  size: jax.Array  # of a step
  won: jax.Array  # steps that went up since the last checkpoint
  since: jax.Array  # steps since then
  held: jax.Array  # the best loss at the last checkpoint
  halved: jax.Array  # whether the step size was halved there


@functools.partial(jax.jit, static_argnames=("loss", "part", "steps", "flags"))
def _climb(
  loss: Loss,
  part: Part,
  params: Params,
  data: Data,
  rho: Any,
  key: Key | None,
  steps: int,
  flags: tuple[bool, bool],
) -> jax.Array:
  l2, adaptive = flags
  w = part.ravel(part.take(params))
  scale = jnp.abs(w) if adaptive else jnp.ones_like(w)

  @convolutions.canonical
  @jax.value_and_grad
  def rise(d: jax.Array) -> jax.Array:
    return objectives.mean(loss, part.put(params, part.unravel(w + d)), data)

  start = jnp.zeros_like(w)
  if key is not None:
    drawn = rho * scale * jax.random.normal(key, w.shape, w.dtype)
    start = _project(drawn, scale, rho, l2)
  first = objectives.mean(loss, params, data)
  ends = jnp.array(checkpoints(steps))

  def body(i: Any, state: _State) -> _State:
    value, slope = rise(state.d)
    check = jnp.isin(i, ends)
    return _move(state, value, slope, i == 0, check, scale, rho, l2)

  zero = jnp.zeros((), int)
  low = jnp.full((), -jnp.inf, first.dtype)
  places, counts = (start,) * 4, (zero, zero)
  losses = first, low, 2.0 * rho, *counts, first
  state = _State(*places, *losses, jnp.zeros((), bool))
  state = jax.lax.fori_loop(0, steps, body, state)
  return jnp.maximum(state.height, rise(state.d)[0]) - first


def _move(
  state: _State,
  value: jax.Array,
  slope: jax.Array,
  begins: jax.Array,
  check: jax.Array,
  scale: jax.Array,
  rho: Any,
  l2: bool,
) -> _State:
  """Take one step, halved and from the best place where it stalls."""
  project = functools.partial(_project, scale=scale, rho=rho, l2=l2)
  won, since = state.won + (value > state.last), state.since + 1
  higher = begins | (value > state.height)
  best = jnp.where(higher, state.d, state.best)
  uphill = jnp.where(higher, slope, state.uphill)
  height = jnp.maximum(value, state.height)
  same = ~state.halved & (height <= state.held)
  stalled = check & ((won < SUCCESS * since) | same)
  size = jnp.where(stalled, state.size / 2, state.size)
  origin = jnp.where(stalled, best, state.d)
  before = jnp.where(stalled, best, state.before)
  slope = jnp.where(stalled, uphill, slope)
  target = project(origin + size * _direction(slope, scale, l2))
  mixed = origin + MOMENTUM * (target - origin)
  mixed = project(mixed + (1 - MOMENTUM) * (origin - before))
  moved = jnp.where(begins | stalled, target, mixed)
  won, since = (jnp.where(check, 0, x) for x in (won, since))
  held = jnp.where(check, height, state.held)
  halved = jnp.where(check, stalled, state.halved)
  places = moved, origin, best, uphill
  return _State(*places, height, value, size, won, since, held, halved)


def _direction(slope: jax.Array, scale: jax.Array, l2: bool) -> jax.Array:
  if not l2:
    return jnp.sign(slope) * scale
  length = jnp.linalg.norm(slope * scale)
  return slope * scale**2 / jnp.where(length > 0, length, 1.0)
