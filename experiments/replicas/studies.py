"""Studies of replicas: outer optimisers, participation, parts of a model.

>>> sorted(STUDIES)
['federated_parts', 'outer', 'participation']
"""

import fnmatch
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

import weightspace as ws
from experiments.bench import images, text
from experiments.run import progress, runs
from weightspace import average
from weightspace.data import tasks
from weightspace.types import Data, Key, Stack


def _seeds(run: runs.Run, label: str) -> Iterator[tuple[int, Key]]:
  with progress.bar(label, run.config.seeds) as advance:
    for seed in range(run.config.seeds):
      yield seed, jax.random.fold_in(run.key, seed)
      advance(seed + 1)


def _mean(stack: Stack) -> Stack:
  """Return the mean of replicas, as a Stack of one model."""
  return ws.stack([ws.weighted_mean(stack)])


def outer(run: runs.Run) -> text.Lines:
  """DiLoCo, NoLoCo, an all-reduce of every step, and no exchange at all."""
  splits, model, loss, score = images.problem(run)
  config = run.config
  methods = {
    "all-reduce": (average.fedavg(), 1),
    "DiLoCo, Nesterov": (average.diloco(0.7, 0.9), config.steps),
    "DiLoCo, heavy ball": (
      average.diloco(0.7, 0.3, kind="heavy_ball"),
      config.steps,
    ),
    "NoLoCo": (average.noloco(0.7, 0.5), config.steps),
    "alone": (average.alone(), config.steps),
  }
  tx = optax.adam(config.rate)
  test = splits.test
  for seed, key in _seeds(run, "replicas"):
    start = text.starts(model, splits.train["x"], key, 1)
    data = _shares(splits.train, key, config.replicas)
    for name, (method, steps) in methods.items():
      found = average.replicate(
        loss, text.repeat(start, config.replicas), tx, data, method,
        key=key, rounds=config.rounds * config.steps // steps, steps=steps,
        batch_size=config.batch_size,
      )  # fmt: skip
      each = text.scores(loss, found.params, test).mean()
      middle = _mean(found.params)
      yield {
        "seed": seed,
        "method": name,
        "replicas' test loss": float(each),
        "mean model's loss": float(text.scores(loss, middle, test)[0]),
        "accuracy (%)": 100 * float(text.scores(score, middle, test)[0]),
        "distance to the mean": float(average.consensus(found.params)),
        "kB a step and replica": float(
          found.sent.sum()
          / config.rounds
          / config.steps
          / config.replicas
          / 1e3
        ),
      }


def _shares(data: Data, key: Key, count: int) -> Data:
  """Deal the examples out evenly, [M, N / M, ...]."""
  size = len(data["y"]) // count
  order = np.asarray(jax.random.permutation(key, len(data["y"])))
  index = order[: size * count].reshape(count, size)
  return jax.tree.map(lambda x: x[index], data)


def participation(run: runs.Run) -> text.Lines:
  """Clients of few classes each, some of them seldom there.

  The rate of a client grows with its main class, so that plain means forget the
  first classes.
  """
  splits, model, loss, score = images.problem(run)
  config = run.config
  rates = np.linspace(config.rates[0], config.rates[1], config.clients)
  known = average.fedavg(
    float((1 / rates).mean()), weights=(1 / rates).tolist(), absent="all"
  )
  present = average.fedavg()
  methods = {
    "FedAvg of those present": present,
    "FedAvg of all": average.fedavg(absent="all"),
    "FedAU": average.fedau(cutoff=config.cutoff),
    "known rates": known,
    "everyone there": present,
  }
  tx = optax.sgd(config.rate)
  for seed, key in _seeds(run, "clients"):
    data = _skewed(splits.train, key, config)
    drawn = average.participation(key, config.rounds, rates, config.pattern)
    start = text.starts(model, splits.train["x"], key, 1)
    for name, method in methods.items():
      schedule = None if name == "everyone there" else drawn
      late: list[Stack] = []

      def keep(turn: int, stack: Stack, late: list[Stack] = late) -> None:
        if turn > config.rounds - config.last and turn % 5 == 0:
          late.append(text.pick(stack, [0]))

      average.replicate(
        loss, text.repeat(start, config.clients), tx, data,
        method, key=key, rounds=config.rounds, steps=config.steps,
        batch_size=config.batch_size, schedule=schedule, on_round=keep,
      )  # fmt: skip
      costs = [text.scores(loss, s, splits.test)[0] for s in late]
      rights = [text.scores(score, s, splits.test)[0] for s in late]
      yield {
        "seed": seed,
        "method": name,
        "test loss": float(np.mean(costs)),
        "accuracy (%)": 100 * float(np.mean(rights)),
      }


def _skewed(data: Data, key: Key, config: Any) -> Data:
  """Return data [M, N, ...] of unlike clients, by rising mean label."""
  y = np.asarray(data["y"])
  parts: list[Any] = []
  turn = 0
  while not parts or not all(map(len, parts)):  # a client may go empty
    drawn = jax.random.fold_in(key, turn)
    parts = tasks.dirichlet(drawn, y, config.clients, config.alpha)
    turn += 1
  random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  parts.sort(key=lambda part: y[part].mean())
  index = np.stack([random.choice(part, config.per_client) for part in parts])
  return jax.tree.map(lambda x: x[index], data)


def federated_parts(run: runs.Run) -> text.Lines:
  """FedAvg of all parameters, of biases, and of the head, from one base.

  Each has its rate chosen from the same ones, on shifted validation images.
  """
  splits, model, loss, score = images.problem(run)
  config = run.config
  first, rest = images.halves(splits.train)
  away = {
    "train": images.shifted(run, rest),
    "test": images.shifted(run, splits.test),
    "validation": images.shifted(run, splits.validation),
  }
  begun = text.starts(model, first["x"], run.key, config.seeds)
  base = text.trajectory(
    run, loss, begun, images.sgd(0.1), first, key=run.key, part=config.base
  )[0][-1]
  last = f"Dense_{len(config.model.hidden)}/*"
  parts = {"all parameters": ("*",), "biases and head": ("*/bias", last)}
  parts |= {"biases": ("*/bias",), "head": (last,)}
  before = 100 * text.scores(score, base, away["test"])
  yield from text.lines("base", {"accuracy (%)": before})
  txs = {rate: optax.sgd(rate) for rate in config.rates}
  for seed, key in _seeds(run, "clients"):
    data = _skewed(away["train"], key, config)
    stack = text.repeat(text.pick(base, [seed]), config.clients)

    def scored(found: Any, split: str) -> float:
      one = text.pick(found.params, [0])
      return float(text.scores(score, one, away[split])[0])

    for name, only in parts.items():
      tried = {
        rate: average.replicate(
          loss, stack, tx, data, average.fedavg(), key=key,
          rounds=config.rounds, steps=config.steps, only=only,
          batch_size=config.batch_size,
        )
        for rate, tx in txs.items()
      }  # fmt: skip
      rate = max(tried, key=lambda r: scored(tried[r], "validation"))
      found = tried[rate]
      yield {
        "seed": seed,
        "method": name,
        "accuracy (%)": 100 * scored(found, "test"),
        "kB a round and client": float(
          found.sent.mean() / config.clients / 1e3
        ),
        "frozen leaves changed": float(_changed(stack, found.params, only)),
        "rate": float(rate),
      }


def _changed(before: Stack, after: Stack, only: Any) -> int:
  """Return how many entries outside of the trained part are not the same."""
  new = ws.trees.named(after)
  return sum(
    int(np.asarray(x != new[path]).sum())
    for path, x in ws.trees.named(before).items()
    if not any(fnmatch.fnmatch(path, pattern) for pattern in only)
  )


STUDIES = {
  "outer": outer,
  "participation": participation,
  "federated_parts": federated_parts,
}
