"""Sharpness: how much the loss rises around a model.

| function | rise |
| --- | --- |
| average_sharpness | E L(w + d) - L(w), d ~ N(0, rho^2) or rho |w| N(0, 1) |
| sam_sharpness | L(w + e) - L(w), e one step of SAM or ASAM |
| worst_sharpness | max over a ball of radius rho (`probe.ascent`) |
| keskar_sharpness | max over a box, relative to 1 + L (`probe.boxes`) |
| radial_losses | L(w + r d) along random directions (`probe.radial`) |

Near a minimum they are known: average -> rho^2 / 2 tr H, adaptive -> rho^2 / 2
sum H_ii w_i^2, worst and SAM -> rho^2 / 2 times the top eigenvalue.

>>> def loss(w, a): return 0.5 * w @ a @ w
>>> sam_sharpness(loss, jnp.array([1e-3, 0.0]), jnp.eye(2), rho=0.1).round(4)
Array(0.0051, dtype=float32)
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures
from weightspace.losses import objectives
from weightspace.probe.curvature import operators
from weightspace.probe.curvature.operators import Free, Part
from weightspace.types import Data, Key, Loss, Params

NOISES = ("normal", "uniform")


def opened(
  loss: Loss, params: Params, data: Data, what: str
) -> tuple[Loss, Part, Params]:
  """Check the input of a probe; return the loss, what it moves, and the model.

  The loss is one to keep programs by (`closures`), the model that of float32 or
  wider leaves, as all points around it.
  """
  trees.check_finite(params, what)
  loss, params = closures.fixed(loss), trees.widened(params)
  objectives.examples(loss, params, data, what)
  return loss, operators.select(params, None, None, what)[0], params


def check_rho(rho: float, what: str, name: str = "rho") -> None:
  """Raise a ValueError unless a radius is a positive number."""
  if isinstance(rho, jax.core.Tracer):
    return
  if not (math.isfinite(rho) and rho > 0):
    raise ValueError(f"{what}: {name} is {rho}, expected above 0")


def check_numbers(
  what: str,
  *,
  above: Mapping[str, Any] | None = None,
  least: Mapping[str, Any] | None = None,
  whole: Mapping[str, tuple[Any, int]] | None = None,
  finite: Mapping[str, Any] | None = None,
) -> None:
  """Raise a ValueError for the first setting that is out of its range.

  Args:
    what: for errors.
    above: {name: number}, above 0.
    least: {name: number}, 0 or more.
    whole: {name: (number, least)}, whole numbers.
    finite: {name: numbers}, of any sign.

  >>> check_numbers("probe", whole={"draws": (0, 1)})
  Traceback (most recent call last):
  ...
  ValueError: probe: draws is 0, expected a whole number, at least 1
  """
  for name, number in (above or {}).items():
    check_rho(number, what, name)
  for name, number in (least or {}).items():
    if not isinstance(number, jax.core.Tracer):
      if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{what}: {name} is {number}, expected 0 or more")
  for name, (number, low) in (whole or {}).items():
    if not isinstance(number, int | np.integer) or number < low:
      raise ValueError(
        f"{what}: {name} is {number}, expected a whole number, at least {low}"
      )
  for name, numbers in (finite or {}).items():
    if trees.concrete(numbers) and not np.isfinite(numbers).all():
      raise ValueError(f"{what}: {name} are {numbers}, expected finite numbers")


def average_sharpness(
  loss: Loss,
  params: Params,
  data: Data,
  key: Key,
  rho: float = 0.1,
  draws: int = 20,
  *,
  adaptive: bool = False,
  noise: str = "normal",
) -> tuple[jax.Array, jax.Array]:
  """Return E_d L(w + d) - L(w) and its standard error.

  d_i ~ rho N(0, 1) for each parameter, not divided by their number; adaptive:
  rho |w_i| N(0, 1), which a rescaling of ReLU layers leaves as it is.

  Args:
    loss: `loss(params, data)`, one number or one per example.
    params: one model; all of its floating leaves move.
    data: a pytree; give batches of m examples apart for "m-sharpness".
    key: of the draws.
    rho: size of the noise.
    draws: how many.
    adaptive: scale by |w_i|.
    noise: "normal", or "uniform" on [-1, 1].

  Returns:
    value [] and standard error [], infinite for one draw.

  Raises:
    ValueError: for rho or draws out of range, or another noise.

  >>> def loss(w, x): return (w**2).sum()
  >>> found = average_sharpness(
  ...   loss, jnp.zeros(1000), None, jax.random.key(0), rho=0.1)
  >>> bool(abs(found[0] - 10.0) < 4 * found[1])
  True

  Andriushchenko et al. 2023, https://arxiv.org/abs/2302.07011.
  """
  loss, part, params = opened(loss, params, data, "average_sharpness")
  check_rho(rho, "average_sharpness")
  if draws < 1 or noise not in NOISES:
    raise ValueError(
      f"average_sharpness: draws {draws} and noise {noise!r}, expected at least"
      f" 1 and one of {NOISES}"
    )
  keys = jax.random.split(key, draws)
  values = _noisy(loss, part, params, data, keys, rho, adaptive, noise)
  if draws == 1:
    return values[0], jnp.asarray(jnp.inf)
  return values.mean(), values.std(ddof=1) / draws**0.5


@functools.partial(
  jax.jit, static_argnames=("loss", "part", "adaptive", "noise")
)
def _noisy(
  loss: Loss,
  part: Part,
  params: Params,
  data: Data,
  keys: Key,
  rho: Any,
  adaptive: bool,
  noise: str,
) -> jax.Array:
  free = part.take(params)
  first = objectives.mean(loss, params, data)

  def one(key: Key) -> jax.Array:
    moved = []
    for w, own in zip(free, jax.random.split(key, len(free))):
      if noise == "normal":
        d = jax.random.normal(own, w.shape, w.dtype)
      else:
        d = jax.random.uniform(own, w.shape, w.dtype, -1.0, 1.0)
      moved.append(w + rho * d * (jnp.abs(w) if adaptive else 1.0))
    return objectives.mean(loss, part.put(params, moved), data) - first

  return jax.lax.map(one, keys)


def sam_sharpness(
  loss: Loss,
  params: Params,
  data: Data,
  rho: float = 0.05,
  *,
  adaptive: bool = False,
  eta: float = 0.01,
  scaled: str = "all",
) -> jax.Array:
  """Return L(w + e) - L(w) for the one step e of SAM, or ASAM.

  SAM: e = rho g / |g|.  ASAM: e = rho T^2 g / |T g| with T = |w| + eta.

  Args:
    loss: `loss(params, data)`.
    params: one model.
    data: a pytree.
    rho: radius.
    adaptive: ASAM.
    eta: keeps T above zero.
    scaled: which parameters T scales: "all", or "matrices" (leaves of two axes
      or more, T = 1 for others: nearly the authors' code, which scales what
      is named a weight).

  Returns:
    []: 0 where the gradient is 0.

  Raises:
    ValueError: for rho that is not positive, or another `scaled`.

  >>> def loss(w, x): return 3.0 * w[0]
  >>> sam_sharpness(loss, jnp.zeros(2), None, rho=0.5).item()
  1.5

  Foret et al. 2021, https://arxiv.org/abs/2010.01412; Kwon et al. 2021,
  https://arxiv.org/abs/2102.11600 (rho 0.5, eta 0.01).
  """
  loss, part, params = opened(loss, params, data, "sam_sharpness")
  check_rho(rho, "sam_sharpness")
  check_numbers("sam_sharpness", least={"eta": eta})
  if scaled not in ("all", "matrices"):
    raise ValueError(f"scaled: {scaled!r}, expected 'all' or 'matrices'")
  flags = adaptive, scaled == "matrices"
  return _one_step(loss, part, params, data, rho, eta, flags)


@functools.partial(jax.jit, static_argnames=("loss", "part", "flags"))
def _one_step(
  loss: Loss,
  part: Part,
  params: Params,
  data: Data,
  rho: Any,
  eta: Any,
  flags: tuple[bool, bool],
) -> jax.Array:
  free, (adaptive, matrices) = part.take(params), flags

  def value(free: Free) -> jax.Array:
    return objectives.mean(loss, part.put(params, free), data)

  first, slope = jax.value_and_grad(value)(free)
  scales = [
    jnp.abs(w) + eta
    if adaptive and (w.ndim > 1 or not matrices)
    else jnp.ones_like(w)
    for w in free
  ]
  length = jnp.sqrt(sum(((t * g) ** 2).sum() for t, g in zip(scales, slope)))
  step = rho / jnp.where(length > 0, length, 1.0)
  moved = [w + step * t**2 * g for w, t, g in zip(free, scales, slope)]
  return value(moved) - first
