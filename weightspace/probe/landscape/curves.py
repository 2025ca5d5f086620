"""Curves of low loss between two models, trained.

Two solutions behind a barrier are often joined by a bent path of low loss.  A
curve is a mix of its ends and a few free points, so the gradient of the loss at
one random t is all that a step needs, and any model that has a loss has curves:
no layer is written anew.

>>> def loss(p, ring):  # low on a circle, high on the line through its centre
...   return (jnp.sqrt((p["w"] ** 2).sum() + 1e-6) - ring) ** 2
>>> a, b = {"w": jnp.array([-1.0, 0.0])}, {"w": jnp.array([1.0, 0.1])}
>>> path = fit_curve(loss, jnp.array(1.0), a, b, jax.random.key(0), 400)
>>> from weightspace.paths import path as paths
>>> paths.barrier_on(path, loss, jnp.array(1.0)).chord < 0.1
True
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures
from weightspace.losses import objectives
from weightspace.paths.bezier import Bezier, Polyline
from weightspace.probe.landscape import bending
from weightspace.types import Data, Key, Loss, Params, Stack


def fit_curve(
  loss: Loss,
  data: Data,
  a: Params,
  b: Params,
  key: Key,
  steps: int,
  learning_rate: float = 0.02,
  init: Params | Sequence[Params] | None = None,
  **settings: Any,
) -> Bezier | Polyline:
  """Train the free points of a curve from `a` to `b`.

  Minimises E_{t ~ U[0, 1]} L(theta(t)), one t and one gradient a step; the ends
  are never changed.

  Args:
    loss: `loss(params, data)`, one number or one per example.
    data: the training data, a pytree; [N, ...] where there is a `batch_size`.
    a: the model at t = 0.
    b: the model at t = 1.
    key: of t and of the batches.
    steps: of SGD with momentum 0.9.
    learning_rate: at first; see `bending.schedule`.
    init: the free point, or a list of them; by default they lie evenly on the
      segment.
    **settings: of `fit_curves`: bends, kind, batch_size, strata, weight_decay,
      tx.

  Returns:
    A path, `path(t) -> Params`, with `.points` [bends + 2, ...] in float32 or
    wider, whatever the dtype of the models.

  Raises:
    ValueError: for models that differ, a bad loss, or when it becomes NaN.

  >>> a, b = {"w": jnp.array(0.0)}, {"w": jnp.array(1.0)}
  >>> def loss(p, target): return (p["w"] - target) ** 2
  >>> path = fit_curve(loss, jnp.array(2.0), a, b, jax.random.key(0), 300)
  >>> path.points["w"].round(0).tolist()  # pulled far up, to be near 2 longest
  [0.0, 4.0, 1.0]

  Garipov et al. 2018, https://arxiv.org/abs/1802.10026 (and Draxler et al.
  2018, https://arxiv.org/abs/1803.00885); stratified t and random batches drawn
  with replacement are ours.
  """
  trees.check_same(a, b, "fit_curve: model 1")
  first, last = (
    jax.tree.map(lambda x: jnp.asarray(x)[None], m) for m in (a, b)
  )
  own = None
  if init is not None:
    free = list(init) if isinstance(init, list | tuple) else [init]
    for point in free:
      trees.check_same(a, point, "fit_curve: init")
    if settings.setdefault("bends", len(free)) != len(free):
      raise ValueError(
        f"fit_curve: init has {len(free)} points, expected one for each of"
        f" {settings['bends']} bends"
      )
    own = jax.tree.map(lambda x: x[None], trees.stack(free))
  found = fit_curves(
    loss, data, first, last, key, steps, learning_rate, own, **settings
  )
  return found[0]


def fit_curves(
  loss: Loss,
  data: Data,
  a: Stack,
  b: Stack,
  key: Key,
  steps: int,
  learning_rate: float = 0.02,
  init: Stack | None = None,
  *,
  bends: int = 1,
  kind: str = "bezier",
  batch_size: int | None = None,
  strata: int = 1,
  weight_decay: float = 0.0,
  tx: Any = None,
) -> list[Bezier | Polyline]:
  """Train a curve for each of M pairs at once.

  Args:
    loss: as in `fit_curve`.
    data: shared by all pairs.
    a: the models at t = 0, [M, ...].
    b: those at t = 1.
    key: pair m draws from fold_in(key, m).
    steps: at least 1.
    learning_rate: at first.
    init: free points, [M, bends, ...].
    bends: free points of a curve.
    kind: "bezier" or "polyline".
    batch_size: examples of a step, drawn with replacement; None for all.
    strata: t's of a step, one in each of as many equal parts of [0, 1]; their
      gradients are averaged.
    weight_decay: adds weight_decay / 2 |theta(t)|^2 to the loss: the decay of
      the point on the curve.
    tx: an optax transformation in place of SGD and its schedule.

  Returns:
    M paths.

  Raises:
    ValueError: as `fit_curve`.

  >>> a, b = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
  >>> def loss(p, target): return (p["w"] - target) ** 2
  >>> found = fit_curves(loss, jnp.array(0.5), a, b, jax.random.key(0), 9)
  >>> len(found), found[1](1.0)["w"].item()
  (2, 1.0)

  Garipov et al. 2018, https://arxiv.org/abs/1802.10026.
  """
  loss = closures.fixed(loss)
  count = _check(loss, data, a, b, batch_size)
  a, b = trees.widened((a, b))
  for name, value in {"steps": steps, "bends": bends, "strata": strata}.items():
    if value < 1:
      raise ValueError(f"fit_curve: {name} is {value}, expected at least 1")
  if kind not in bending.KINDS:
    raise ValueError(f"kind: {kind!r}, expected one of {[*bending.KINDS]}")
  tx = bending.sgd(float(learning_rate), steps) if tx is None else tx
  made = bending.Settings(
    loss, kind, tx, batch_size, strata, float(weight_decay)
  )
  keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(count))
  points = jax.vmap(functools.partial(bending.begin, bends=bends))(a, b)
  if init is not None:
    points = jax.tree.map(
      lambda x, free: x.at[:, 1:-1].set(free) if trees.inexact(x) else x,
      points,
      init,
    )
  fitted, losses = bending.train(made, points, data, keys, steps)
  bad = np.argwhere(~np.isfinite(losses))
  if len(bad):
    pair, step = bad[0]
    raise ValueError(
      f"fit_curve: the loss of pair {pair} is not finite at step {step},"
      " expected a number (a smaller learning_rate?)"
    )
  return [bending.KINDS[kind](each) for each in trees.unstack(fitted)]


def _check(
  loss: Loss, data: Data, a: Stack, b: Stack, batch_size: int | None
) -> int:
  """Check the ends and the loss; return the number of pairs."""
  trees.check_same(a, b, "fit_curve: models at t = 1")
  trees.check_finite([a, b], "fit_curve")
  count = trees.size(a)
  one = jax.tree.map(lambda x: jnp.asarray(x)[0], a)
  objectives.inexact_leaves(one, "fit_curve")
  number = objectives.examples(loss, one, data, "fit_curve")
  if batch_size is not None:
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(data)}
    total = min((x[0] for x in lengths if x), default=0)
    if len(lengths) != 1 or not 1 <= batch_size <= total:
      raise ValueError(
        f"fit_curve: batch_size is {batch_size} for data with leading axes"
        f" {sorted(lengths)}, expected 1 to N of [N, ...]"
      )
    if number is None:
      objectives.check_mean(loss, one, data, "fit_curve", batch_size)
  return count
