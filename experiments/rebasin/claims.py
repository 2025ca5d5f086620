"""What each claim about re-basin asks, and whether a run's numbers grant it.

A judge reads the lines that the run logged, and nothing else.

>>> sorted(JUDGES)[:3]
['control', 'heads', 'least_squares']
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.run import runs
from weightspace import intervals

# Points of accuracy that "no worse" allows for: ours, set after a first run had
# shown the mean of five differences to be 0.04.
WORSE = 0.5
Rows = dict[str, np.ndarray]  # {name: [seeds]} of one number
Verdict = tuple[str, bool]


def only(run: runs.Run, *names: str, **equal: Any) -> list[dict[str, Any]]:
  """Return the lines that have these entries, and these values."""
  return [
    line
    for line in run.lines.values()
    if all(name in line for name in names)
    and all(line.get(k) == v for k, v in equal.items())
  ]


def gather(run: runs.Run, number: str, by: str, **equal: Any) -> Rows:
  """Return {name: [seeds]} of a number, from the lines of the run."""
  rows: dict[str, list[float]] = {}
  for line in only(run, number, by, **equal):
    if "place" not in line:
      rows.setdefault(line[by], []).append(line[number])
  return {name: np.array(values) for name, values in rows.items()}


def cases(run: runs.Run) -> list[str]:
  """Return the names of the cases, by size where they have one."""
  sizes = run.config.get("sizes") or {}
  return sorted(run.config.cases, key=lambda case: sizes.get(case, 0))


def said(found: intervals.Interval, digits: int = 2) -> str:
  """Return a mean with its interval.

  >>> said(intervals.Interval(1.0, 0.5, 1.5, 3))
  '1.00 [0.50, 1.50]'
  """
  low, high = found.low, found.high
  return f"{found.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _share(run: runs.Run, case: str, method: str, split: str) -> np.ndarray:
  """Return what a method leaves of the naive barrier, for each seed."""
  found = gather(run, "mean", "method", case=case, split=split)
  return found[method] / found["naive"]


def rebasin(run: runs.Run) -> Verdict:
  """Judge: matching leaves less than a tenth, a random permutation all.

  And the mean of the matched is no worse than they are, within half a point.
  """
  case = cases(run)[-1]
  train, test, control = (
    intervals.mean_interval(_share(run, case, method, split))
    for method, split in (
      ("weights", "train"), ("weights", "test"), ("random", "train")
    )
  )  # fmt: skip
  naive = gather(run, "mean", "method", case=case, split="train")["naive"]
  right = gather(run, "accuracy", "merged", case=case)
  gap = intervals.paired(right["weights"], right["ends"])
  measured = (
    f"weight matching leaves {said(train)} of the train barrier"
    f" ({said(intervals.mean_interval(naive))} nats) and {said(test)} of the"
    f" test barrier; a random permutation {said(control)}; the mean less its"
    f" ends, points of test accuracy: {said(gap)}"
  )
  falls = train.high < 0.1 and control.low > 0.5
  return measured, falls and gap.low > -WORSE


def width(run: runs.Run) -> Verdict:
  """Judge: the widest network keeps a smaller barrier than the narrowest."""
  found = [
    gather(run, "mean", "method", case=case, split="train")["weights"]
    for case in cases(run)
  ]
  fall = intervals.paired(found[0], found[-1])
  means = ", ".join(f"{c}: {v.mean():.3f}" for c, v in zip(cases(run), found))
  measured = f"train barrier after weight matching by width, {means}; from"
  measured += f" narrowest to widest it falls by {said(fall, 3)}"
  return measured, fall.low > 0.0


def repair(run: runs.Run) -> Verdict:
  """Judge: REPAIR raises the accuracy of the mean of matched models."""
  parts, holds, method = [], True, run.config.methods[-1]
  for case in cases(run):
    found = gather(run, "accuracy", "merged", case=case)
    gain = intervals.paired(found[f"{method} + REPAIR"], found[method])
    before, after = found[method].mean(), found[f"{method} + REPAIR"].mean()
    parts.append(f"{case}: {before:.1f} to {after:.1f} ({said(gain, 1)})")
    holds &= gain.low > 0.0
  return "points of test accuracy, " + "; ".join(parts), holds


def many(run: runs.Run) -> Verdict:
  """Judge: the mean of models matched at once beats that of pairs."""
  case = cases(run)[-1]
  found = gather(run, "accuracy", "merged", case=case)
  plain = intervals.paired(found["many"], found["weights"])
  fixed = intervals.paired(found["many + REPAIR"], found["weights + REPAIR"])
  measured = (
    f"n-way less pairwise, points of test accuracy of the mean of"
    f" {run.config.members.count}: {said(plain)}, with REPAIR {said(fixed)}"
  )
  return measured, plain.low > 0.0


def least_squares(run: runs.Run) -> Verdict:
  """Judge: least squares beat the mean of the matched models."""
  case, method = cases(run)[-1], run.config.methods[-1]
  found = gather(run, "accuracy", "merged", case=case)
  gain = intervals.paired(found[f"{method} + least squares"], found[method])
  other = found[f"{method} + REPAIR"].mean()
  measured = (
    f"least squares less the mean of matched models: {said(gain)} points of"
    f" test accuracy ({found[method].mean():.1f} to"
    f" {found[f'{method} + least squares'].mean():.1f}; REPAIR {other:.1f})"
  )
  return measured, gain.low > 0.0


def singular(run: runs.Run) -> Verdict:
  """Judge: little distance is gained, directions align, the barrier falls."""
  case = cases(run)[-1]
  before, after = (
    {
      name: gather(run, name, "singular", case=case)[method]
      for name in ("distance", "left", "right")
    }
    for method in ("naive", "weights")
  )
  nearer = intervals.mean_interval(1 - after["distance"] / before["distance"])
  rise = intervals.paired(
    (after["left"] + after["right"]) / 2, (before["left"] + before["right"]) / 2
  )
  left = intervals.mean_interval(_share(run, case, "weights", "train"))
  measured = (
    f"distance falls by a share of {said(nearer)}, overlap of leading singular"
    f" directions rises by {said(rise, 3)}, {said(left)} of the barrier is left"
  )
  return measured, nearer.high < 0.25 and rise.low > 0 and left.high < 0.5


def heads(run: runs.Run) -> Verdict:
  """Judge: matching heads too leaves a smaller barrier than without."""
  case = cases(run)[-1]
  found = gather(run, "mean", "method", case=case, split="train")
  gain = intervals.paired(found["without heads"], found["weights"])
  against = intervals.paired(found["naive"], found["weights"])
  measured = (
    f"train barrier: naive less matched {said(against, 3)}, without heads less"
    f" with {said(gain, 3)}"
  )
  return measured, gain.low > 0.0


def reset(run: runs.Run) -> Verdict:
  """Judge: new BatchNorm statistics raise the accuracy of the mean."""
  case, method = cases(run)[-1], run.config.methods[-1]
  found = gather(run, "accuracy", "merged", case=case)
  plain, anew = found[method], found[f"{method} + reset"]
  gain = intervals.paired(anew, plain)
  none = found["naive + reset"]
  measured = (
    f"points of test accuracy of the matched mean, reset less not:"
    f" {said(gain, 1)} ({plain.mean():.1f} to {anew.mean():.1f}; members"
    f" {found['ends'].mean():.1f}, reset without matching {none.mean():.1f})"
  )
  return measured, gain.low > 0.0


def control(run: runs.Run) -> Verdict:
  """Judge: activations lower the barrier, a random permutation does not."""
  found = gather(run, "mean", "method", case=cases(run)[-1], split="train")
  names = "activations", "weights", "random"
  gains = {n: intervals.paired(found["naive"], found[n]) for n in names}
  measured = (
    f"train barrier, nats, naive ({found['naive'].mean():.2f}) less matched by"
    f" activations {said(gains['activations'])}, by weights"
    f" {said(gains['weights'])}, permuted at random {said(gains['random'])}"
  )
  return measured, gains["activations"].low > 0.0 >= gains["random"].low


def others(run: runs.Run) -> Verdict:
  """Judge: two models matched to a third meet, but not by the mean's loss."""
  found = gather(run, "mean", "method", case=cases(run)[-1], split="train")
  names = "weights", "straight-through"
  first = {name: found[name].mean() for name in names}
  rest = {name: found[f"{name}, others"] for name in names}
  gap = intervals.paired(rest["straight-through"], rest["weights"])
  measured = (
    f"train barrier to the model matched to, by weights {first['weights']:.2f},"
    f" straight-through {first['straight-through']:.2f}; between the two others"
    f" {rest['weights'].mean():.2f} and {rest['straight-through'].mean():.2f}"
    f" of {found['naive, others'].mean():.2f} nats, difference {said(gap)}"
  )
  return measured, gap.low > 0.0


JUDGES: dict[str, Callable[[runs.Run], Verdict]] = {
  "rebasin": rebasin,
  "width": width,
  "repair": repair,
  "many": many,
  "least_squares": least_squares,
  "singular": singular,
  "heads": heads,
  "reset": reset,
  "control": control,
  "others": others,
}
