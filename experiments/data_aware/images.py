"""Studies of data-aware merges on the multi-task bed of images.

Every method is a direction from the base with a coefficient along it; all have
the same number of coefficients to choose from on validation images.  Methods
that learn their coefficients have none to choose.

>>> sorted(STUDIES)
['few shot', 'methods']
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import task_vectors, text
from experiments.bench.tasks import draw
from experiments.merge.methods import scales
from experiments.run import progress, runs
from weightspace import losses
from weightspace.types import Data, Params, Stack


class Case(NamedTuple):
  """The models of one seed, and their data by task."""

  bed: task_vectors.Bed
  base: Params
  experts: Stack  # [T, ...]
  seen: list[Data]  # training examples for statistics, of each task
  validation: list[Data]
  test: list[Data]


def cases(run: runs.Run) -> Iterator[tuple[int, Case]]:
  """Train the bed, and yield each seed with its case."""
  bed = task_vectors.build(run, next(iter(run.config.beds)))
  tasks = bed.run.config.tasks
  with progress.bar("measured", run.config.seeds) as advance:
    for seed in range(run.config.seeds):
      key = jax.random.fold_in(jax.random.fold_in(run.key, 2**24), seed)
      seen = [
        draw(
          bed.run, task, "train", jax.random.fold_in(key, i), run.config.seen
        )
        for i, task in enumerate(tasks.values())
      ]
      splits = [
        [task_vectors.sets(bed, seed, split)[name] for name in tasks]
        for split in ("validation", "test")
      ]
      yield seed, Case(bed, *bed.seed(seed, len(tasks)), seen, *splits)
      advance(seed + 1)


def accuracies(
  case: Case, models: list[Params], weights: Any, sets: list[Data]
) -> np.ndarray:
  """Return accuracies [mixes, tasks] of mixes of models, in percent."""
  stack, score = ws.stack(models), case.bed.score
  rows = jnp.asarray(weights, float)
  found = [
    ws.merge.evaluate_mixes(stack, rows, score, data, mesh=case.bed.run.mesh)
    for data in sets
  ]
  return 100 * np.stack([np.asarray(x, np.float64) for x in found], 1)


def measured(
  case: Case, tries: list[Params], scale: float, tuned: bool = True
) -> dict[str, float]:
  """Return accuracy tuned and untuned; the first try is the untuned one.

  Args:
    case: of a seed.
    tries: what the method makes in each of its settings.
    scale: its own coefficient, from the base towards what it makes.
    tuned: whether coefficients are chosen; else there is the one.
  """
  config, best = case.bed.run.config, (-np.inf, 0.0)
  untuned = 0.0
  for place, merged in enumerate(tries):
    grid = np.array([scale])
    if tuned:
      count = config.budget // len(tries)
      grid = scales(config.scales, count, scale)
    pair, rows = [case.base, merged], np.stack([1 - grid, grid], 1)
    chosen = accuracies(case, pair, rows, case.validation).mean(1)
    shown = accuracies(case, pair, rows, case.test).mean(1)
    own = int(np.argmin(abs(grid - scale)))
    untuned = shown[own] if not place else untuned
    top = int(chosen.argmax())
    best = max(best, (float(chosen[top]), float(shown[top])))
  return {
    "tuned (%)": best[1],
    "untuned (%)": float(untuned),
    "on validation (%)": best[0],
  }


def statistics(case: Case) -> tuple[list[Params], list[Params]]:
  """Return the Fisher and the Gram matrices of every expert on its own task."""
  apply = case.bed.model.apply
  models = ws.unstack(case.experts)
  pairs = list(zip(models, case.seen))
  fishers = [ws.statistics.fisher(apply, m, d["x"]) for m, d in pairs]
  grams = [ws.statistics.gram(apply, m, d["x"]) for m, d in pairs]
  return fishers, grams


def methods(run: runs.Run) -> text.Lines:
  """Compare merges with and without data, tuned alike."""
  last = {
    line["seed"] for line in run.lines.values() if line.get("method") == "base"
  }
  for seed, case in cases(run):
    if seed in last:  # a resumed run goes on behind its last seed
      continue
    for name, tries, scale, tuned in _merges(case):
      line = measured(case, tries, scale, tuned)
      yield {"seed": seed, "method": name} | line
    models = ws.unstack(case.experts)
    ends = accuracies(case, models, np.eye(len(models)), case.test)
    yield _end(seed, "experts", float(np.diagonal(ends).mean()))
    alone = accuracies(case, [case.base], np.eye(1), case.test)
    yield _end(seed, "base", float(alone.mean()))


def _merges(case: Case) -> Iterator[tuple[str, list[Params], float, bool]]:
  """Yield each method: its tries, its own scale, whether it is tuned."""
  fishers, grams = statistics(case)
  stack, base, merge = case.experts, case.base, ws.merge
  apply, inputs = case.bed.model.apply, [d["x"] for d in case.seen]
  shares = (1.0, 0.9)
  yield "average", [merge.uniform()(stack)], 1.0, True
  added = merge.task_arithmetic(1.0)(stack, base=base)
  yield "task arithmetic", [added], 0.3, True
  found = [
    merge.fisher(normalize=way)(stack, fisher=fishers) for way in (True, False)
  ]
  yield "Fisher", found, 1.0, True
  found = [merge.regmean(share)(stack, gram=grams) for share in shares]
  yield "RegMean", found, 1.0, True
  found = [merge.regmean_pp(stack, apply, inputs, share) for share in shares]
  yield "RegMean++", found, 1.0, True
  for by in case.bed.run.config.get("learned", ()):
    yield f"AdaMerging, by {by}", [_adamerging(case, by)], 1.0, False
    yield f"aTLAS, by {by}", [_atlas(case, by)], 1.0, False


def _end(seed: int, name: str, value: float) -> dict[str, Any]:
  said = {"tuned (%)": value, "untuned (%)": value}
  return {"seed": seed, "method": name} | said


def _adamerging(case: Case, by: str) -> Params:
  config = case.bed.run.config
  found = ws.merge.adamerging(
    case.experts,
    case.bed.model.apply,
    [d["x"] for d in case.validation],
    base=case.base,
    by=by,
    steps=config.adamerging.steps,
    learning_rate=config.adamerging.rate,
  )
  return found.params


def _atlas(case: Case, by: str) -> Params:
  config = case.bed.run.config
  found = ws.merge.atlas(
    case.experts,
    case.bed.model.apply,
    case.validation,
    base=case.base,
    by=by,
    epochs=config.epochs,
    learning_rate=config.rate,
  )
  return found.params


def few_shot(run: runs.Run) -> text.Lines:
  """Learn a task that no expert has seen from a few examples of each class."""
  config = run.config
  for seed, case in cases(run):
    others = jax.tree.map(lambda x: x[1:], case.experts)  # the first is new
    few = _few(case.seen[0], config.shots)
    settings = {"epochs": config.epochs, "learning_rate": config.rate}
    found = {"base": case.base}
    for by in ("task", "leaf"):
      made = ws.merge.atlas(
        others, case.bed.model.apply, few, base=case.base, by=by, **settings
      )
      found[f"aTLAS, by {by}"] = made.params
    made = ws.merge.atlas(
      others, case.bed.model.apply, few, base=case.base, parts=config.parts,
      **settings,
    )  # fmt: skip
    found[f"aTLAS x {config.parts}"] = made.params
    loss = losses.of(case.bed.model.apply, losses.cross_entropy)
    for name, params in found.items():
      shown = accuracies(case, [params], np.eye(1), case.test[:1])
      fit = -float(loss(params, few).mean())
      yield {
        "seed": seed,
        "method": name,
        "new task (%)": float(shown[0, 0]),
        "log-likelihood of the few": fit,
      }


def _few(data: Data, shots: int) -> Data:
  """Return the first `shots` examples of every class."""
  labels = np.asarray(data["y"])
  places = [np.flatnonzero(labels == c)[:shots] for c in np.unique(labels)]
  kept = np.sort(np.concatenate(places))
  return jax.tree.map(lambda x: jnp.asarray(x)[kept], data)


STUDIES = {"methods": methods, "few shot": few_shot}
