"""Studies of trajectories on images: runs, scores, tasks.

>>> sorted(STUDIES)
['free_lunch', 'signal_noise', 'zscl']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import images, text
from experiments.run import hosts, runs
from weightspace import average
from weightspace.types import Data, Stack

ALPHAS = np.linspace(0.0, 1.0, 21)  # of the mixes of start and end
HEAD = "Dense_1/*"  # of an MLP with one hidden layer


def free_lunch(run: runs.Run) -> text.Lines:
  """Checkpoint and run averaging from one base, at several rates.

  Each seed has a base; from it R runs are fine-tuned on other images at each
  rate, with the base's head frozen ("shared") or a new head each ("own").
  """
  splits, model, loss, score = images.problem(run)
  config, seeds = run.config, run.config.seeds
  first, rest = images.halves(splits.train)
  start = text.starts(model, first["x"], run.key, seeds)
  (*_, base), _ = text.trajectory(
    run, loss, start, images.sgd(0.1), first, key=run.key, part=config.base
  )
  test, away = splits.test, images.shifted(run, splits.test)
  each = len(config.rates) * config.runs
  rate = jnp.tile(jnp.repeat(jnp.array(config.rates), config.runs), seeds)
  own = jax.random.fold_in(run.key, 1)
  fresh = text.starts(model, first["x"], own, seeds * each)["Dense_1"]
  for heads in ("shared", "own"):
    begun = text.repeat(base, each)
    if heads == "own":
      begun = begun | {"Dense_1": fresh}

    def tx(learning_rate: Any, heads: str = heads) -> Any:
      frozen = {"Dense_0": False, "Dense_1": heads == "shared"}
      return optax.chain(
        images.sgd(learning_rate), optax.masked(optax.set_to_zero(), frozen)
      )

    key = jax.random.fold_in(run.key, 2)
    snapshots, _ = text.trajectory(
      run, loss, begun, tx, rest, key=key, part=config.fine,
      hyper={"learning_rate": rate},
    )  # fmt: skip
    found = {"last": snapshots[-1], "CA": text.mean(snapshots)}
    for name, stack in found.items():
      both = {name: stack, f"{name} + RA": _joined(stack, config.runs, heads)}
      for label, models in both.items():
        yield from _grid(
          f"{label}, {heads} head",
          models,
          seeds,
          (score, loss),
          test,
          away=away,
        )


def _joined(stack: Stack, runs_: int, heads: str) -> Stack:
  """Return the average of each R runs that lie next to each other."""
  rule = "shared" if heads == "shared" else "mean"
  groups = jax.tree.map(lambda x: x.reshape(-1, runs_, *x.shape[1:]), stack)
  return ws.stack(
    [
      average.average_runs(ws.unstack(group), HEAD, rule)
      for group in ws.unstack(groups)
    ]
  )


def _grid(
  label: str, stack: Stack, seeds: int, by: Any, test: Data, *, away: Data
) -> text.Lines:
  """Yield mean over rates and runs, and best less worst, seed by seed."""
  score, loss = by
  right = 100 * text.scores(score, stack, away).reshape(seeds, -1)
  inside = 100 * text.scores(score, stack, test).reshape(seeds, -1)
  cost = text.scores(loss, stack, away).reshape(seeds, -1)
  yield from text.lines(
    label,
    {
      "shifted accuracy (%)": right.mean(1),
      "shifted loss": cost.mean(1),
      "spread (points)": np.ptp(right, 1),
      "accuracy (%)": inside.mean(1),
    },
  )


def signal_noise(run: runs.Run) -> text.Lines:
  """Rank recipes on a small test set by last and by averaged scores.

  Recipes are learning rates.  The truth for a seed is the mean over the other
  seeds of their last checkpoint's score on the other test images, so that it
  shares neither checkpoints nor images with what it judges.
  """
  splits, model, loss, score = images.problem(run)
  config = run.config
  recipes = np.linspace(config.rates[0], config.rates[1], config.recipes)
  start = text.starts(model, splits.train["x"], run.key, config.seeds)
  many = text.repeat(start, config.recipes)
  hyper = {"learning_rate": jnp.tile(jnp.asarray(recipes), config.seeds)}
  snapshots, _ = text.trajectory(
    run,
    loss,
    many,
    images.sgd,
    splits.train,
    key=run.key,
    part=config.fine,
    hyper=hyper,
  )
  small = jax.tree.map(lambda x: x[: config.small], splits.test)
  held = jax.tree.map(lambda x: x[config.small :], splits.test)
  shape = config.seeds, config.recipes, config.last
  kept = snapshots[-config.last :]
  few = np.stack([text.scores(score, s, small) for s in kept], 1).reshape(shape)
  final = text.scores(score, kept[-1], held).reshape(shape[:2])
  truth = _others(final)
  for name, count in (("last checkpoint", 1), ("averaged", config.last)):
    ranked = average.average_scores(few, count)
    decided = [average.decision_accuracy(*pair) for pair in zip(ranked, truth)]
    noise = _noise(ranked)
    yield from text.lines(
      name,
      {
        "decision accuracy (%)": 100 * np.array(decided),
        "noise (%)": 100 * noise,
        "signal to noise": average.signal(ranked) / noise,
      },
    )


def _others(scores: np.ndarray) -> np.ndarray:
  """Return the mean over the other seeds, of scores [S, recipes].

  >>> _others(np.array([[1.0], [2.0], [6.0]])).ravel().tolist()
  [4.0, 3.5, 1.5]
  """
  return (scores.sum(0) - scores) / (len(scores) - 1)


def _noise(scores: np.ndarray) -> np.ndarray:
  """Return how far recipes score from the other seeds' mean, [S].

  The root of the mean over recipes of the squared difference, relative to the
  mean: what a score changes by when a recipe is run again.
  """
  gap = scores / _others(scores) - 1
  return np.sqrt((gap**2).mean(1))


def zscl(run: runs.Run) -> text.Lines:
  """Fine-tune on a new domain; keep the old one by averaging along the way."""
  splits, model, loss, score = images.problem(run)
  config = run.config
  old, rest = images.halves(splits.train)
  new, away = images.shifted(run, rest), images.shifted(run, splits.test)
  start = text.starts(model, old["x"], run.key, config.seeds)
  (*_, base), _ = text.trajectory(
    run, loss, start, images.sgd(0.1), old, key=run.key, part=config.base
  )
  folds = {"average": average.weight_ensemble(config.period)}
  mesh = hosts.fitting(run.mesh, config.seeds)
  fitted = ws.train.fit_population(
    loss, base, images.sgd(config.rate), new,
    key=jax.random.fold_in(run.key, 1), epochs=config.fine.epochs,
    batch_size=config.fine.batch_size, folds=folds, mesh=mesh,
  )  # fmt: skip
  found = {
    "before": base,
    "fine-tuned": hosts.gathered(mesh, fitted.params),
    "weight ensemble": hosts.gathered(mesh, fitted.averages["average"]),
  }
  shown: dict[str, list[np.ndarray]] = {}
  for name, stack in found.items():
    tests = splits.test, away
    shown[name] = [100 * text.scores(score, stack, d) for d in tests]
    yield from _domains(name, *shown[name])
  end = found["fine-tuned"]
  way = [
    [100 * text.scores(score, _mixed(base, end, a), d) for d in tests]
    for a in ALPHAS
  ]
  reached = shown["weight ensemble"][1]
  yield from _domains(
    "WiSE-FT, as much of the new", _at(np.array(way), reached), reached
  )


def _domains(name: str, old: np.ndarray, new: np.ndarray) -> text.Lines:
  metrics = {"old domain (%)": old, "new domain (%)": new}
  yield from text.lines(name, metrics | {"mean of both (%)": (old + new) / 2})


def _mixed(a: Stack, b: Stack, alpha: float) -> Stack:
  return jax.tree.map(lambda x, y: (1 - alpha) * x + alpha * y, a, b)


def _at(way: np.ndarray, reached: np.ndarray) -> np.ndarray:
  """Return the old accuracy [S] of the first mix that has reached the new one.

  Args:
    way: [A, 2, S], old and new accuracy of the mixes from start to end.
    reached: [S], the new accuracy; where no mix has it, the last one counts.

  >>> way = np.array([[[9.0], [1.0]], [[7.0], [3.0]], [[2.0], [4.0]]])
  >>> _at(way, np.array([2.0])).tolist()
  [8.0]
  """
  rows = []
  for old, new, goal in zip(way[:, 0].T, way[:, 1].T, reached):
    place = int(np.argmax(new >= goal)) if (new >= goal).any() else len(new) - 1
    if place == 0 or new[place] == new[place - 1]:
      rows.append(old[place])
      continue
    share = np.clip(
      (goal - new[place - 1]) / (new[place] - new[place - 1]), 0, 1
    )
    rows.append((1 - share) * old[place - 1] + share * old[place])
  return np.array(rows)


STUDIES = {
  "free_lunch": free_lunch,
  "signal_noise": signal_noise,
  "zscl": zscl,
}
