"""The models that re-basin experiments align: trained apart, and measured.

A model with BatchNorm is measured with statistics of the training inputs: its
members are then trees of both, {"params": .., "stats": ..}, so that aligning
and averaging take the statistics along, and a reset finds them anew.

>>> statistics_of({"name": "resnet", "norm": "batch"})
True
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

import weightspace as ws
from experiments.bench import population
from experiments.run import hosts, progress, runs
from weightspace import losses
from weightspace.train.resume import Checkpoint
from weightspace.types import Params, Stack


def statistics_of(hyper: Mapping[str, Any]) -> bool:
  """Tell whether a model has BatchNorm, by its hyper-parameters."""
  return hyper.get("norm") == "batch"


def problem(base: Any, hyper: Any) -> Any:
  """Return the problem with the model of a case."""
  model = ws.models.build(**hyper)
  return base._replace(
    model=model,
    loss=losses.of(model.apply, losses.cross_entropy),
    score=losses.of(model.apply, losses.accuracy),
  )


def measured(problem: Any, hyper: Any) -> Any:
  """Return the problem as the trained members are measured."""
  if not statistics_of(hyper):
    return problem
  plain = problem.model.apply

  def apply(tree: Params, x: jax.Array) -> jax.Array:
    return plain(tree["params"], x, tree["stats"])

  return problem._replace(
    model=problem.model._replace(apply=apply),
    loss=losses.of(apply, losses.cross_entropy),
    score=losses.of(apply, losses.accuracy),
  )


def members(run: runs.Run, problem: Any, case: str, seed: int) -> Stack:
  """Return the members of a case and seed, trained from their own starts."""
  name = f"{case}-seed{seed}"
  key = jax.random.fold_in(run.key, 2 * seed + 1)
  settings = run.config.members

  def train() -> Stack:
    stack = population.initials(run, problem, seed, settings.count)
    given, saved = (problem, stack, settings, key, name), run.training(name)
    if "adam" in settings:
      fitted = adam(*given, saved=saved)
    else:
      fitted, _ = population.fit(*given, saved=saved)
    if not statistics_of(run.config.cases[case]):
      return fitted
    x = jnp.asarray(problem.train["x"][: run.config.statistics])
    models = ws.unstack(fitted)
    return ws.stack([with_statistics(problem.model, m, x) for m in models])

  return run.once(name, train)


def adam(
  problem: Any,
  stack: Stack,
  settings: Any,
  key: Any,
  name: str,
  *,
  saved: Checkpoint | None = None,
) -> Any:
  """Train by Adam at the rate `settings.adam`, without noise on the inputs."""
  with progress.bar(name, settings.epochs) as advance:
    fitted = ws.train.fit_population(
      problem.loss,
      stack,
      optax.adam(settings.adam),
      problem.train,
      key=key,
      epochs=settings.epochs,
      batch_size=settings.batch_size,
      mesh=hosts.fitting(problem.mesh, ws.trees.size(stack)),
      checkpoint=saved,
      on_epoch=lambda epoch, _: advance(epoch),
    )
  return fitted.params


def with_statistics(model: Any, params: Params, x: jax.Array) -> Params:
  """Return parameters with BatchNorm statistics of inputs, in one pass."""
  stats = ws.models.population(model, params, [x], passes=1)
  return {"params": params, "stats": stats}
