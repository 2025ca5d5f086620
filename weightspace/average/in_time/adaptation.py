"""Adaptation at test time: an averaged teacher, and a way back to the source.

A stream of unlabelled batches changes its domain again and again.  CoTTA learns
from an averaged teacher, whose predictions are averaged over augmentations
where the source model is unsure, and puts a few weights back to the source each
step, so that errors do not pile up.  TENT, its baseline, lowers entropy.

>>> source, now = {"w": jnp.zeros(1000)}, {"w": jnp.ones(1000)}
>>> back = stochastic_restore(jax.random.key(0), now, source, rate=0.1)
>>> bool(abs(back["w"].mean() - 0.9) < 0.03)
True
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace import losses, trees
from weightspace.average.in_time import traces
from weightspace.types import Apply, Key, Params

Augment = Callable[[Key, jax.Array], jax.Array]


class Adapting(NamedTuple):
  """What goes from batch to batch."""

  params: Params
  source: Params  # where it began, and where weights go back to
  teacher: Any  # the state of its EMA; () where there is none
  optimizer: Any


class Adapter(NamedTuple):
  """A way to adapt: `init(source)`, `step(state, key, x)`.

  A step returns the new state and the logits of x from before it.
  """

  init: Callable[[Params], Adapting]
  step: Callable[[Adapting, Key, jax.Array], tuple[Adapting, jax.Array]]


def stochastic_restore(
  key: Key, params: Params, source: Params, rate: float | jax.Array
) -> Params:
  """Put each weight back to the source with probability `rate`.

  Without learning, the expected distance from the source shrinks by 1 - rate at
  each call.

  Args:
    key: of the draws; each leaf draws from its own path.
    params: the model.
    source: structured alike.
    rate: in [0, 1]: 0 keeps all, 1 gives the source.

  Returns:
    Params; integer leaves are those of `params`.

  Raises:
    ValueError: for a rate outside [0, 1], or at the first path where the trees
      differ.

  >>> one, zero = {"w": jnp.ones(2)}, {"w": jnp.zeros(2)}
  >>> stochastic_restore(jax.random.key(0), one, zero, 1.0)["w"].tolist()
  [0.0, 0.0]

  Wang et al. 2022, "Continual test-time domain adaptation", section 3.4,
  https://arxiv.org/abs/2203.13591.
  """
  if trees.concrete(rate) and not 0.0 <= rate <= 1.0:
    raise ValueError(f"stochastic_restore: rate is {rate}, expected 0 to 1")
  trees.check_same(params, source, "stochastic_restore: source")

  def leaf(path: str, x: Any, origin: Any) -> Any:
    if not trees.inexact(x):
      return x
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    back = jax.random.bernoulli(own, rate, jnp.shape(x))
    return jnp.where(back, origin, x)

  return trees.map_named(leaf, params, source)


def tent(apply: Apply, tx: Any) -> Adapter:
  """Return TENT: one step on the entropy of the predictions for each batch.

  Args:
    apply: apply(params, x) -> logits.
    tx: an optax transformation.

  Returns:
    Adapter, whose logits are from before the step.

  >>> adapter = tent(lambda p, x: x * p["w"][None], optax.sgd(0.1))
  >>> state = adapter.init({"w": jnp.array([1.0, 2.0])})
  >>> _, logits = adapter.step(state, jax.random.key(0), jnp.ones((1, 1)))
  >>> logits.tolist()
  [[1.0, 2.0]]

  Wang et al. 2021, https://arxiv.org/abs/2006.10726, there on the scales of
  BatchNorm alone; here on all that `tx` moves.
  """

  def init(source: Params) -> Adapting:
    return Adapting(source, source, (), tx.init(source))

  def step(
    state: Adapting, key: Key, x: jax.Array
  ) -> tuple[Adapting, jax.Array]:
    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
      logits = apply(params, x)
      return losses.entropy(logits).mean(), logits

    gradient, logits = jax.grad(loss, has_aux=True)(state.params)
    return _moved(tx, state, gradient), logits

  return Adapter(init, step)


def cotta(
  apply: Apply,
  tx: Any,
  augment: Augment,
  *,
  decay: float = 0.999,
  restore: float = 0.01,
  threshold: float = 0.92,
  copies: int = 32,
) -> Adapter:
  """Return CoTTA: averaged teacher, averaged augmentations, restored weights.

  For a batch: the teacher's logits, or where the source model's mean confidence
  is below `threshold` their mean over `copies` augmentations; one step on
  cross-entropy to them; teacher <- d teacher + (1 - d) student; then
  `stochastic_restore` of the student.

  Args:
    apply: apply(params, x) -> logits.
    tx: an optax transformation.
    augment: augment(key, x) -> x.
    decay: d of the teacher.
    restore: rate; 0.01 in the paper, 0.001 in its ImageNet code.
    threshold: the paper takes the 5 % quantile of the source's confidence on
      its own data, less 0.05; 0.92 is its code's for CIFAR-10.
    copies: augmentations, 32 in the paper.

  Returns:
    Adapter, whose logits are the teacher's, from before the step.

  Raises:
    ValueError: for copies below 1 or a rate outside [0, 1].

  >>> adapter = cotta(
  ...   lambda p, x: x * p["w"][None], optax.sgd(0.1), lambda key, x: x)
  >>> state = adapter.init({"w": jnp.array([1.0, 2.0])})
  >>> _, logits = adapter.step(state, jax.random.key(0), jnp.ones((1, 1)))
  >>> logits.tolist()
  [[1.0, 2.0]]

  Wang et al. 2022, https://arxiv.org/abs/2203.13591; that logits, not
  probabilities, are averaged, and the order of events, are from its code.
  """
  if copies < 1 or not 0.0 <= restore <= 1.0:
    raise ValueError(
      f"cotta: {copies} copies and restore {restore}, expected at least 1, and"
      " 0 to 1"
    )
  mean = traces.ema(decay)

  def init(source: Params) -> Adapting:
    return Adapting(source, source, mean.init(source), tx.init(source))

  def step(
    state: Adapting, key: Key, x: jax.Array
  ) -> tuple[Adapting, jax.Array]:
    augment_key, restore_key = jax.random.split(key)
    teacher = mean.value(state.teacher)
    sure = jax.nn.softmax(apply(state.source, x)).max(-1).mean()
    logits = jax.lax.cond(
      sure < threshold,
      lambda: _averaged(apply, augment, teacher, augment_key, x, copies),
      lambda: apply(teacher, x),
    )
    aim = jax.nn.softmax(logits)
    gradient = jax.grad(
      lambda params: losses.cross_entropy(apply(params, x), aim).mean()
    )(state.params)
    state = _moved(tx, state, gradient)
    followed = mean.update(state.teacher, state.params)
    params = stochastic_restore(
      restore_key, state.params, state.source, restore
    )
    return state._replace(params=params, teacher=followed), logits

  return Adapter(init, step)


def _averaged(
  apply: Apply, augment: Augment, params: Params, key: Key, x: Any, copies: int
) -> jax.Array:
  """Return the mean of the logits over augmentations.

  One at a time: copies of a batch would not fit, and convolutions in a batch of
  batches are slow on the CPU.
  """
  keys = jax.random.split(key, copies)
  return jax.lax.map(lambda k: apply(params, augment(k, x)), keys).mean(0)


def _moved(tx: Any, state: Adapting, gradient: Params) -> Adapting:
  updates, after = tx.update(gradient, state.optimizer, state.params)
  params = optax.apply_updates(state.params, updates)
  return state._replace(params=params, optimizer=after)
