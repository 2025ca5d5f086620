"""Two-bit training: how often weights jump, and what stops it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import weightspace as ws
from experiments.parametrize import training, transfer
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import losses
from weightspace import parametrize as p

PER = 1e4  # weight-steps


def two_bits(run: runs.Run) -> Lines:
  """Yield oscillations and accuracy with each scale, and of annealing."""
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

  def fit(name: str, starts: Any, part: Any, tx: Any) -> Any:
    folds = {"jumps": p.oscillation()}
    train = parts["train"]
    return training.fit(run, name, loss, starts, train, part, tx, folds=folds)

  makers = {"StatsQ": p.stats_quantised, "learned scale": p.scale_learned}
  trained = {}
  for name, make in makers.items():
    starts = [
      p.attach(params, config.adapted, make(config.bits))
      for params in ws.unstack(init)
    ]
    fitted = fit(name, ws.stack(starts), config.fine, optax.adam(config.rate))
    trained[name] = fitted.params
    yield from _lines(name, fitted, score, parts["test"])
  late = optax.adam(config.anneal.rate)
  ways = {
    "StatsQ, more steps": late,
    "StatsQ, annealed": p.anneal(late, config.anneal.width),
  }
  for name, tx in ways.items():
    fitted = fit(name, trained["StatsQ"], config.anneal, tx)
    yield from _lines(name, fitted, score, parts["test"])


def _lines(name: str, fitted: Any, score: Any, test: Any) -> Lines:
  right = training.mean_scores(score, fitted.params, test)
  jumps = fitted.averages["jumps"]
  for seed, value in enumerate(right):
    yield {
      "seed": seed,
      "method": name,
      "jumps per 10,000": PER * float(jnp.asarray(jumps.rate)[seed]),
      "oscillating weights (%)": 100 * float(jnp.asarray(jumps.share)[seed]),
      "accuracy (%)": 100 * float(value),
    }
