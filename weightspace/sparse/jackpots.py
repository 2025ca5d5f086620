"""Mask search on frozen weights: which of a trained network's weights to keep.

A score stands beside each weight.  Training moves the scores alone, and after
each step the best of what is left out change places with the worst of what is
kept.  A `Jackpot` is a tree like any other: it is trained by any loop, with
`value` before the loss and `swapping` around the optimiser.

>>> made = jackpot({"w": jnp.array([[3.0, 1.0]])}, density=0.5)
>>> value(made)["w"].tolist()
[[3.0, 0.0]]
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace import trees
from weightspace.numerics import counts
from weightspace.sparse import drawing, selection, swaps
from weightspace.types import Data, Key, Loss, Params

LEFT_OUT = 0.99  # the score at first of what is left out, where 1 is kept
STARTS = ("magnitude", "random")

Rate = float | Callable[[Any], Any]  # a share, or a function of the step


class Jackpot(NamedTuple):
  """Frozen weights, what ranks them, and which are kept (1) or not (0)."""

  weights: Params
  scores: Params
  gates: Params


class Search(NamedTuple):
  """What a search ends with."""

  mask: Params
  scores: Params
  losses: jax.Array  # [steps], before each step


def jackpot(
  params: Params,
  density: float,
  start: str = "magnitude",
  *,
  key: Key | None = None,
  only: str | Sequence[str] | None = None,
) -> Jackpot:
  """Return the start of a search: weights, scores and the first mask.

  Counts by leaf are those of global magnitude and stay; scores are 1 for what
  is kept and 0.99 for what is not.

  Args:
    params: the trained weights, which stay as they are.
    density: the share of the pruned leaves' weights that is kept, in (0, 1].
    start: the "magnitude" mask, or a "random" one of the same counts.
    key: for a random start.
    only: patterns of paths that are pruned; None for the kernels.  The paper
      leaves the classifier whole.

  Raises:
    ValueError: for a density out of range or one that empties a leaf, another
      start, or a random one without a key.

  >>> made = jackpot({"w": jnp.array([[3.0, 1.0]])}, 0.5)
  >>> made.gates["w"].tolist(), made.scores["w"].tolist()
  ([[1.0, 0.0]], [[1.0, 0.99...]])

  Zhang et al. 2021, https://arxiv.org/abs/2104.08700, and its code.
  """
  if start not in STARTS or (start == "random" and key is None):
    raise ValueError(
      f"jackpot: start is {start!r}, expected one of {STARTS}, and a key for a"
      " random one"
    )
  selection.check_density("jackpot", density)
  leaves = selection.pruned(params, only, "jackpot")
  trees.check_finite(leaves, "jackpot")
  sizes = {path: jnp.abs(jnp.asarray(x)) for path, x in leaves.items()}
  k = counts.kept(density, sum(x.size for x in sizes.values()))
  chosen = selection.largest(sizes, k)
  for path, keep in chosen.items():
    if trees.concrete(keep) and not bool(keep.any()):
      raise ValueError(
        f"jackpot: density {density} empties {path!r}, expected a larger one"
      )
  mask = selection.fill(params, chosen)
  if key is not None and start == "random":
    mask = drawing.shuffled(key, mask)
  return Jackpot(
    jax.tree.map(jnp.asarray, params),
    jax.tree.map(lambda keep: jnp.where(keep, 1.0, LEFT_OUT), mask),
    jax.tree.map(lambda keep: keep.astype(jnp.float32), mask),
  )


def value(found: Jackpot) -> Params:
  """Return the weights that are kept, zeros elsewhere; scores get the gradient.

  dL/ds = dL/d(w gate) w, kept or not; weights get none.

  >>> value(jackpot({"w": jnp.array([[3.0, 1.0]])}, 0.5))["w"].tolist()
  [[3.0, 0.0]]
  """

  def leaf(weight: Any, score: jax.Array, gate: jax.Array) -> jax.Array:
    # The bracket is exactly 0, and is what the gradient goes through.
    through = jax.lax.stop_gradient(gate) + (
      score - jax.lax.stop_gradient(score)
    )
    return jax.lax.stop_gradient(weight) * through.astype(weight.dtype)

  return jax.tree.map(leaf, found.weights, found.scores, found.gates)


def swapping(
  tx: optax.GradientTransformation, rate: Rate = 1.0
) -> optax.GradientTransformationExtraArgs:
  """Wrap an optimiser of scores so that it trains a `Jackpot`.

  `tx` sees the scores alone; after its update the masks are swapped at the
  rate; weights get updates of exactly 0.

  Args:
    tx: any optax transformation.
    rate: of `swap`; a share, or a function of the step, counted from 0.

  Returns:
    An optax transformation of Jackpots; its update needs the parameters.

  >>> made = jackpot({"w": jnp.array([[3.0, 1.0]])}, 0.5)
  >>> tx = swapping(optax.sgd(1.0))
  >>> gradient = made._replace(scores={"w": jnp.array([[2.0, 0.0]])})
  >>> updates, _ = tx.update(gradient, tx.init(made), made)
  >>> optax.apply_updates(made, updates).gates["w"].tolist()
  [[0.0, 1.0]]

  Zhang et al. 2021, https://arxiv.org/abs/2104.08700.
  """
  inner = optax.with_extra_args_support(tx)

  def init(params: Jackpot) -> Any:
    return jnp.zeros((), jnp.int32), inner.init(params.scores)

  def update(
    updates: Jackpot, state: Any, params: Any = None, **extra: Any
  ) -> tuple[Jackpot, Any]:
    if params is None:
      raise ValueError("swapping: params is None, expected the parameters")
    step, optimizer = state
    moved, optimizer = inner.update(
      updates.scores, optimizer, params.scores, **extra
    )
    share = rate(step) if callable(rate) else rate
    scores = optax.apply_updates(params.scores, moved)
    mask = jax.tree.map(lambda gate: gate > 0, params.gates)
    gates = jax.tree.map(
      lambda keep, gate: keep.astype(gate.dtype) - gate,
      swaps.swap(scores, mask, share),
      params.gates,
    )
    still = jax.tree.map(lambda x: -jnp.zeros_like(x), params.weights)
    step = optax.safe_increment(step)
    return Jackpot(still, moved, gates), (step, optimizer)

  return optax.GradientTransformationExtraArgs(init, update)


def search(
  loss: Loss,
  params: Params,
  data: Data,
  density: float,
  *,
  key: Key,
  steps: int,
  batch_size: int,
  tx: optax.GradientTransformation | None = None,
  rate: Rate | None = None,
  start: str = "magnitude",
  only: str | Sequence[str] | None = None,
) -> Search:
  """Search a mask for frozen weights; no weight changes.

  Args:
    loss: `loss(params, batch)`, [] or [B]; the mean is minimised.
    params: the trained weights.
    data: a tree of arrays [N, ...].
    density: the share of the pruned leaves' weights that is kept.
    key: batches are drawn from it, with replacement, and a random start is.
    steps: of the search, at least 1.
    batch_size: B.
    tx: optimiser of the scores; None for that of the paper's code: SGD from 0.1
      to 0 by the cosine, momentum 0.9, weight decay 5e-4, on scores too.
    rate: of `swap`, see `swapping`; None for `short_restriction(steps)`.
    start: "magnitude" or "random".
    only: as in `jackpot`.

  Returns:
    Search.  It is pure: it jits, and vmaps over params and key.  For folds,
    resumption or populations give `jackpot`, `swapping` and `value` to
    `train.fit`.

  Raises:
    ValueError: as `jackpot`; for no steps, no data, or a batch size out of
      range.

  >>> params, x = {"w": jnp.array([[2.0, 3.0]])}, jnp.ones((4, 1))
  >>> loss = lambda p, x: jnp.mean((p["w"].sum() - 2.0) ** 2 * x)
  >>> search(loss, params, x, 0.5, key=jax.random.key(0), steps=9,
  ...   batch_size=2).mask["w"].tolist()
  [[True, False]]

  Zhang et al. 2021, "Lottery jackpots exist in pre-trained models",
  https://arxiv.org/abs/2104.08700.
  """
  sizes = {len(leaf) for leaf in jax.tree.leaves(data)}
  if steps < 1 or len(sizes) != 1 or not 1 <= batch_size <= min(sizes):
    raise ValueError(
      f"search: {steps} steps, batches of {batch_size} from data of"
      f" {sorted(sizes)} examples, expected at least one step and as many"
      " examples as a batch has"
    )
  draw, begin = jax.random.split(key)
  if tx is None:
    tx = optax.chain(
      optax.add_decayed_weights(5e-4),
      optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9),
    )
  tx = swapping(tx, swaps.short_restriction(steps) if rate is None else rate)
  found = jackpot(params, density, start, key=begin, only=only)

  def body(carry: Any, step: jax.Array) -> tuple[Any, jax.Array]:
    found, state = carry
    places = jax.random.randint(
      jax.random.fold_in(draw, step), (batch_size,), 0, min(sizes)
    )
    batch = jax.tree.map(lambda x: jnp.asarray(x)[places], data)
    now, gradient = jax.value_and_grad(
      lambda found: jnp.mean(loss(value(found), batch))
    )(found)
    updates, state = tx.update(gradient, state, found, value=now)
    return (optax.apply_updates(found, updates), state), now

  carry, losses = jax.lax.scan(body, (found, tx.init(found)), jnp.arange(steps))
  found = carry[0]
  mask = jax.tree.map(lambda gate: gate > 0, found.gates)
  return Search(mask, found.scores, losses)
