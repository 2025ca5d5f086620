"""Populations for experiments: a data set, a start, and its fine-tuned members.

Each step is a stage of the run, so a killed run redoes at most one, and of a
long training only what followed its last save (`Run.training`).  Members differ
by their seed (order of examples, noise) and by hyper-parameters drawn log-
uniformly from the ranges of the config, and carry their provenance.

>>> draws = draw_hyper({"noise": (0.1, 0.4)}, jax.random.key(0), 3)
>>> draws["noise"].shape
(3,)
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import weightspace as ws
from experiments.run import hosts, progress, runs
from weightspace import losses
from weightspace.train.resume import Checkpoint
from weightspace.types import Data, Key, Loss, Member, Params, Score, Stack


class Problem(NamedTuple):
  """A model and its data: what every stage of an experiment needs."""

  model: Any
  train: Data
  validation: Data
  test: Data
  loss: Loss  # [N]
  score: Score  # [N], 1 where the answer is right
  mesh: Any = None  # that populations are sharded over


def problem(run: runs.Run) -> Problem:
  """Load the data and build the model that a run's config names.

  Args:
    run: its config has `data`, `examples` (how many to train on; 0 for all) and
      `model`, with the model's name and hyper-parameters; its file may bring
      its own.
  """
  splits, model = run.data(), run.model()
  count = len(splits.train["y"])
  if not 0 <= run.config.examples <= count:
    raise ValueError(f"examples: {run.config.examples}, expected 0 to {count}")
  kept = run.config.examples or count
  train = jax.tree.map(lambda x: x[:kept], splits.train)
  loss = losses.of(model.apply, losses.cross_entropy)
  score = losses.of(model.apply, run.metric())
  rest = splits.validation, splits.test
  return Problem(model, train, *rest, loss, score, run.mesh)


def draw_hyper(
  ranges: Mapping[str, Any], key: Key, count: int
) -> dict[str, jax.Array]:
  """Draw [M] values of each hyper-parameter, log-uniform in its range.

  A range of one value is that value for all, zero included.
  """
  drawn = {}
  for index, (name, (low, high)) in enumerate(sorted(ranges.items())):
    if not 0.0 <= low <= high or (low == 0.0 < high):
      raise ValueError(f"{name}: ({low}, {high}), expected 0 < low <= high")
    share = jax.random.uniform(jax.random.fold_in(key, index), (count,))
    drawn[name] = low * (high / low) ** share if low < high else share * 0 + low
  return drawn


def optimizer(learning_rate: Any, weight_decay: Any) -> Any:
  """Return SGD with momentum 0.9 and weight decay, at a constant rate."""
  return optax.chain(
    optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, 0.9)
  )


def add_noise(key: Key, batch: Data, noise: Any) -> Data:
  """Add Gaussian noise to the images: the augmentation of every member."""
  x = batch["x"]
  return batch | {"x": x + noise * jax.random.normal(key, x.shape, x.dtype)}


def initial(problem: Problem, key: Key) -> Params:
  """Return freshly initialised parameters."""
  return problem.model.init(key, jnp.asarray(problem.train["x"][:1]))


def fit(
  problem: Problem,
  stack: Stack,
  settings: Any,
  key: Key,
  label: str,
  *,
  saved: Checkpoint | None = None,
) -> tuple[Stack, dict[str, jax.Array]]:
  """Train a Stack; return it and the hyper-parameters of its members.

  Args:
    problem: the data and the loss.
    stack: the starts, [M, ...].
    settings: has `epochs`, `batch_size`, and the ranges `hyper`.
    key: of the hyper-parameters and of training.
    label: of the progress bar.
    saved: where training is saved, `run.training(stage)`.
  """
  count = ws.trees.size(stack)
  hyper = draw_hyper(settings.hyper, jax.random.fold_in(key, 1), count)
  with progress.bar(label, settings.epochs) as advance:
    fitted = ws.train.fit_population(
      problem.loss,
      stack,
      optimizer,
      problem.train,
      key=key,
      epochs=settings.epochs,
      batch_size=settings.batch_size,
      hyper=hyper,
      prepare=add_noise,
      mesh=hosts.fitting(problem.mesh, count),
      checkpoint=saved,
      on_epoch=lambda epoch, _: advance(epoch),
    )
  return fitted.params, hyper


def start(run: runs.Run, problem: Problem, seed: int) -> Params:
  """Return the start that the members of a seed share, trained once."""
  key = jax.random.fold_in(run.key, 2 * seed)
  stage = f"seed{seed}-start"

  def train() -> Params:
    stack = ws.stack([initial(problem, key)])
    label, saved = f"seed {seed}: shared start", run.training(stage)
    settings = run.config.start
    fitted, _ = fit(problem, stack, settings, key, label, saved=saved)
    return ws.unstack(fitted)[0]

  return run.once(stage, train)


def members(
  run: runs.Run, problem: Problem, starts: Callable[[], Stack], seed: int
) -> tuple[Stack, list[Member]]:
  """Return the fine-tuned members of a seed, and where each came from.

  Args:
    run: its config has `members`, the settings of `fit`.
    problem: the data and the loss.
    starts: makes the Stack that training begins from.
    seed: of this population.
  """
  key = jax.random.fold_in(run.key, 2 * seed + 1)
  stage = f"seed{seed}-members"

  def train() -> tuple[Stack, list[Member]]:
    stack = starts()
    label = f"seed {seed}: {ws.trees.size(stack)} members"
    settings, saved = run.config.members, run.training(stage)
    fitted, hyper = fit(problem, stack, settings, key, label, saved=saved)
    data = ws.fingerprint(problem.train)
    records = []
    for index, model in enumerate(ws.unstack(stack)):
      own = {name: round(float(x[index]), 6) for name, x in hyper.items()}
      begun = ws.fingerprint(model)
      records.append(Member(begun, index, data, json.dumps(own)))
    return fitted, records

  return run.members(stage, train)


def repeated(params: Params, count: int) -> Stack:
  """Return M equal models: one start for all.

  >>> repeated({"w": jnp.ones(2)}, 3)["w"].shape
  (3, 2)
  """
  return ws.stack([params] * count)


def initials(run: runs.Run, problem: Problem, seed: int, count: int) -> Stack:
  """Return M independent starts, untrained."""
  keys = jax.random.split(jax.random.fold_in(run.key, 2 * seed), count)
  return ws.stack([initial(problem, key) for key in keys])
