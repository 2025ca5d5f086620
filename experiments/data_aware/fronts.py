"""A front of two tasks: MAP's, from few evaluations, beside a dense grid's.

>>> sorted(STUDIES)
['front']
"""

from typing import Any

import jax
import numpy as np

import weightspace as ws
from experiments.bench import text
from experiments.data_aware import images
from experiments.run import runs
from weightspace.search import pareto_fronts


def front(run: runs.Run) -> text.Lines:
  """Compare MAP's front from few evaluations with that of a dense grid."""
  for seed, case in images.cases(run):
    stack, base, score = case.experts, case.base, case.bed.score
    models = [*ws.unstack(stack), base]
    side = np.linspace(0.0, 1.0, run.config.grid)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)

    def values(
      weights: np.ndarray,
      sets: Any,
      case: Any = case,
      m: Any = models,
    ) -> Any:
      rows = np.concatenate([weights, 1 - weights.sum(1, keepdims=True)], 1)
      return images.accuracies(case, m, rows, sets)

    dense, shown = values(grid, case.validation), values(grid, case.test)
    none = np.zeros((1, 2))
    floor, below = values(none, case.validation)[0], values(none, case.test)[0]
    whole = pareto_fronts.hypervolume(dense, floor)
    tested = pareto_fronts.hypervolume(
      shown[pareto_fronts.on_front(dense)], below
    )
    yield _volumes(seed, f"grid, {len(grid)}", 100.0, 100.0)
    for budget in run.config.budgets:
      key = jax.random.fold_in(run.key, 100 * seed + budget)
      made = ws.merge.pareto_front(
        stack, score, case.validation, key, base=base, budget=budget,
        points=run.config.points, link="sigmoid",
      )  # fmt: skip
      random = np.random.default_rng(seed)
      drawn = random.uniform(0, 1, (made.evaluations, 2))
      rows = values(drawn, case.validation)
      for name, weights, volume in (
        ("MAP", made.weights, 100 * made.values),
        ("random", drawn[pareto_fronts.on_front(rows)], rows),
      ):
        own = 100 * pareto_fronts.hypervolume(volume, floor) / whole
        found = pareto_fronts.hypervolume(values(weights, case.test), below)
        label = f"{name}, {made.evaluations}"
        line = _volumes(seed, label, own, 100 * found / tested)
        fit = {"least R2": explained(made, grid, dense)}
        yield line | (fit if name == "MAP" else {})


def explained(
  made: ws.merge.Front, grid: np.ndarray, dense: np.ndarray
) -> float:
  """Return the least R2 over tasks of the surrogates, over the whole grid.

  Args:
    made: a front, with its surrogates of scores from 0 to 1.
    grid: [N, D], the mixes.
    dense: [N, T], what they score, in percent.
  """
  shares = []
  for surrogate, values in zip(made.surrogates, dense.T):
    wrong = 100 * surrogate(grid) - values
    shares.append(1 - np.sum(wrong**2) / np.sum((values - values.mean()) ** 2))
  return float(min(shares))


def _volumes(seed: int, name: str, own: float, tested: float) -> dict[str, Any]:
  return {
    "seed": seed,
    "method": name,
    "hypervolume over the grid's (%)": own,
    "on test (%)": tested,
  }


STUDIES = {"front": front}
