"""Smooth experts, and synthetic data that lead students along their way.

Experts are trained plainly, or smoothly: their loss weakened while they begin,
and the gradient of their logits in the images held to length one.  Synthetic
images are then learned from the smooth ones; what counts is the accuracy of new
networks trained on them, beside as many real images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.generate import bed
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import generate
from weightspace.types import Data, Key, Stack

PLAIN, SMOOTH = "plain experts", "smooth experts"
REAL = "as many real images"


def study(run: runs.Run) -> Lines:
  """Train experts, learn images from each kind, train students on them."""
  config, splits, model = run.config, run.data(), run.model()
  test = jax.tree.map(jnp.asarray, splits.test)
  last_rounds = slice(-max(config.match.rounds // 5, 1), None)
  for seed, key in enumerate(bed.keys(run)):

    def students_of(data: Data, rate: Any, key: Key = key) -> float:
      return students(run, model, data, rate, key, test)

    train = bed.subset(jax.random.fold_in(key, 0), splits.train, 0)
    real = chosen(train, config.per_class, None)
    for method in (PLAIN, SMOOTH):
      paths = experts(run, model, train, key, smooth=method == SMOOTH)
      last = jax.tree.map(lambda x: x[:, -1], paths)
      steps = jax.vmap(generate.step_lengths)(paths)
      one = jax.tree.map(lambda x: x[0, -1], paths)
      begin = chosen(train, config.per_class, model.apply(one, train["x"]))
      made = learn(run, model, paths, begin, key)
      yield {
        "seed": seed,
        "method": method,
        "largest step": float(steps.max(1).mean()),
        "expert's test (%)": bed.accuracies(model.apply, last, test).mean(),
        "student's test (%)": students_of(made.data, made.rate),
        "matching loss": float(made.distances[last_rounds].mean()),
      }
    scores = [students_of(real, rate) for rate in config.real_rates]
    yield {"seed": seed, "method": REAL, "student's test (%)": max(scores)}


def chosen(train: Data, per_class: int, logits: Any) -> Data:
  """Return real images: those that stand for their class, or the first ones."""
  y, rows = np.asarray(train["y"]), []
  for label in range(10):
    own = np.flatnonzero(y == label)
    if logits is None:
      rows.append(own[:per_class])
    else:
      features = np.asarray(logits)[own]
      rows.append(own[generate.representatives(features, per_class)])
  return jax.tree.map(lambda x: x[np.concatenate(rows)], train)


def experts(
  run: runs.Run, model: Any, train: Data, key: Key, smooth: bool
) -> Stack:
  """Return snapshots of experts after each epoch, [E, T, ...]."""
  config = run.config.experts
  begin = bed.starts(
    model, train["x"], list(jax.random.split(key, config.count))
  )
  loss = ws.losses.of(model.apply, ws.losses.cross_entropy)
  penalty = generate.gradient_penalty(model.apply)
  steps = len(train["y"]) // config.batch_size
  tx = optax.sgd(config.learning_rate, 0.9)
  if smooth:
    factor = generate.loss_factor(steps, epochs=config.weak)
    tx = optax.chain(optax.scale_by_schedule(factor), tx)

  def smoothed(params: Any, batch: Data) -> jax.Array:
    return loss(params, batch) + config.penalty * penalty(params, batch)

  snapshots = [begin]
  ws.train.fit_population(
    smoothed if smooth else loss,
    begin,
    tx,
    train,
    key=key,
    epochs=config.epochs,
    batch_size=config.batch_size,
    on_epoch=lambda _, fitted: snapshots.append(fitted.params),
  )
  return jax.tree.map(lambda *x: jnp.stack(x, 1), *snapshots)


def learn(
  run: runs.Run, model: Any, paths: Stack, begin: Data, key: Key
) -> generate.Matched:
  """Learn images on which students follow the experts."""
  settings = run.config.match.to_dict()
  rate = settings.pop("image_rate")
  return generate.match(
    ws.losses.of(model.apply, ws.losses.cross_entropy),
    paths,
    begin,
    jax.random.fold_in(key, 1),
    tx=optax.adam(rate),
    **settings,
  )


def students(
  run: runs.Run, model: Any, data: Data, rate: Any, key: Key, test: Data
) -> float:
  """Return the mean test accuracy of new networks trained on few images."""
  config = run.config.students
  begin = bed.starts(
    model,
    data["x"],
    list(jax.random.split(jax.random.fold_in(key, 2), config.count)),
  )
  fitted = ws.train.fit_population(
    ws.losses.of(model.apply, ws.losses.cross_entropy),
    begin,
    optax.sgd,
    data,
    key=key,
    epochs=config.epochs,
    batch_size=len(data["y"]),
    hyper={"learning_rate": jnp.full(config.count, rate)},
  )
  return float(bed.accuracies(model.apply, fitted.params, test).mean())
