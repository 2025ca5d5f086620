"""Judges and figures of edited experts: weight signatures, aligned classifiers.

>>> callable(signatures)
True
"""

from typing import Any

import numpy as np

from experiments.merge.figures import SEEDS
from experiments.merge.judges import Finding
from experiments.merge.patches import SCALES
from experiments.run import estimates, runs
from experiments.run.claims import (
  above,
  every,
  exact,
  gather,
  over,
  points,
  share,
)
from weightspace import figures

ALL, SHALLOW = "all layers", "shallow layers"
PLACES = (0.0, *SCALES)
UNTUNED = PLACES.index(1.0)
ALLOWED = 0.5  # points of clean validation accuracy that a patch may cost


def _kinds(run: runs.Run) -> list[str]:
  found = (x["corruption"] for x in run.lines.values() if "corruption" in x)
  return sorted(set(found))


def _curves(run: runs.Run, number: str, layers: str, split: str) -> np.ndarray:
  """Return [S, scales], mean over corruptions; scale 0 is the clean model."""
  rows = [
    gather(run, number, corruption=kind, layers=layers, split=split)
    for kind in _kinds(run)
  ]
  return np.mean(rows, 0)


def _chosen(run: runs.Run, layers: str) -> np.ndarray:
  """Return [S], the place of the scale that validation images choose.

  The one with most right on corrupted images of those that cost at most ALLOWED
  points on clean ones.
  """
  hard, easy = (
    _curves(run, n, layers, "validation") for n in ("corrupted", "clean")
  )
  return np.where(easy >= easy[:, :1] - ALLOWED, hard, -1.0).argmax(1)


def gains(run: runs.Run, layers: str, tuned: bool) -> list[np.ndarray]:
  """Return [S] changes of accuracy on corrupted and on clean images."""
  place = _chosen(run, layers) if tuned else UNTUNED
  rows = [_curves(run, n, layers, "test") for n in ("corrupted", "clean")]
  return [x[np.arange(len(x)), place] - x[:, 0] for x in rows]


def cosines(run: runs.Run, layers: str) -> tuple[np.ndarray, np.ndarray]:
  """Return [S] mean cosines of signatures of one and of two corruptions."""
  kinds = _kinds(run)
  table = np.array(
    [
      [
        gather(run, "cosine", corruption=a, other=b, layers=layers)[:, 0]
        for b in kinds
      ]
      for a in kinds
    ]
  )
  own = np.eye(len(kinds), dtype=bool)
  return table[own].mean(0), table[~own].mean(0)


def signatures(run: runs.Run) -> Finding:
  """Judge: robustness transfers, costs little, is shallow and recognisable."""
  hard, easy = gains(run, ALL, tuned=True)
  plain, cost = gains(run, ALL, tuned=False)
  shallow = gains(run, SHALLOW, tuned=True)
  part = estimates.ratio(100 * shallow[0], hard)
  same, different = cosines(run, ALL)
  text = (
    f"another model patched: corrupted images {points(hard)}, clean"
    f" {points(easy)} at the tuned scale ({points(plain)} and {points(cost)} at"
    f" 1); shallow layers alone {points(shallow[0])} and {points(shallow[1])},"
    f" {points(part, '%')} of the gain; cosine of signatures of one corruption"
    f" {points(same, '')}, of two {points(different, '')}, {over(run)}"
  )
  return text, every(
    above(hard, 5.0),
    above(easy, -1.0),
    above(same - different),
    share(shallow[0], hard, 0.8),
  )


def draw_signatures(run: runs.Run) -> Any:
  """Draw accuracy over the scale, and the gain of each corruption."""
  lines = {
    f"{number}, {layers}": _curves(run, number, layers, "test")
    for number in ("corrupted", "clean")
    for layers in (ALL, SHALLOW)
  }
  label = ("scale of the signature", "accuracy (%)")
  left = figures.curves(PLACES, lines, label, "Patched", [(1.0, "untuned")])
  rows = {}
  for kind in _kinds(run):
    for layers in (ALL, SHALLOW):
      which = {"corruption": kind, "layers": layers, "split": "test"}
      found = gather(run, "corrupted", **which)
      place = _chosen(run, layers)
      gain = found[np.arange(len(found)), place] - found[:, 0]
      rows[f"{kind.replace('_', ' ')}, {layers}"] = gain
  right = figures.dots(rows, "points gained", "On corrupted images, tuned")
  return figures.figure(left, right, width=11.5, height=4.0)


SIGNATURES = (
  "Left: accuracy of a clean model patched with signatures that were extracted"
  " from other models, on corrupted and on clean images, mean over corruptions."
  " Right: what each corruption's signature gains on it; dots are seeds."
  f" {SEEDS}"
)


def _aligned(run: runs.Run, number: str) -> list[np.ndarray]:
  """Return [S] of a number before and after aligning."""
  states = ("before", "aligned")
  return [gather(run, number, aligned=s)[:, 0] for s in states]


def aligning(run: runs.Run) -> Finding:
  """Judge: equal norms, nothing else moved, old classes and all gain."""
  change = {
    name: np.subtract(*_aligned(run, f"{name} (%)")[::-1])
    for name in ("old", "new", "all")
  }
  before, after = _aligned(run, "norms")
  off = np.abs(after - 1).max()
  moved = gather(run, "moved", aligned="aligned").max()
  parts = [f"{name} classes {points(x)}" for name, x in change.items()]
  text = (
    f"aligned minus before: {', '.join(parts)}; new over old norms"
    f" {points(before, '')} before, off 1 by {off:.0e} after; all else"
    f" moved by {moved:.0e}, {over(run)}"
  )
  kept = exact(off < 1e-6 and moved == 0)
  return text, every(kept, above(change["old"]), above(change["all"]))


def draw_aligning(run: runs.Run) -> Any:
  """Draw accuracies before and after, and the norms."""
  rows = {
    f"{name}, {state}": found
    for name in ("old", "new", "all")
    for state, found in zip(("before", "aligned"), _aligned(run, f"{name} (%)"))
  }
  norms = dict(zip(("before", "aligned"), _aligned(run, "norms")))
  return figures.figure(
    figures.dots(rows, "accuracy (%)", "Classes, before and after"),
    figures.dots(norms, "mean norm, new over old", "Classifier rows"),
    width=11.0,
    height=3.4,
  )


ALIGNING = (
  "Left: accuracy on old, new and all classes after learning the new ones with"
  " a small memory of the old, before and after aligning. Right: mean norm of"
  f" the new classes' weights over that of the old. Dots are seeds. {SEEDS}"
)
