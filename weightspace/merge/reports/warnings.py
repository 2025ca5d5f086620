"""Numbers of one leaf on its way through a recipe, that add up over leaves.

>>> came = np.array([[1.0, 2.0], [3.0, -4.0]])
>>> found = leaf((steps.mean,), [came, came.mean(0)], None)
>>> row(found)["conflict"]
0.5
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from weightspace.merge.core import steps

Stages = Sequence[Any]  # a leaf as it came and as it left each step


class Sums(NamedTuple):
  """Sums over the entries of a leaf; those of several leaves add up."""

  changed: Any  # [M], entries of each task vector that are not zero
  kept: Any  # [M], of those, entries that reach the reduction
  energy: Any  # [M], squares of the kept ones, as they came
  gram: Any  # [M, M], inner products of task vectors
  contested: Any  # entries that two models or more bring to the reduction
  conflict: Any  # of those, entries with both signs
  cancels: Any  # of those, entries that add up to zero
  merged: Any  # |merged - base|^2; NaN where a Stack comes back
  along: Any  # <merged - base, sum of task vectors>


def until_reduction(chained: Sequence[steps.Step]) -> int:
  """Return how many steps come before the one that reduces."""
  reducing = [i for i, step in enumerate(chained) if step.reduces]
  return reducing[0] if reducing else len(chained)


def leaf(chained: Sequence[steps.Step], stages: Stages, base: Any) -> Sums:
  """Return the sums of one leaf."""
  end = until_reduction(chained)
  x, reached, merged = (np.asarray(stages[i], np.float64) for i in (0, end, -1))
  start = (
    np.zeros(x.shape[1:]) if base is None else np.asarray(base, np.float64)
  )
  kinds = [step.kind for step in chained[:end]]
  if kinds.count("minus_base") == kinds.count("plus_base"):
    reached = reached - start
  came, apart = (x - start).reshape(len(x), -1), (merged - start).reshape(-1)
  reached = reached.reshape(len(x), -1)
  changed, there = came != 0, reached != 0
  contested = there.sum(0) > 1
  opposite = contested & (reached > 0).any(0) & (reached < 0).any(0)
  reduces = end < len(chained)
  return Sums(
    changed.sum(1),
    (changed & there).sum(1),
    (came**2 * there).sum(1),
    came @ came.T,
    contested.sum(),
    opposite.sum(),
    (contested & (reached.sum(0) == 0)).sum(),
    apart @ apart if reduces else np.nan,
    apart @ came.sum(0) if reduces else np.nan,
  )


def row(sums: Sums) -> dict[str, Any]:
  """Return what a report says of a leaf, or of all of them."""
  squares = np.diag(sums.gram)
  sizes = np.sqrt(np.outer(squares, squares))
  with np.errstate(invalid="ignore", divide="ignore"):
    cosines = np.where(sizes > 0, sums.gram / sizes, np.nan)
    numbers = {
      "kept": _mean_share(sums.kept, sums.changed),
      "energy": _mean_share(sums.energy, squares),
      "conflict": sums.conflict / max(sums.contested, 1),
      "sign_ties": sums.cancels / max(sums.contested, 1),
      "cosine": _mean_of_pairs(cosines),
      "norm_before": np.mean(np.sqrt(squares)),
      "norm_after": np.sqrt(sums.merged),
      "scale": np.divide(sums.along, sums.gram.sum()),
    }
  plain: dict[str, Any] = {name: float(x) for name, x in numbers.items()}
  plain["norms"] = np.sqrt(squares).tolist()
  plain["cosines"] = cosines.tolist()
  return plain


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float:
  """Return the mean of part / whole over the models that changed at all."""
  moved = whole > 0
  return np.mean(part[moved] / whole[moved]) if moved.any() else float("nan")


def _mean_of_pairs(cosines: np.ndarray) -> float:
  pairs = cosines[np.triu_indices(len(cosines), 1)]
  return float(pairs.mean()) if len(pairs) else float("nan")


class Cut(NamedTuple):
  """What one step took away from one leaf, by model: [M] each."""

  changes: bool  # whether the step does anything here
  dropped: np.ndarray  # largest magnitude that became zero; 0 without
  least: np.ndarray  # smallest one that stayed; infinite without
  equal: np.ndarray  # how many entries have that magnitude
  entries: int


def cuts(chained: Sequence[steps.Step], stages: Stages) -> dict[str, Cut]:
  """Return what each step before the reduction does to one leaf, by name."""
  found = {}
  for index, step in enumerate(chained[: until_reduction(chained)]):
    if step.kind in ("neutral", "minus_base", "plus_base"):
      continue
    before, after = (np.asarray(stages[i]) for i in (index, index + 1))
    if before.shape == after.shape:
      found[step.name] = _cut(before, after)
  return found


def _cut(before: np.ndarray, after: np.ndarray) -> Cut:
  x, y = before.reshape(len(before), -1), after.reshape(len(after), -1)
  size = np.abs(x)
  dropped = np.where((y == 0) & (size > 0), size, 0).max(1, initial=0)
  least = np.where(y != 0, size, np.inf).min(1, initial=np.inf)
  equal = (size == least[:, None]).sum(1)
  return Cut(not np.array_equal(x, y), dropped, least, equal, x.shape[1])


def tie_share(leaves: Sequence[Cut]) -> float:
  """Return the share of entries at a threshold beyond the one that sets it.

  The step cuts by magnitude when no model drops more than it keeps, over the
  tree or in each leaf; NaN when it does not.

  >>> x = np.array([[3.0, -1.0, 1.0, 0.5]])
  >>> tie_share([_cut(x, np.where(abs(x) >= 1, x, 0))])
  0.25
  """
  entries = sum(cut.entries for cut in leaves)
  dropped, least, equal = (
    np.stack(column) for column in list(zip(*leaves))[1:4]
  )
  if not (dropped > 0).any():
    return float("nan")
  lowest = least.min(0)
  if (dropped.max(0) <= lowest).all():
    extra = np.where(least == lowest, equal, 0).sum(0) - 1
  elif (dropped <= least).all():
    extra = np.where(np.isfinite(least), equal - 1, 0).sum(0)
  else:
    return float("nan")
  return float(np.maximum(extra, 0).mean() / entries)
