"""Weights that are bounded by a map of latent ones, on few examples."""

from typing import Any

import jax
import numpy as np
import optax
import scipy.stats

import weightspace as ws
from experiments.parametrize import training, transfer
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import losses
from weightspace import parametrize as p


def companded(run: runs.Run) -> Lines:
  """Yield kurtosis of the weights, test loss and accuracy of each method."""
  config, model = run.config, run.model()
  parts = transfer.new_task(run, config.task, config.examples)
  init = training.each(
    lambda seed: model.init(
      jax.random.fold_in(run.key, 100 + seed), parts["train"]["x"][seed, :1]
    ),
    config.seeds,
  )
  loss, score = (
    training.of_values(losses.of(model.apply, metric))
    for metric in (losses.cross_entropy, losses.accuracy)
  )
  for name, settings in config.methods.items():
    starts, tx = [], optax.adam(config.rate)
    if settings.get("decay", 0.0):
      tx = optax.adamw(config.rate, weight_decay=settings.decay)
    for params in ws.unstack(init):
      starts.append(_start(params, config.adapted, settings))
    fitted = training.fit(
      run, name, loss, ws.stack(starts), parts["train"], config.fine,
      p.only_trainable(tx),
    )  # fmt: skip
    cost, right = (
      training.mean_scores(f, fitted.params, parts["test"])
      for f in (loss, score)
    )
    values = jax.vmap(p.value)(fitted.params)
    for seed, params in enumerate(ws.unstack(values)):
      yield {
        "seed": seed,
        "method": name,
        "test loss": cost[seed],
        "kurtosis": _kurtosis(params),
        "accuracy (%)": 100 * right[seed],
      }


def _start(params: Any, adapted: Any, settings: Any) -> Any:
  if not settings.get("a", 0.0):
    return params
  make = p.companded(settings.a, settings.b, settings.get("learned", False))
  return p.attach(params, adapted, make)


def _kurtosis(params: Any) -> float:
  """Return the excess kurtosis of the kernels, mean over them."""
  named = ws.trees.named(params).items()
  return float(
    np.mean(
      [
        scipy.stats.kurtosis(np.asarray(x).ravel())
        for path, x in named
        if path.endswith("kernel")
      ]
    )
  )
