"""AdamP and SGDP: steps along the sphere, so that norms do not run away.

Both take the direction of a well-known method and leave out its part along the
weights where a leaf's length means nothing (`radial_projection`).

>>> tx, w = sgdp(0.1), jnp.array([[3.0], [4.0]])
>>> updates, _ = tx.update(jnp.array([[4.0], [-3.0]]), tx.init(w), w)
>>> updates.round(3).tolist()
[[-0.4...], [0.3...]]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.matrix_views import View, kernels
from weightspace.train.radial_projection import check_alike, decayed_tangent
from weightspace.types import Params

Rate = float | jax.Array | Callable[[Any], Any]


def adamp(
  learning_rate: Rate,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  *,
  delta: float = 0.1,
  wd_ratio: float = 0.1,
  nesterov: bool = False,
  view: View = kernels,
) -> optax.GradientTransformation:
  """Return Adam whose steps leave out the radial part where it means nothing.

  With d = m^ / (sqrt(v^) + eps): of each matrix, first by output units, then as
  a whole, where max |cos(g, w)| < delta / sqrt(n) for weights w of n entries,
  d <- d - w^ <w^, d> and the decay is multiplied by `wd_ratio`; then
  w <- w - lr (decay w + d).

  Args:
    learning_rate: a number or an optax schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second, in [0, 1).
    eps: added to sqrt(v^), above 0.
    weight_decay: decoupled, times the learning rate.
    delta: the largest cosine that counts as orthogonal; 0 gives Adam.
    wd_ratio: what remains of the decay where the radial part is left out.
    nesterov: take b1 m + (1 - b1) g for m.
    view: which leaves are matrices and what their output units are; scanned
      layers and heads go by it (`matrix_views.scanned`), vectors are never
      projected.

  Returns:
    An optax transformation that needs params; moments are float32 or wider.

  Raises:
    ValueError: for a number out of range; from `update`, without params.

  >>> tx, w = adamp(0.1), jnp.array([[3.0], [4.0]])
  >>> gradient = jnp.array([[4.0], [-3.0]])  # orthogonal to w
  >>> updates, _ = tx.update(gradient, tx.init(w), w)
  >>> updates.round(3).tolist()
  [[-0.112...], [0.084...]]

  Heo et al. 2021, https://arxiv.org/abs/2006.08217, and its code's order of
  rules, defaults and Nesterov form.  Output units as rows are those of a
  PyTorch kernel (out, in); for an embedding, whose rows there are its tokens,
  give a view.
  """
  for name, number in {"b1": b1, "b2": b2}.items():
    _check(f"adamp: {name}", number, 0.0, 1.0)
  _check_common("adamp", learning_rate, delta, wd_ratio, weight_decay, eps)
  rule = decayed_tangent(delta, wd_ratio, weight_decay, eps, view)
  moments = optax.scale_by_adam(b1, b2, eps)

  def direct(gradient: Params, state: Any) -> tuple[Params, Any]:
    step, state = moments.update(gradient, state)
    if nesterov:
      first = 1 - b1**state.count
      second = 1 - b2**state.count
      step = jax.tree.map(
        lambda m, v, g: (
          (b1 * m + (1 - b1) * g) / first / (jnp.sqrt(v / second) + eps)
        ),
        state.mu,
        state.nu,
        gradient,
      )
    return step, state

  projected = optax.GradientTransformation(
    lambda params: moments.init(_widened(params)),
    _update("adamp", direct, rule),
  )
  return optax.chain(projected, optax.scale_by_learning_rate(learning_rate))


def sgdp(
  learning_rate: Rate,
  momentum: float = 0.0,
  dampening: float = 0.0,
  weight_decay: float = 0.0,
  eps: float = 1e-8,
  *,
  delta: float = 0.1,
  wd_ratio: float = 0.1,
  nesterov: bool = False,
  view: View = kernels,
) -> optax.GradientTransformation:
  """Return SGD with momentum whose steps leave out the radial part.

  m <- momentum m + (1 - dampening) g; d = m, or g + momentum m with Nesterov;
  d is projected as in `adamp`; w <- w - lr (decay / (1 - momentum) w + d).

  Args:
    learning_rate: a number or an optax schedule.
    momentum: in [0, 1).
    dampening: in [0, 1].
    weight_decay: decoupled, times the learning rate, over 1 - momentum.
    eps: norms below it count as it, where cosines are taken.
    delta: as in `adamp`; 0 gives SGD.
    wd_ratio: as in `adamp`.
    nesterov: look ahead.
    view: as in `adamp`.

  Returns:
    An optax transformation that needs params.

  Raises:
    ValueError: for a number out of range; from `update`, without params.

  >>> tx, w = sgdp(0.1), jnp.array([[3.0], [4.0]])
  >>> updates, _ = tx.update(jnp.array([[4.0], [-3.0]]), tx.init(w), w)
  >>> updates.round(3).tolist()
  [[-0.4...], [0.3...]]

  Heo et al. 2021, https://arxiv.org/abs/2006.08217, and its code.
  """
  _check("sgdp: momentum", momentum, 0.0, 1.0)
  _check("sgdp: dampening", dampening, 0.0, 1.0, closed=True)
  _check_common("sgdp", learning_rate, delta, wd_ratio, weight_decay, eps)
  rule = decayed_tangent(
    delta, wd_ratio, weight_decay / (1 - momentum), eps, view
  )

  def direct(gradient: Params, state: Any) -> tuple[Params, Any]:
    state = jax.tree.map(
      lambda m, g: momentum * m + (1 - dampening) * g, state, gradient
    )
    if not nesterov:
      return state, state
    ahead = jax.tree.map(lambda g, m: g + momentum * m, gradient, state)
    return ahead, state

  projected = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, _widened(params)),
    _update("sgdp", direct, rule),
  )
  return optax.chain(projected, optax.scale_by_learning_rate(learning_rate))


def _update(name: str, direct: Any, rule: Any) -> Any:
  """Return optax's update: a direction, then the rule leaf by leaf."""

  def update(
    gradient: Params, state: Any, params: Params | None = None
  ) -> tuple[Params, Any]:
    if params is None:
      raise ValueError(f"{name}: params are None, expected update(.., params)")
    check_alike(gradient, params, name)
    gradient, params = _widened(gradient), _widened(params)
    step, state = direct(gradient, state)
    return trees.map_named(rule, step, gradient, params), state

  return update


def _widened(tree: Params) -> Params:
  """Return the leaves in float32, or wider where they are."""

  def leaf(x: Any) -> Any:
    x = jnp.asarray(x)
    return x.astype(trees.accumulator(x.dtype)) if trees.inexact(x) else x

  return jax.tree.map(leaf, tree)


def _check_common(
  what: str, rate: Any, delta: Any, wd_ratio: Any, decay: Any, eps: Any
) -> None:
  least = {"delta": delta, "weight_decay": decay, "eps": eps}
  least |= {} if callable(rate) else {"learning_rate": rate}
  for name, number in least.items():
    _check(f"{what}: {name}", number, 0.0, np.inf)
  _check(f"{what}: wd_ratio", wd_ratio, 0.0, 1.0, closed=True)


def _check(
  name: str, value: Any, low: float, high: float, closed: bool = False
) -> None:
  """Raise a ValueError unless a number is in [low, high), or [low, high]."""
  if not trees.concrete(value):
    return
  number = float(value)
  if not (low <= number < high or (closed and number == high)):
    end = "]" if closed else ")"
    raise ValueError(f"{name} is {value}, expected in [{low:g}, {high:g}{end}")
