"""The exponent of the power curve: searched on weights or losses, or learned.

Weights lie densely around zero; levels that do too (an exponent below one)
lose less.  Products of powers are powers of products, so that codes can be
multiplied as they are.

>>> bell = jax.random.normal(jax.random.key(0), (20_000,))
>>> 0.6 < best_power(bell, bits=4, scale="leaf") < 0.75
True
"""

import fnmatch
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.parametrize import few_levels, leaf
from weightspace.types import Data, Loss, Params

SCOPES = ("all", "leaf")
LEAST, MOST = 0.1, 1.5  # where exponents are looked for
POINTS = 71  # of the grid, 0.02 apart
GOLDEN = (5**0.5 - 1) / 2
CUTS = 18  # of the golden section: 0.04 / 6,000


def best_power(
  tree: Params,
  bits: int = 4,
  scope: str = "all",
  *,
  scale: str = "row",
  only: str = "*",
  loss: Callable[[Params], Any] | None = None,
) -> Any:
  """Return the exponent whose levels are closest to the weights.

  argmin_a sum over leaves |w - w_a| by a grid on [0.1, 1.5], then a golden
  section beside its best point: of few weights the error has several minima.

  Args:
    tree: a pytree; its floating leaves count.
    bits: as in `quantise`.
    scope: "all", one exponent, or "leaf", one for each.
    scale: "row" or "leaf": the scope of the scales.
    only: a shell pattern of the paths that are quantised.
    loss: `loss(params)`, to be minimised instead of the distance, for
      scope="all".

  Returns:
    A float, or for "leaf" a tree of them, for `quantise(power=...)`; leaves
    that are not quantised have 1.

  Raises:
    ValueError: for an unknown scope, a loss with scope="leaf"; as `quantise`.

  >>> best_power(jnp.linspace(-1.0, 1.0, 1001), bits=4, scale="leaf") > 0.95
  True

  Yvinec et al. 2023, "PowerQuant", https://arxiv.org/abs/2301.09858, which
  searches the weights; on the loss: "NUPES", https://arxiv.org/abs/2308.05600.
  """
  if scope not in SCOPES:
    raise ValueError(
      f"best_power: scope is {scope!r}, expected one of {SCOPES}"
    )
  if loss is not None and scope != "all":
    raise ValueError("best_power: a loss is searched with scope='all' only")
  few_levels.quantise(tree, bits, scale, "power", 1.0, only=only)  # checks
  if loss is not None:
    return _minimum(_on_loss(loss, tree, bits, scale, only))
  if scope == "all":
    return _minimum(functools.partial(_distance, tree, bits, scale, only))

  def one(path: str, x: Any) -> float:
    if not (fnmatch.fnmatchcase(path, only) and trees.inexact(x)):
      return 1.0
    return _minimum(functools.partial(_distance, x, bits, scale, "*"))

  return trees.map_named(one, tree)


def learn_power(
  loss: Loss,
  params: Params,
  data: Data,
  bits: int = 4,
  *,
  scale: str = "row",
  only: str = "*",
  start: Any = 0.7,
  steps: int = 200,
  rate: float = 0.01,
) -> tuple[Params, np.ndarray]:
  """Return exponents for each leaf, learned on a loss by its gradient.

  Weights keep their levels within a step, which the exponent moves; levels are
  taken anew at each step.  The best exponents of all steps are returned.

  Args:
    loss: `loss(params, data)`, [] or [N].
    params: a pytree of floating arrays.
    data: all of it, at every step.
    bits: as in `quantise`.
    scale: "row" or "leaf".
    only: a shell pattern of the paths that are quantised.
    start: a number or a tree, as `best_power` returns.
    steps: of Adam, on the logarithms.
    rate: its learning rate.

  Returns:
    (powers, losses [steps + 1]): a tree for `quantise(power=...)`.

  Raises:
    ValueError: as `quantise`; for fewer than one step.

  >>> w = jax.random.normal(jax.random.key(0), (64, 4))
  >>> loss = lambda p, x: ((x @ p["w"] - x @ w) ** 2).mean()
  >>> powers, losses = learn_power(loss, {"w": w}, jnp.eye(64), steps=5)
  >>> losses.shape, bool(losses.min() <= losses[0])
  ((6,), True)

  "NUPES", https://arxiv.org/abs/2308.05600: its idea; the optimiser is ours.
  """
  if steps < 1:
    raise ValueError(f"learn_power: steps is {steps}, expected at least 1")
  few_levels.quantise(params, bits, scale, "power", start, only=only)  # checks
  logs = jax.tree.map(
    lambda a: jnp.log(jnp.asarray(a, jnp.float32)),
    few_levels.leaf_powers(start, params),
  )
  tx = optax.adam(rate)

  @jax.jit
  def step(params: Params, data: Data, logs: Params, state: Any) -> Any:
    def value(logs: Params) -> jax.Array:
      powers = jax.tree.map(jnp.exp, logs)
      kept = few_levels.quantise(
        params, bits, scale, "power", powers, only=only
      )
      return jnp.mean(loss(leaf.value(kept), data))

    now, slope = jax.value_and_grad(value)(logs)
    updates, state = tx.update(slope, state, logs)
    return now, optax.apply_updates(logs, updates), state

  state, losses, history = tx.init(logs), [], []
  for _ in range(steps + 1):
    history.append(logs)
    now, logs, state = step(params, data, logs, state)
    losses.append(float(now))
  best = history[int(np.argmin(losses))]
  return jax.tree.map(lambda a: float(np.exp(a)), best), np.array(losses)


@functools.partial(jax.jit, static_argnames=("bits", "scale", "only"))
def _distance(
  tree: Params, bits: int, scale: str, only: str, power: Any
) -> jax.Array:
  """Return the sum over leaves of |w - w_a|."""
  kept = few_levels.quantise(tree, bits, scale, "power", power, only=only)
  pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(leaf.value(kept)))
  return sum(
    (
      jnp.linalg.norm((leaf.wide(x) - leaf.wide(y)).reshape(-1))
      for x, y in pairs
      if trees.inexact(x)
    ),
    jnp.zeros(()),
  )


def _on_loss(
  loss: Callable[[Params], Any], tree: Params, bits: int, scale: str, only: str
) -> Callable[[float], jax.Array]:
  @jax.jit
  def value(tree: Params, power: Any) -> jax.Array:
    kept = few_levels.quantise(tree, bits, scale, "power", power, only=only)
    return jnp.mean(loss(leaf.value(kept)))

  return functools.partial(value, tree)


def _minimum(function: Callable[[float], Any]) -> float:
  """Return where a function of an exponent is least."""
  grid = np.linspace(LEAST, MOST, POINTS)
  values = [float(function(power)) for power in grid]
  best = int(np.nanargmin(values))
  low, high = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
  found, least = grid[best], values[best]
  for _ in range(CUTS):
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    pair = float(function(left)), float(function(right))
    power, value = (left, pair[0]) if pair[0] < pair[1] else (right, pair[1])
    low, high = (low, right) if pair[0] < pair[1] else (left, high)
    if value < least:
      found, least = power, value
  return float(found)
