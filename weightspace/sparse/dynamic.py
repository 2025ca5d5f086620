"""Sparse training whose mask moves: weights are dropped, others grow.

Now and then each leaf gives up its smallest weights and takes as many new ones,
which start from 0: where the gradient is largest (RigL), or anywhere (SET).
Counts stay, leaf by leaf.  The mask rides in the optimiser's state.

>>> import optax
>>> params = {"w": jnp.array([[3.0, 0.1, 0.0, 0.0]])}
>>> tx = rigl(optax.sgd(0.0), jax.tree.map(lambda x: x != 0, params),
...   drop=1.0, every=1, until=4)
>>> state, gradient = tx.init(params), {"w": jnp.array([[1.0, 1.0, 1.0, 5.0]])}
>>> _, state = tx.update(gradient, state, params)
>>> updates, state = tx.update(gradient, state, params)
>>> state.mask["w"].tolist()
[[True, False, False, True]]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.numerics import top_k
from weightspace.sparse import drawing, freezing
from weightspace.types import Key, Params

# From a leaf's path, the step and the gradient to ranks: the largest grow.
Growth = Callable[[str, jax.Array, jax.Array], jax.Array]


class Dynamic(NamedTuple):
  """State of `rigl` and `set_`."""

  mask: Params
  step: jax.Array  # []
  inner: Any


def rigl(
  tx: optax.GradientTransformation,
  mask: Params | freezing.Rule,
  drop: float = 0.3,
  every: int = 100,
  until: int = 10_000,
) -> optax.GradientTransformationExtraArgs:
  """Wrap an optimiser with RigL: drop small weights, grow where it is steep.

  At steps t = every, 2 every, ... below `until`, each leaf drops the floor(a k)
  smallest of its k weights, a = drop (1 + cos(pi t / until)) / 2, and takes as
  many of what is then left out, those with the largest |gradient|.  A weight
  that was just dropped may return, and then stays as it is; a new one is 0, has
  no moments and waits for the next step.  Between, it is `train_only`.

  Args:
    tx: any optax transformation whose state has moments.
    mask: booleans, shaped as the parameters (say, of `random`), or a function
      of the parameters that training starts from.  Weights outside of it are
      set to 0 by the first step.
    drop: the share that is dropped at first, in [0, 1]; 0 is a static mask.
    every: steps between two changes, at least 1.
    until: the step from which on the mask stays; the paper's is 3/4 of all.

  Returns:
    An optax transformation; its update needs the dense gradient and the
    parameters.  Its state has the current `mask`.

  Raises:
    ValueError: for numbers out of range; from `init`, at the first leaf that
      the mask does not fit; from `update`, without parameters.

  >>> tx = rigl(optax.sgd(1.0), {"w": jnp.array([True, False])})
  >>> params = {"w": jnp.array([1.0, 0.0])}
  >>> tx.update({"w": jnp.ones(2)}, tx.init(params), params)[0]["w"].tolist()
  [-1.0, -0.0]

  Evci et al. 2020, "Rigging the lottery: making all tickets winners",
  https://arxiv.org/abs/1911.11134; that a dropped weight may return is from the
  code of https://arxiv.org/abs/2303.11525; that the kept ones train on in the
  step of a change is ours.
  """
  return _dynamic(
    "rigl", tx, mask, (drop, every, until), lambda path, step, g: jnp.abs(g)
  )


def set_(
  tx: optax.GradientTransformation,
  mask: Params | freezing.Rule,
  drop: float = 0.3,
  every: int = 100,
  until: int = 10_000,
  *,
  key: Key,
) -> optax.GradientTransformationExtraArgs:
  """Wrap an optimiser with SET: drop small weights, grow random ones.

  As `rigl`, with random entries in place of those of the largest gradients.

  Args:
    tx: any optax transformation whose state has moments.
    mask: as in `rigl`.
    drop: as in `rigl`.
    every: as in `rigl`.
    until: as in `rigl`.
    key: what is drawn from; an entry's rank depends on it, on the step and on
      its place.

  Returns:
    An optax transformation; its state has the current `mask`.

  Raises:
    ValueError: as `rigl`.

  >>> tx = set_(optax.sgd(1.0), {"w": jnp.array([True])}, key=jax.random.key(0))
  >>> tx.init({"w": jnp.ones(1)}).mask["w"].tolist()
  [True]

  Mocanu et al. 2018, "Scalable training of artificial neural networks with
  adaptive sparse connectivity", https://arxiv.org/abs/1707.04780.  New weights
  are 0 and the drop falls by the cosine as in RigL's comparison; the paper
  draws new weights anew and drops one share throughout.
  """

  def growth(path: str, step: jax.Array, gradient: jax.Array) -> jax.Array:
    return drawing.bits(key, path, gradient.shape, step)

  return _dynamic("set_", tx, mask, (drop, every, until), growth)


def moved(
  mask: jax.Array, sizes: jax.Array, growth: jax.Array, share: Any
) -> jax.Array:
  """Return the mask of one leaf after one change.

  Args:
    mask: booleans [...].
    sizes: of the weights; the smallest are dropped.
    growth: ranks what is left out; the largest grow.
    share: floor(share k) of the k weights change.

  >>> mask = jnp.array([True, True, False])
  >>> sizes, growth = jnp.array([2.0, 1.0, 0.0]), jnp.array([0, 0, 9])
  >>> moved(mask, sizes, growth, 0.5).tolist()
  [True, False, True]
  """
  kept = jnp.sum(mask, dtype=jnp.int32)
  count = jnp.floor(share * kept + 1e-6).astype(jnp.int32)
  stay = _first(sizes, mask, kept - count)
  return stay | _first(growth, ~stay, count)


def _first(ranks: jax.Array, among: jax.Array, count: jax.Array) -> jax.Array:
  """Return the `count` largest of the entries in `among`, as a mask."""
  words = top_k.words(ranks).reshape(1, -1)
  chosen = top_k.first([words], count, [among.reshape(1, -1)])[0]
  return chosen.reshape(ranks.shape)


def _dynamic(
  what: str,
  tx: optax.GradientTransformation,
  mask: Params | freezing.Rule,
  plan: tuple[float, int, int],
  growth: Growth,
) -> optax.GradientTransformationExtraArgs:
  """Wrap `tx` with a mask that moves to where `growth` ranks highest."""
  drop, every, until = plan
  if not 0.0 <= drop <= 1.0 or every < 1 or until < 0:
    raise ValueError(
      f"{what}: drop {drop}, every {every}, until {until}, expected a share in"
      " [0, 1], at least 1 step, and at least 0"
    )
  inner = optax.with_extra_args_support(tx)

  def init(params: Params) -> Dynamic:
    start, state = freezing.begin(inner, mask, params, what)
    return Dynamic(start, jnp.zeros((), jnp.int32), state)

  def renew(state: Dynamic, gradient: Params, params: Params) -> Params:
    share = 0.5 * drop * (1 + jnp.cos(np.pi * state.step / max(until, 1)))

    def leaf(path: str, keep: jax.Array, g: jax.Array, x: Any) -> jax.Array:
      ranks = growth(path, state.step, g)
      return moved(keep, jnp.abs(x), ranks, share)

    return trees.map_named(leaf, state.mask, gradient, params)

  def update(
    updates: Params, state: Dynamic, params: Any = None, **extra: Any
  ) -> tuple[Params, Dynamic]:
    if params is None:
      raise ValueError(f"{what}: params is None, expected the parameters")
    step = state.step
    due = (step > 0) & (step % every == 0) & (step < until)
    new = jax.lax.cond(due, renew, lambda s, *_: s.mask, state, updates, params)
    stay = jax.tree.map(jnp.logical_and, state.mask, new)
    optimizer = jax.lax.cond(
      due,
      lambda inner_state: freezing.cut_state(inner, inner_state, stay),
      lambda inner_state: inner_state,
      state.inner,
    )
    updates = freezing.cut(updates, stay)
    updates, optimizer = inner.update(updates, optimizer, params, **extra)
    updates = jax.tree.map(
      lambda u, x, old: jnp.where(old, u, -x), updates, params, stay
    )
    return updates, Dynamic(new, optax.safe_increment(step), optimizer)

  return optax.GradientTransformationExtraArgs(init, update)
