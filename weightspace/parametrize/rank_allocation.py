"""AdaLoRA: one budget of ranks, dealt out again and again while training.

Each triplet (column of a, entry of e, row of b) of every `SvdLora` has a score;
the best `rank_budget(step)` of all are kept, exactly that many, and the entries
of the others are set to zero, from where the gradient may bring them back.

>>> ones = SvdLora(jnp.ones((2, 3)), jnp.arange(3.0), jnp.ones((3, 2)))
>>> keep_best({"w": ones}, 1)["w"].tolist()
[False, False, True]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace.parametrize.rank_schedule import rank_budget
from weightspace.parametrize.triplets import SvdLora, replaced, triplets
from weightspace.types import Params


class Allocation(NamedTuple):
  """What `adalora` keeps from step to step."""

  inner: Any  # the state of the transformation that it wraps
  step: jax.Array  # steps taken
  importance: dict[str, SvdLora]  # {path: SvdLora}, running mean of |p g|
  uncertainty: dict[str, SvdLora]  # the same, of its distance from that mean


def adalora(
  tx: Any,
  *,
  bT: int,
  ti: int,
  tf: int,
  T: int,
  every: int = 100,
  decays: tuple[float, float] = (0.85, 0.85),
) -> Any:
  """Wrap an optax transformation so that it deals out ranks.

  With I = |p g| of every number of a triplet: importance <- b1 importance +
  (1 - b1) I, uncertainty <- b2 uncertainty + (1 - b2) |I - importance|, and a
  triplet's score is s(e) + mean s(a) + mean s(b), s = importance uncertainty.
  Of all triplets the `rank_budget` best keep their e; of equal scores the
  first ones, by path and index.  Scores stand still in the last tf steps.

  Args:
    tx: the transformation, of trees that hold `SvdLora` changes.
    bT: ranks that are left at the end, over all leaves.
    ti: steps before ranks are taken, at least 1.
    tf: steps at the end with the ranks that are left.
    T: steps in all.
    every: ranks are dealt out at each such step, and at each of the last tf.
    decays: b1 and b2.

  Returns:
    An optax transformation; its update needs the parameters.

  Raises:
    ValueError: for numbers out of order, or (when called) a tree without
      `SvdLora`, or with fewer ranks than bT.

  >>> one = SvdLora(jnp.ones((2, 2)), jnp.array([1.0, 2.0]), jnp.ones((2, 2)))
  >>> tx = adalora(optax.sgd(0.0), bT=1, ti=1, tf=0, T=3, every=1)
  >>> state = tx.init(one)
  >>> for _ in range(3):
  ...   updates, state = tx.update(one, state, one)
  >>> (one.e + updates.e).tolist()
  [0.0, 2.0]

  https://arxiv.org/abs/2303.10512 and its code, in which a threshold may take
  more triplets than it should where scores are equal; exact counts are ours.
  """
  if ti < 1 or every < 1 or not all(0 < decay < 1 for decay in decays):
    raise ValueError(
      f"adalora: ti is {ti}, every {every} and decays {decays}, expected at"
      " least 1 and two numbers in (0, 1)"
    )
  rank_budget(0, bT, bT, ti, tf, T)
  inner = optax.with_extra_args_support(tx)

  def init(params: Params) -> Allocation:
    found = triplets(params)
    total = sum(one.e.size for one in found.values())
    if total < bT or not found:
      raise ValueError(
        f"adalora: {total} ranks in {len(found)} SvdLora, expected at least bT"
        f" = {bT}"
      )
    zeros = _zeros(found)
    return Allocation(
      inner.init(params), jnp.zeros((), jnp.int32), zeros, zeros
    )

  def update(
    updates: Params, state: Allocation, params: Any = None, **extra: Any
  ) -> tuple[Params, Allocation]:
    if params is None:
      raise ValueError("adalora: params is None, expected the parameters")
    slopes = triplets(updates)
    updates, wrapped = inner.update(updates, state.inner, params, **extra)
    step, moves = state.step + 1, triplets(updates)
    moved = _map(jnp.add, triplets(params), moves)
    importance, uncertainty = _scored(
      state, _map(lambda p, g: jnp.abs(p * g), moved, slopes), decays
    )
    live = step < T - tf
    importance, uncertainty = jax.tree.map(
      lambda new, old: jnp.where(live, new, old),
      (importance, uncertainty),
      (state.importance, state.uncertainty),
    )
    scores = _map(jnp.multiply, importance, uncertainty)
    total = sum(one.e.size for one in scores.values())
    kept = keep_best(scores, rank_budget(step, total, bT, ti, tf, T))
    due = (step > ti) & ((step % every == 0) | (step > T - tf))
    new = {}
    for path, one in triplets(params).items():
      cut = due & ~kept[path]
      new[path] = moves[path].replace(e=jnp.where(cut, -one.e, moves[path].e))
    state = Allocation(wrapped, step, importance, uncertainty)
    return replaced(updates, new), state

  return optax.GradientTransformationExtraArgs(init, update)


def keep_best(scores: dict[str, SvdLora], budget: Any) -> dict[str, jax.Array]:
  """Return which triplets are the `budget` best of all: {path: booleans}.

  Args:
    scores: {path: SvdLora} of numbers' scores.
    budget: how many are kept, exactly; of equal scores the first ones.

  >>> ones = SvdLora(jnp.ones((2, 3)), jnp.arange(3.0), jnp.ones((3, 2)))
  >>> keep_best({"w": ones}, 2)["w"].tolist()
  [False, True, True]
  """
  parts = {
    path: one.e + one.a.mean(-2) + one.b.mean(-1)
    for path, one in scores.items()
  }
  flat = jnp.concatenate([part.reshape(-1) for part in parts.values()])
  order = jnp.argsort(-flat, stable=True)
  place = jnp.zeros(flat.size, jnp.int32)
  place = place.at[order].set(jnp.arange(flat.size, dtype=jnp.int32))
  kept, start = {}, 0
  for path, part in parts.items():
    kept[path] = (place[start : start + part.size] < budget).reshape(part.shape)
    start += part.size
  return kept


def _map(function: Any, *parts: dict[str, SvdLora]) -> dict[str, SvdLora]:
  return jax.tree.map(function, *parts)


def _zeros(found: dict[str, SvdLora]) -> dict[str, SvdLora]:
  return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), found)


def _scored(
  state: Allocation, sizes: dict[str, SvdLora], decays: tuple[float, float]
) -> tuple[dict[str, SvdLora], dict[str, SvdLora]]:
  """Return importance and uncertainty with those of one more step."""
  first, second = decays
  importance = _map(
    lambda old, new: first * old + (1 - first) * new, state.importance, sizes
  )
  uncertainty = _map(
    lambda old, new, mean: second * old + (1 - second) * jnp.abs(new - mean),
    state.uncertainty,
    sizes,
    importance,
  )
  return importance, uncertainty
