"""Training: one loop for one model and for a population of models.

A population is a Stack; its members differ by their start, by their
hyper-parameters [M], and by the seeds of their batches.  Data lie on the
device, batches are gathered there, and averages of the trajectory (Folds) ride
along with the parameters.

>>> import optax
>>> data = {"x": jnp.arange(4.0), "y": 3.0 * jnp.arange(4.0)}
>>> def loss(params, batch):
...   return (params["w"] * batch["x"] - batch["y"]) ** 2
>>> stack = {"w": jnp.zeros(2)}
>>> rates = {"learning_rate": jnp.array([0.0, 0.1])}
>>> fitted = fit_population(
...   loss, stack, optax.sgd, data, key=jax.random.key(0), epochs=9,
...   batch_size=4, hyper=rates)
>>> fitted.params["w"].round(2).tolist()
[0.0, 3.0]
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures, flops
from weightspace.train import (
  batch_order,
  hyperparameters,
  placement,
  resume,
  training_checks,
)
from weightspace.train import steps as population
from weightspace.train.resume import Checkpoint
from weightspace.types import Data, Fold, Key, Loss, Params, Stack


class Fitted(NamedTuple):
  """What training returns; `fit` returns it without the axis M."""

  params: Stack  # [M, ...]
  averages: dict[str, Any]  # the value of each fold, [M, ...]
  losses: np.ndarray  # [epochs, steps, M]: the loss before each step


def fit_population(
  loss: Loss,
  stack: Stack,
  tx: Any,
  data: Data,
  *,
  key: Key,
  epochs: int,
  batch_size: int,
  hyper: Mapping[str, Any] | None = None,
  prepare: Callable[..., Data] | None = None,
  folds: Mapping[str, Fold] | None = None,
  seeds: Sequence[int] | None = None,
  same_order: bool = False,
  shared_data: bool = True,
  strategy: str = "auto",
  mesh: Any = None,
  checkpoint: Checkpoint | None = None,
  on_epoch: Callable[[int, Fitted], None] | None = None,
) -> Fitted:
  """Train M models at once.

  Args:
    loss: `loss(params, batch)`, [] or [B]; the mean is minimised.
    stack: leaves [M, ...], the starts.
    tx: an optax transformation, or a function of hyper-parameters that makes
      one, such as `optax.sgd`.
    data: a tree of arrays [N, ...], or [M, N, ...] without `shared_data`.
    key: what all batches and noise are drawn from.
    epochs: passes over the data.
    batch_size: B; the N mod B examples left over differ from epoch to epoch.
    hyper: arrays [M] by name; each goes to whichever of `tx`, `prepare` and
      `loss` has an argument of that name.
    prepare: `prepare(key, batch) -> batch`, run within the step: augmentation.
    folds: averages over the trajectory by name, updated after every step.
    seeds: M whole numbers that set the members' randomness apart; 0 to M - 1.
    same_order: all members see the batches of the first seed.
    shared_data: whether members train on the same data.
    strategy: see `strategies.choose`; results agree up to rounding.
    mesh: a mesh with an axis `population`, to shard members over.
    checkpoint: where to save, and to resume from.
    on_epoch: called with the number of epochs done and what came out so far.

  Returns:
    Fitted.

  Raises:
    ValueError: for bad input, before work; for a checkpoint of another run;
      when a loss becomes NaN, naming the first step and its member.

  >>> import optax
  >>> key, data = jax.random.key(0), jnp.ones((4, 1))
  >>> stack = {"w": jnp.array([[1.0], [2.0]])}
  >>> loss = lambda params, x: 0.5 * (x @ params["w"]) ** 2
  >>> fit_population(loss, stack, optax.sgd(0.5), data, key=key, epochs=2,
  ...   batch_size=4).params["w"].ravel().tolist()
  [0.25, 0.5]
  """
  hyper = {name: jnp.asarray(value) for name, value in (hyper or {}).items()}
  numbers = list(range(trees.size(stack)) if seeds is None else seeds)
  examples = training_checks.examples(
    stack, data, batch_size, epochs, shared_data
  )
  hyperparameters.check(trees.size(stack), hyper, numbers, (tx, prepare, loss))
  stack, data = jax.tree.map(jnp.asarray, (stack, data))
  named = tuple(sorted((folds or {}).items()))
  rows = shared_data, same_order
  layout = mesh, *placement.choose(strategy, mesh, len(numbers))
  own = closures.fixed(loss), tx, prepare and closures.fixed(prepare)
  plan = population.Plan(*own, named, *rows, *layout)
  program = population.program(plan, stack, data, hyper, batch_size)
  draw = functools.partial(
    batch_order.draw,
    key,
    numbers,
    count=examples,
    batch_size=batch_size,
    same_order=same_order,
  )
  state = population.begin_all(plan, stack, hyper)
  settings = key, hyper, numbers, batch_size, rows
  # Hashes of all data: only for what is saved, or found.
  record = functools.partial(resume.record, stack, data, program, settings)
  run = functools.cache(record)
  done, losses, state = resume.load(checkpoint, run, state, epochs)
  state, data = population.spread(plan, state), population.place(plan, data)
  work = flops.operations(program) * len(numbers)
  saved = time.monotonic()
  for epoch in range(done, epochs):
    began = time.perf_counter()
    indices, keys = draw(epoch)
    state, new = population.epoch(plan, state, data, indices, keys, hyper)
    _tell(time.perf_counter() - began, epoch - done, len(new), work)
    training_checks.losses(new, epoch)
    losses.append(new)
    if checkpoint and resume.due(checkpoint, epoch + 1, epochs, saved):
      resume.store(checkpoint, run(), losses, state)
      saved = time.monotonic()
    if on_epoch:
      on_epoch(epoch + 1, _fitted(plan, state, losses))
  return _fitted(plan, state, losses)


def fit(
  loss: Loss,
  params: Params,
  tx: Any,
  data: Data,
  *,
  hyper: Mapping[str, Any] | None = None,
  seed: int = 0,
  on_epoch: Callable[[int, Fitted], None] | None = None,
  **settings: Any,
) -> Fitted:
  """Train one model: member `seed` of a population.

  Args:
    loss: `loss(params, batch)`, [] or [B].
    params: the start.
    tx: as in `fit_population`.
    data: a tree of arrays [N, ...].
    hyper: numbers by name.
    seed: sets its randomness apart from other members'.
    on_epoch: as in `fit_population`, without the axis M.
    **settings: `key`, `epochs`, `batch_size` and the other settings of
      `fit_population`.

  Returns:
    Fitted, without the axis M: losses are [epochs, steps].

  Raises:
    ValueError: as `fit_population`.

  >>> import optax
  >>> loss = lambda params, x: 0.5 * (x @ params["w"]) ** 2
  >>> fit(loss, {"w": jnp.ones(1)}, optax.sgd(0.5), jnp.ones((4, 1)),
  ...   key=jax.random.key(0), epochs=2, batch_size=4).params["w"].tolist()
  [0.25]
  """

  def alone(fitted: Fitted) -> Fitted:
    first = functools.partial(jax.tree.map, lambda x: x[0])
    losses = fitted.losses[..., 0]
    return Fitted(first(fitted.params), first(fitted.averages), losses)

  def report(epoch: int, fitted: Fitted) -> None:
    if on_epoch is not None:
      on_epoch(epoch, alone(fitted))

  stack = jax.tree.map(lambda x: jnp.asarray(x)[None], params)
  rows = {name: jnp.asarray(x)[None] for name, x in (hyper or {}).items()}
  fitted = fit_population(
    loss,
    stack,
    tx,
    data,
    hyper=rows,
    seeds=[seed],
    on_epoch=report if on_epoch else None,
    **settings,
  )
  return alone(fitted)


def _tell(seconds: float, epoch: int, steps: int, work: int) -> None:
  """Let those who listen to `jax.monitoring` know what an epoch took.

  Args:
    seconds: of all members.
    epoch: counted from where this call began: the first compiles.
    steps: of each member.
    work: operations of one step of all members.
  """
  jax.monitoring.record_event_duration_secs(
    "/weightspace/train/epoch",
    seconds,
    epoch=epoch,
    steps=steps,
    operations=work * steps,
  )


def _fitted(
  plan: population.Plan, state: Any, losses: list[np.ndarray]
) -> Fitted:
  state = population.gather(plan, state)
  averages = {n: jax.vmap(f.value)(state.folds[n]) for n, f in plan.folds}
  return Fitted(state.params, averages, np.stack(losses))
