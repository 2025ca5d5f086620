"""Images from a teacher that is moved uphill for each batch.

Each batch of synthetic images comes from the teacher as it is, or from one
moved by `directed_ascent` on the batch's real beginnings.  What counts is how
much the images of a class vary, in the features of another network.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.generate import bed
from experiments.run import progress, runs
from experiments.run.study import Lines
from weightspace import generate, models
from weightspace.types import Data, Key, Params


def study(run: runs.Run) -> Lines:
  """Train teachers, synthesise from each length of the ascent, measure."""
  config, splits, model = run.config, run.data(), run.model()
  test = jax.tree.map(jnp.asarray, splits.test)
  with progress.bar("seeds", config.seeds) as advance:
    for seed, key in enumerate(bed.keys(run)):
      train = bed.subset(jax.random.fold_in(key, 0), splits.train, 0)
      (teacher, judge), (stats, known) = teachers(run, model, train, key)
      for rho in config.rhos:
        made = synthetic(run, model, teacher, stats, train, key, rho)
        yield {
          "seed": seed,
          "method": f"ascent of length {rho:g}" if rho else "teacher as it is",
          "variance of features": spread(model, judge, known, made),
          "student's test (%)": student(run, model, made, key, test),
          "teacher's label (%)": labelled(model, teacher, stats, made),
        }
      advance(seed + 1)


def teachers(
  run: runs.Run, model: Any, train: Data, key: Key
) -> tuple[list[Params], list[Any]]:
  """Return a teacher and an independent judge, with their statistics."""
  config = run.config.teacher
  keys = list(jax.random.split(key, 2))
  loss = ws.losses.of(model.apply, ws.losses.cross_entropy)
  fitted = ws.train.fit_population(
    loss,
    bed.starts(model, train["x"], keys),
    optax.adam(config.learning_rate),
    train,
    key=key,
    epochs=config.epochs,
    batch_size=config.batch_size,
  )
  pair = ws.unstack(fitted.params)
  return pair, [models.population(model, p, [train["x"]]) for p in pair]


def synthetic(
  run: runs.Run,
  model: Any,
  teacher: Params,
  stats: Any,
  train: Data,
  key: Key,
  rho: float,
) -> Data:
  """Return images [batches * B, ...], each batch from a teacher of its own."""
  config, parts = run.config, []

  def loss(params: Params, data: Data) -> jax.Array:
    logits = model.apply(params, data["x"], data["stats"])
    return ws.losses.cross_entropy(logits, data["y"]).mean()

  for batch in range(config.batches):
    begin = real(train, config.per_class, batch)
    moved = teacher
    if rho:
      moved = generate.directed_ascent(
        loss, teacher, begin | {"stats": stats}, rho, config.ascent
      )
    settings = config.synthesis.to_dict()
    x = generate.synthesise(
      model,
      moved,
      stats,
      begin,
      key=jax.random.fold_in(key, batch),
      **settings,
    )
    parts.append({"x": x, "y": begin["y"]})
  return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def real(train: Data, per_class: int, batch: int) -> Data:
  """Return real images of all classes: where a batch begins."""
  y = np.asarray(train["y"])
  rows = [
    np.flatnonzero(y == label)[batch * per_class : (batch + 1) * per_class]
    for label in range(10)
  ]
  return jax.tree.map(lambda x: x[np.concatenate(rows)], train)


def features(model: Any, params: Params, stats: Any, x: jax.Array) -> Any:
  """Return what the head is given, [B, F]: the logits of a head that is 1."""
  size = len(params["head"]["kernel"])
  head = {"kernel": jnp.eye(size), "bias": jnp.zeros(size)}
  wide = models.build(model.name, **model.hyper | {"classes": size})
  return wide.apply(params | {"head": head}, x, stats)


def spread(model: Any, judge: Params, stats: Any, made: Data) -> float:
  """Return the mean over classes of the variance of features in a class."""
  rows = np.asarray(features(model, judge, stats, made["x"]))
  y = np.asarray(made["y"])
  return float(np.mean([rows[y == label].var(0).sum() for label in range(10)]))


def labelled(model: Any, teacher: Params, stats: Any, made: Data) -> float:
  """Return how many images the teacher itself labels as wanted, in percent."""
  logits = model.apply(teacher, made["x"], stats)
  return 100 * float(ws.losses.accuracy(logits, made["y"]).mean())


def student(
  run: runs.Run, model: Any, made: Data, key: Key, test: Data
) -> float:
  """Return the test accuracy of a new network trained on the images."""
  config = run.config.student
  begin = model.init(jax.random.fold_in(key, 3), made["x"][:1])
  fitted = ws.train.fit(
    ws.losses.of(model.apply, ws.losses.cross_entropy),
    begin,
    optax.adam(config.learning_rate),
    made,
    key=key,
    epochs=config.epochs,
    batch_size=min(config.batch_size, len(made["y"])),
  )
  stats = models.population(model, fitted.params, [made["x"]])
  logits = model.apply(fitted.params, test["x"], stats)
  return 100 * float(ws.losses.accuracy(logits, test["y"]).mean())
