"""What the multi-task bed measures: one line for each try, one for each choice.

A try is a method in one setting with one coefficient, and its line has the mean
accuracy over tasks on validation and on test images.  A choice is the untuned
try, or the one that validation images tune; its line has every task's.
Accuracies are in percent; `normalised` is over the task's own expert.

>>> normalised({"a": 45.0}, {"a": 90.0})
50.0
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import weightspace as ws
from experiments.bench import task_vectors
from experiments.bench.task_vectors import BASE, Bed
from experiments.merge import methods
from experiments.run import runs
from experiments.run.claims import gather
from weightspace.types import Data, Params, Stack

TUNED, UNTUNED = "tuned", "untuned"
EXPERTS, START = "experts", "base"  # rows that are no merges
SPLITS = ("validation", "test")


class Case(NamedTuple):
  """The models of one seed that are merged, and what they are tested on."""

  bed: Bed
  seed: int
  base: Params
  experts: Stack  # [count, ...]
  tasks: tuple[str, ...]
  sets: dict[str, dict[str, Data]]  # {split: {task: data}}

  def log(self, **numbers: Any) -> None:
    """Log a line of this case."""
    said = {"bed": self.bed.label, "seed": self.seed, "count": len(self.tasks)}
    self.bed.run.log(**said, **numbers)


def measure(bed: Bed, seed: int) -> None:
  """Log every method on the models of a seed, for each number of experts.

  Raises:
    ValueError: for a number of experts that is none of the tasks'.
  """
  config = bed.run.config
  sets = {split: task_vectors.sets(bed, seed, split) for split in SPLITS}
  for count in config.counts:
    if not 1 <= count <= len(config.tasks):
      raise ValueError(
        f"counts: {count}, expected 1 to {len(config.tasks)} tasks"
      )
    tasks = tuple(config.tasks)[:count]
    case = Case(bed, seed, *bed.seed(seed, count), tasks, sets)
    single = _ends(case)
    for name, found in single.items():
      _log(case, name, UNTUNED, found, single[EXPERTS])
    for name, method in config.methods.items():
      tries = _tries(case, name, method)
      for choice, index in _choices(method, tries).items():
        chosen = tries[index]
        each = dict(zip((*tasks, BASE), chosen["test"].tolist()))
        more = {
          "coefficient": chosen["scale"],
          "runtime": chosen["runtime"],
          "chosen by": float(chosen["validation"][:-1].mean()),
        }
        _log(case, name, choice, each, single[EXPERTS], more=more)


def _tries(case: Case, name: str, method: Any) -> list[dict[str, Any]]:
  """Return, and log, each setting and coefficient of a method."""
  config, found = case.bed.run.config, []
  body = task_vectors.shared(case.base, config.head)
  stack = task_vectors.shared(case.experts, config.head)
  key = jax.random.fold_in(case.bed.run.key, 2**23 + case.seed)
  choices = methods.settings(method.get("options", {}))
  for place, setting in enumerate(choices):
    given = method.recipe, setting, stack, body, key
    if case.seed == 0:  # compiled before it is timed
      methods.merge(*given)
    merged, seconds = methods.merge(*given)
    grid = np.array([method.scale])
    if method.get("tuned", True):
      budget = config.budget // len(choices)
      grid = methods.scales(config.scales, budget, method.scale)
    accuracy = {split: _along(case, split, merged, grid) for split in SPLITS}
    for row, scale in enumerate(grid.tolist()):
      tried = {split: accuracy[split][row] for split in SPLITS}
      means = {split: float(x[:-1].mean()) for split, x in tried.items()}
      case.log(tried=name, setting=place, scale=f"{scale:.4g}", **means)
      found.append(tried | {"scale": scale, "runtime": seconds})
  return found


def _along(
  case: Case, split: str, merged: Params, grid: np.ndarray
) -> np.ndarray:
  """Return accuracies [scales, tasks + 1] from the base through the merge."""
  weights = np.stack([1 - grid, grid], 1).astype(np.float32)
  body = task_vectors.shared(case.base, case.bed.run.config.head)
  columns = []
  for place, task in enumerate((*case.tasks, BASE)):
    owner = case.base if task == BASE else _member(case.experts, place)
    pair = [task_vectors.with_head(part, owner) for part in (body, merged)]
    columns.append(_scored(case, split, task, pair, weights))
  return np.stack(columns, 1)


def _scored(
  case: Case, split: str, task: str, models: list[Params], weights: Any
) -> np.ndarray:
  """Return the accuracy of mixes of models on a task, in percent."""
  bed, data = case.bed, case.sets[split][task]
  found = ws.merge.evaluate_mixes(
    ws.stack(models), weights, bed.score, data, mesh=bed.run.mesh
  )
  return 100 * np.asarray(found, np.float64)


def _ends(case: Case) -> dict[str, dict[str, float]]:
  """Return each task's accuracy by its own expert, and by the base."""
  body = task_vectors.shared(case.base, case.bed.run.config.head)
  found: dict[str, dict[str, float]] = {EXPERTS: {}, START: {}}
  for place, task in enumerate(case.tasks):
    expert = _member(case.experts, place)
    pair = [expert, task_vectors.with_head(body, expert)]
    values = _scored(case, "test", task, pair, np.eye(2))
    found[EXPERTS][task], found[START][task] = values.tolist()
  alone = _scored(case, "test", BASE, [case.base], np.eye(1))
  found[START][BASE] = float(alone[0])
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
  case: Case,
  name: str,
  choice: str,
  found: Mapping[str, float],
  experts: Mapping[str, float],
  *,
  more: Mapping[str, float] | None = None,
) -> None:
  case.log(
    method=name,
    choice=choice,
    accuracy=float(np.mean([found[task] for task in case.tasks])),
    normalised=normalised(found, experts),
    **{f"on {task}": float(x) for task, x in found.items()},
    **(more or {}),
  )


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
