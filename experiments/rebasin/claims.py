"""What each claim about re-basin asks, and whether a run's numbers grant it.

A judge reads the lines that the run logged, and nothing else.

>>> sorted(CLAIMS)[:3]
['control', 'heads', 'least_squares']
"""

from typing import Any

import numpy as np

from experiments.rebasin import figures
from experiments.rebasin.results import cases
from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  rows,
  said,
  within,
)

# Points of accuracy that "no worse" allows for: ours, set after a first run had
# shown the mean of five differences to be 0.04.
WORSE = 0.5
Finding = tuple[str, Verdict]


def plain(values: Any, digits: int = 2) -> str:
  """Return a mean over seeds with its interval, without a plus.

  >>> plain([1.0, 1.0])
  '1.00 [1.00, 1.00]'
  """
  return said(values, "", digits, signed=False)


def _share(run: runs.Run, case: str, method: str, split: str) -> np.ndarray:
  """Return what a method leaves of the naive barrier, for each seed."""
  found = rows(run, "mean", "method", case=case, split=split)
  return found[method] / found["naive"]


def rebasin(run: runs.Run) -> Finding:
  """Judge: matching leaves less than a tenth, a random permutation all.

  And the mean of the matched is no worse than they are, within half a point.
  """
  case = cases(run)[-1]
  train, test, control = (
    _share(run, case, method, split)
    for method, split in (
      ("weights", "train"), ("weights", "test"), ("random", "train")
    )
  )  # fmt: skip
  naive = rows(run, "mean", "method", case=case, split="train")["naive"]
  right = rows(run, "accuracy", "merged", case=case)
  gap = right["weights"] - right["ends"]
  measured = (
    f"weight matching leaves {plain(train)} of the train barrier"
    f" ({plain(naive)} nats) and {plain(test)} of the test barrier; a random"
    f" permutation {plain(control)}; the mean less its ends, points of test"
    f" accuracy: {plain(gap)}"
  )
  falls = below(train, 0.1), above(control, 0.5)
  return measured, every(*falls, above(gap, -WORSE))


def width(run: runs.Run) -> Finding:
  """Judge: the widest network keeps a smaller barrier than the narrowest."""
  found = [
    rows(run, "mean", "method", case=case, split="train")["weights"]
    for case in cases(run)
  ]
  fall = found[0] - found[-1]
  means = ", ".join(f"{c}: {v.mean():.3f}" for c, v in zip(cases(run), found))
  measured = f"train barrier after weight matching by width, {means}; from"
  measured += f" narrowest to widest it falls by {plain(fall, 3)}"
  return measured, above(fall)


def repair(run: runs.Run) -> Finding:
  """Judge: REPAIR raises the accuracy of the mean of matched models."""
  parts, gains, method = [], [], run.config.methods[-1]
  for case in cases(run):
    found = rows(run, "accuracy", "merged", case=case)
    gains.append(found[f"{method} + REPAIR"] - found[method])
    before, after = found[method].mean(), found[f"{method} + REPAIR"].mean()
    parts.append(f"{case}: {before:.1f} to {after:.1f} ({plain(gains[-1], 1)})")
  text = "points of test accuracy, " + "; ".join(parts)
  return text, every(*map(above, gains))


def many(run: runs.Run) -> Finding:
  """Judge: models matched at once beat pairs, and MergeMany."""
  case = cases(run)[-1]
  found = rows(run, "accuracy", "merged", case=case)
  gain = found["many"] - found["weights"]
  fixed = found["many + REPAIR"] - found["weights + REPAIR"]
  rival = found["many"] - found["MergeMany"]
  measured = (
    f"n-way less pairwise, points of test accuracy of the mean of"
    f" {run.config.members.count}: {plain(gain)}, with REPAIR {plain(fixed)};"
    f" less MergeMany {plain(rival)}"
  )
  return measured, every(above(gain), above(rival))


def least_squares(run: runs.Run) -> Finding:
  """Judge: least squares beat the mean of the matched models."""
  case, method = cases(run)[-1], run.config.methods[-1]
  found = rows(run, "accuracy", "merged", case=case)
  gain = found[f"{method} + least squares"] - found[method]
  other = found[f"{method} + REPAIR"].mean()
  measured = (
    f"least squares less the mean of matched models: {plain(gain)} points of"
    f" test accuracy ({found[method].mean():.1f} to"
    f" {found[f'{method} + least squares'].mean():.1f}; REPAIR {other:.1f})"
  )
  return measured, above(gain)


def singular(run: runs.Run) -> Finding:
  """Judge: little distance is gained, directions align, the barrier falls."""
  case = cases(run)[-1]
  before, after = (
    {
      name: rows(run, name, "singular", case=case)[method]
      for name in ("distance", "left", "right")
    }
    for method in ("naive", "weights")
  )
  nearer = 1 - after["distance"] / before["distance"]
  overlap = [(x["left"] + x["right"]) / 2 for x in (before, after)]
  rise = overlap[1] - overlap[0]
  left = _share(run, case, "weights", "train")
  measured = (
    f"distance falls by a share of {plain(nearer)}, overlap of leading singular"
    f" directions rises by {plain(rise, 3)}, {plain(left)} of the barrier is"
    " left"
  )
  return measured, every(below(nearer, 0.25), above(rise), below(left, 0.5))


def heads(run: runs.Run) -> Finding:
  """Judge: matching heads too leaves a smaller barrier than without."""
  case = cases(run)[-1]
  found = rows(run, "mean", "method", case=case, split="train")
  gain = found["activations, without heads"] - found["activations"]
  against = found["naive"] - found["activations"]
  measured = (
    f"train barrier, matched by activations: naive less matched"
    f" {plain(against, 3)}, without heads less with {plain(gain, 3)}"
  )
  return measured, above(gain)


def reset(run: runs.Run) -> Finding:
  """Judge: new BatchNorm statistics raise the accuracy of the mean."""
  case, method = cases(run)[-1], run.config.methods[-1]
  found = rows(run, "accuracy", "merged", case=case)
  before, anew = found[method], found[f"{method} + reset"]
  gain = anew - before
  none = found["naive + reset"]
  measured = (
    f"points of test accuracy of the matched mean, reset less not:"
    f" {plain(gain, 1)} ({before.mean():.1f} to {anew.mean():.1f}; members"
    f" {found['ends'].mean():.1f}, reset without matching {none.mean():.1f})"
  )
  return measured, above(gain)


def control(run: runs.Run) -> Finding:
  """Judge: activations lower the barrier, a random permutation does nothing."""
  found = rows(run, "mean", "method", case=cases(run)[-1], split="train")
  names = "activations", "weights", "random"
  gains = {n: found["naive"] - found[n] for n in names}
  measured = (
    f"train barrier, nats, naive ({found['naive'].mean():.2f}) less matched by"
    f" activations {plain(gains['activations'])}, by weights"
    f" {plain(gains['weights'])}, permuted at random {plain(gains['random'])}"
  )
  none = within(gains["random"] / found["naive"], -0.1, 0.1)
  return measured, every(above(gains["activations"]), none)


def others(run: runs.Run) -> Finding:
  """Judge: two models matched to a third meet, but not by the mean's loss."""
  found = rows(run, "mean", "method", case=cases(run)[-1], split="train")
  names = "weights", "straight-through"
  first = {name: found[name].mean() for name in names}
  rest = {name: found[f"{name}, others"] for name in names}
  gap = rest["straight-through"] - rest["weights"]
  measured = (
    f"train barrier to the model matched to, by weights {first['weights']:.2f},"
    f" straight-through {first['straight-through']:.2f}; between the two others"
    f" {rest['weights'].mean():.2f} and {rest['straight-through'].mean():.2f}"
    f" of {found['naive, others'].mean():.2f} nats, difference {plain(gap)}"
  )
  return measured, above(gap)


CAPTION = (
  "Left: test loss on the line between the first two models of the last case,"
  " mean over seeds and 95 % band. Right: test accuracy of the mean of all"
  " models. Barrier in the table: the largest loss on the line less the mean of"
  " its ends; every convention is in metrics.jsonl."
)
CLAIMS = {
  judge.__name__: Claim(judge, figures.draw, CAPTION)
  for judge in (
    rebasin,
    width,
    repair,
    many,
    least_squares,
    singular,
    heads,
    reset,
    control,
    others,
  )
}
