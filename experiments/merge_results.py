"""What the multi-task bed measures: one line for each try, one for each choice.

A try is a method in one setting with one coefficient, and its line has the mean
accuracy over tasks on validation and on test images.  A choice is the untuned
try, or the one that validation images tune; its line has every task's.
Accuracies are in percent; `normalised` is over the task's own expert.

>>> normalised({"a": 45.0}, {"a": 90.0})
50.0
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import weightspace as ws
from experiments import merge_bed, merge_methods, runs
from experiments.merge_bed import BASE, Bed
from weightspace.types import Data, Params, Stack

TUNED, UNTUNED = "tuned", "untuned"
EXPERTS, START = "experts", "base"  # rows that are no merges
SPLITS = ("validation", "test")
Sets = dict[str, dict[str, Data]]  # {split: {task: data}}


def measure(bed: Bed, seed: int) -> None:
  """Log every method on the models of a seed, for each number of experts."""
  config = bed.run.config
  sets = {split: merge_bed.sets(bed, seed, split) for split in SPLITS}
  for count in config.counts:
    if not 1 <= count <= len(config.tasks):
      raise ValueError(
        f"counts: {count}, expected 1 to {len(config.tasks)} tasks"
      )
    base, experts = bed.seed(seed, count)
    tasks = list(config.tasks)[:count]
    single = _ends(bed, sets["test"], tasks, base, experts)
    for name, found in single.items():
      _log(bed, seed, count, name, UNTUNED, found, single[EXPERTS], tasks)
    for name, method in config.methods.items():
      tries = _tries(bed, seed, count, name, method, base, experts, sets, tasks)
      for choice, index in _choices(method, tries).items():
        chosen = tries[index]
        each = dict(zip((*tasks, BASE), chosen["test"].tolist()))
        more = {"coefficient": chosen["scale"], "runtime": chosen["runtime"]}
        more["chosen by"] = float(chosen["validation"][:-1].mean())
        _log(bed, seed, count, name, choice, each, single[EXPERTS], tasks, more)


def _tries(
  bed: Bed,
  seed: int,
  count: int,
  name: str,
  method: Any,
  base: Params,
  experts: Stack,
  sets: Sets,
  tasks: Sequence[str],
) -> list[dict[str, Any]]:
  """Return, and log, each setting and coefficient of a method."""
  config, found = bed.run.config, []
  choices = merge_methods.settings(method.get("options", {}))
  for place, setting in enumerate(choices):
    body, key = merge_bed.shared(base, config.head), bed.run.key
    stack = merge_bed.shared(experts, config.head)
    key = jax.random.fold_in(key, 2**23 + seed)
    if seed == 0:  # compiled before it is timed
      merge_methods.merge(method.recipe, setting, stack, body, key)
    merged, seconds = merge_methods.merge(
      method.recipe, setting, stack, body, key
    )
    grid = np.array([method.scale])
    if method.get("tuned", True):
      grid = merge_methods.scales(
        config.scales, config.budget // len(choices), method.scale
      )
    accuracy = {
      split: _along(bed, sets[split], tasks, (base, experts), merged, grid)
      for split in SPLITS
    }
    for row, scale in enumerate(grid.tolist()):
      tried = {split: accuracy[split][row] for split in SPLITS}
      bed.run.log(
        bed=bed.label,
        seed=seed,
        count=count,
        tried=name,
        setting=place,
        scale=f"{scale:.4g}",
        **{split: float(x[:-1].mean()) for split, x in tried.items()},
      )
      found.append(tried | {"scale": scale, "runtime": seconds})
  return found


def _along(
  bed: Bed,
  sets: dict[str, Data],
  tasks: Sequence[str],
  models: tuple[Params, Stack],
  merged: Params,
  grid: np.ndarray,
) -> np.ndarray:
  """Return accuracies [scales, tasks + 1] from the base through the merge."""
  base, experts = models
  weights = np.stack([1 - grid, grid], 1).astype(np.float32)
  body = merge_bed.shared(base, bed.run.config.head)
  columns = []
  for place, task in enumerate((*tasks, BASE)):
    owner = base if task == BASE else _member(experts, place)
    pair = ws.stack([merge_bed.with_head(b, owner) for b in (body, merged)])
    found = ws.merge.evaluate_mixes(pair, weights, bed.score, sets[task])
    columns.append(100 * np.asarray(found, np.float64))
  return np.stack(columns, 1)


def _ends(
  bed: Bed,
  sets: dict[str, Data],
  tasks: Sequence[str],
  base: Params,
  experts: Stack,
) -> dict[str, dict[str, float]]:
  """Return each task's accuracy by its own expert, and by the base."""
  body = merge_bed.shared(base, bed.run.config.head)
  found: dict[str, dict[str, float]] = {EXPERTS: {}, START: {}}
  for place, task in enumerate(tasks):
    expert = _member(experts, place)
    pair = ws.stack([expert, merge_bed.with_head(body, expert)])
    values = ws.merge.evaluate_mixes(pair, np.eye(2), bed.score, sets[task])
    found[EXPERTS][task], found[START][task] = 100 * np.asarray(values)
  alone = ws.merge.evaluate_mixes(
    ws.stack([base]), np.eye(1), bed.score, sets[BASE]
  )
  found[START][BASE] = 100 * float(alone[0])
  return found


def _member(experts: Stack, place: int) -> Params:
  return jax.tree.map(lambda x: x[place], experts)


def _choices(method: Any, tries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """Return which try is untuned, and which is best on validation images."""
  first = [place for place, t in enumerate(tries) if t["scale"] == method.scale]
  found = {UNTUNED: first[0]}
  if method.get("tuned", True):
    mean = [t["validation"][:-1].mean() for t in tries]
    found[TUNED] = int(np.argmax(mean))
  return found


def normalised(
  accuracy: Mapping[str, float], experts: Mapping[str, float]
) -> float:
  """Return the mean over tasks of accuracy over the expert's, in percent.

  An expert that is hardly ever right counts as right on one in a hundred.
  """
  shares = [accuracy[task] / max(experts[task], 1.0) for task in experts]
  return float(100 * np.mean(shares))


def _log(
  bed: Bed,
  seed: int,
  count: int,
  name: str,
  choice: str,
  found: Mapping[str, float],
  experts: Mapping[str, float],
  tasks: Sequence[str],
  more: Mapping[str, float] | None = None,
) -> None:
  bed.run.log(
    bed=bed.label,
    seed=seed,
    count=count,
    method=name,
    choice=choice,
    accuracy=float(np.mean([found[task] for task in tasks])),
    normalised=normalised(found, experts),
    **{f"on {task}": float(x) for task, x in found.items()},
    **(more or {}),
  )


def gather(run: runs.Run, name: str, **which: Any) -> np.ndarray:
  """Return [S, ...] of a number: its lines in order, seed by seed."""
  rows: dict[int, list[float]] = {}
  for line in run.lines.values():
    if name in line and all(line.get(k) == v for k, v in which.items()):
      rows.setdefault(line["seed"], []).append(line[name])
  return np.array([rows[seed] for seed in sorted(rows)])


def of(
  run: runs.Run, method: str, choice: str, name: str = "accuracy", **which: Any
) -> np.ndarray:
  """Return [S] of one number of a method; untuned where it has no coefficient.

  `count` and `bed` default to the last ones of the config.
  """
  config = run.config
  which.setdefault("bed", list(config.beds)[-1])
  which.setdefault("count", config.counts[-1])
  if not config.methods.get(method, {}).get("tuned", method in config.methods):
    choice = UNTUNED
  return gather(run, name, method=method, choice=choice, **which)[:, 0]


def ranked(run: runs.Run) -> list[str]:
  """Return the methods of a run, those with the best tuned accuracy first."""
  return sorted(
    run.config.methods, key=lambda name: -of(run, name, TUNED).mean()
  )
