"""Weights that jump between two levels: counted, and annealed away.

>>> from weightspace.parametrize.straight_through import StatsQ
>>> fold = oscillation()
>>> there, back = (StatsQ(jnp.array([1.0, x])) for x in (0.5, 1.5))
>>> state = fold.init(there)
>>> for tree in (back, there, back):
...   state = fold.update(state, tree)
>>> round(float(fold.value(state).rate) * 6)  # not at first
4
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace.parametrize.straight_through import LearnedScale, StatsQ
from weightspace.types import Fold, Params


class Oscillations(NamedTuple):
  """How often weights jumped back, over all leaves in few levels."""

  rate: jax.Array  # [], jumps back for each weight and step
  share: jax.Array  # [], of weights whose running rate is above the threshold


def oscillation(momentum: float = 0.01, threshold: float = 0.005) -> Fold:
  """Return the fold that counts oscillations of `StatsQ` and `LearnedScale`.

  A weight oscillates at a step at which its level changes in the direction
  opposite to its last change.  It rides in `train.fit(folds=...)`.

  Args:
    momentum: of each weight's running rate of oscillations.
    threshold: of that rate, above which a weight counts as oscillating.

  Returns:
    A Fold over trees, whose value is `Oscillations`.

  Raises:
    ValueError: for numbers outside (0, 1); from `init`, for a tree without
      leaves in few levels.

  Nagel et al. 2022, "Overcoming oscillations in quantization-aware training",
  https://arxiv.org/abs/2203.11086, as the code of Liu et al. 2023,
  https://arxiv.org/abs/2302.02210, has it.
  """
  if not (0 < momentum < 1 and 0 < threshold < 1):
    raise ValueError(
      f"oscillation: momentum {momentum} and threshold {threshold}, expected"
      " both in (0, 1)"
    )

  def init(tree: Params) -> Any:
    codes = _codes(tree)
    if not codes:
      raise ValueError("oscillation: no StatsQ or LearnedScale in the tree")
    still = jax.tree.map(jnp.zeros_like, codes)
    return {
      "codes": codes,
      "direction": still,
      "rates": jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), codes),
      "jumps": jnp.zeros(()),
      "steps": jnp.zeros(()),
    }

  def update(state: Any, tree: Params) -> Any:
    codes = _codes(tree)
    moves = jax.tree.map(
      lambda new, old: jnp.sign(new - old), codes, state["codes"]
    )
    back = jax.tree.map(
      lambda move, last: (move * last) == -1, moves, state["direction"]
    )
    direction = jax.tree.map(
      lambda move, last: jnp.where(move == 0, last, move),
      moves,
      state["direction"],
    )
    rates = jax.tree.map(
      lambda rate, jump: (1 - momentum) * rate + momentum * jump,
      state["rates"],
      back,
    )
    jumps = sum(jnp.sum(x, dtype=jnp.float32) for x in jax.tree.leaves(back))
    return {
      "codes": codes,
      "direction": direction,
      "rates": rates,
      "jumps": state["jumps"] + jumps,
      "steps": state["steps"] + 1.0,
    }

  def value(state: Any) -> Oscillations:
    rates = [x.reshape(-1) for x in jax.tree.leaves(state["rates"])]
    every = jnp.concatenate(rates)
    chances = every.size * jnp.maximum(state["steps"], 1.0)
    return Oscillations(state["jumps"] / chances, (every > threshold).mean())

  return Fold(init, update, value)


def anneal(tx: Any, width: float = 0.005) -> Any:
  """Wrap an optax transformation so that only undecided weights move.

  Of leaves in few levels a weight is undecided where its place among the
  levels is within `width` of the middle between two, or beyond an end of the
  range (as in the paper's code); the updates of all others are exactly zero,
  and their gradients too.  Other leaves train on.

  Args:
    tx: the transformation.
    width: half of the band, in levels, in [0, 0.5]; at 0.5 nothing is held.

  Returns:
    An optax transformation; its update needs the parameters.

  Raises:
    ValueError: for a width out of range.

  >>> tree = StatsQ(jnp.array([1.0, 0.5, 1.5, -1.0]))  # s = 2, levels .5, 1.5
  >>> tx = anneal(optax.sgd(1.0))
  >>> tx.update(tree, tx.init(tree), tree)[0].w.tolist()
  [-1.0, 0.0, 0.0, 1.0]

  Confidence-guided annealing of Liu et al. 2023,
  https://arxiv.org/abs/2302.02210; its code uses 0.005 with 2 bits.
  """
  if not 0 <= width <= 0.5:
    raise ValueError(f"anneal: width is {width}, expected 0 to 0.5")
  inner = optax.with_extra_args_support(tx)

  def cut(tree: Params, params: Params) -> Params:
    def one(x: Any, g: Any) -> Any:
      if not _in_levels(x):
        return g
      place = x.position()
      off = jnp.abs(place - jnp.floor(place) - 0.5)
      return g.replace(w=jnp.where(off <= width, g.w, jnp.zeros_like(g.w)))

    return jax.tree.map(one, params, tree, is_leaf=_in_levels)

  def update(
    updates: Params, state: Any, params: Any = None, **extra: Any
  ) -> tuple[Params, Any]:
    if params is None:
      raise ValueError("anneal: params is None, expected the parameters")
    updates, state = inner.update(cut(updates, params), state, params, **extra)
    return cut(updates, params), state

  return optax.GradientTransformationExtraArgs(inner.init, update)


def _in_levels(x: Any) -> bool:
  return isinstance(x, StatsQ | LearnedScale)


def _codes(tree: Params) -> list[jax.Array]:
  """Return the codes of every leaf in few levels, in leaf order."""
  nodes = jax.tree.leaves(tree, is_leaf=_in_levels)
  return [x.codes() for x in nodes if _in_levels(x)]
