"""Models for landscapes: a data set, and populations trained on it in one call.

>>> sgd(0.1, 0.0, steps=10).init({"w": jnp.zeros(2)})[1].trace["w"].shape
(2,)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import weightspace as ws
from experiments.run import hosts, progress, runs
from weightspace import losses
from weightspace.types import Data, Key, Loss, Stack


def data(run: runs.Run) -> tuple[Any, Data, Data]:
  """Return the model, `examples` training examples, and the test set."""
  splits, model = run.data(), run.model()
  count = run.config.examples or len(splits.train["y"])
  train = jax.tree.map(lambda x: jnp.asarray(x[:count]), splits.train)
  return model, train, jax.tree.map(jnp.asarray, splits.test)


def risk(model: Any) -> Loss:
  """Return the cross-entropy of each example."""
  return losses.of(model.apply, losses.cross_entropy)


def error(model: Any) -> Loss:
  """Return for each example 1 where the answer is wrong."""
  right = losses.of(model.apply, losses.accuracy)
  return lambda params, data: 1.0 - right(params, data)


def sgd(learning_rate: Any, weight_decay: Any, steps: int) -> Any:
  """Return SGD with momentum and weight decay, its rate falling to zero."""
  rate = optax.cosine_decay_schedule(1.0, steps)
  return optax.chain(
    optax.add_decayed_weights(weight_decay),
    optax.trace(0.9),
    optax.scale_by_schedule(rate),
    optax.scale_by_learning_rate(learning_rate),
  )


def fit(
  run: runs.Run,
  name: str,
  loss: Loss,
  begin: Callable[[], Stack],
  train: Data,
  *,
  settings: Any,
  key: Key,
  hyper: dict[str, Any] | None = None,
  seeds: list[int] | None = None,
) -> Stack:
  """Return a trained population, kept as a stage of the run.

  Args:
    run: the stage is kept in its folder.
    name: of the stage.
    loss: what is minimised.
    begin: makes the starts.
    train: the training data.
    settings: has epochs, batch_size, learning_rate and weight_decay.
    key: of the batches.
    hyper: arrays [M] that replace those of `settings`.
    seeds: of the members' batches.
  """

  def work() -> Stack:
    stack = begin()
    count = ws.trees.size(stack)
    batch = min(settings.batch_size, len(train["y"]))
    steps = settings.epochs * (len(train["y"]) // batch)
    own = {
      "learning_rate": jnp.full(count, settings.learning_rate),
      "weight_decay": jnp.full(count, settings.weight_decay),
    }

    def tx(learning_rate: Any, weight_decay: Any) -> Any:
      return sgd(learning_rate, weight_decay, steps)

    with progress.bar(f"training: {name}", settings.epochs) as advance:
      fitted = ws.train.fit_population(
        loss,
        stack,
        tx,
        train,
        key=key,
        epochs=settings.epochs,
        batch_size=batch,
        hyper=own | (hyper or {}),
        seeds=seeds,
        mesh=hosts.fitting(run.mesh, count),
        checkpoint=run.training(name),
        on_epoch=lambda epoch, _: advance(epoch),
      )
    return fitted.params

  return run.once(name, work)
