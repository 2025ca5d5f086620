"""Judges and figures of edited experts: weight signatures, aligned classifiers.

>>> callable(signatures)
True
"""

from typing import Any

import numpy as np

from experiments.merge import results
from experiments.merge.figures import SEEDS
from experiments.merge.judges import Verdict, low, seeds
from experiments.merge.patches import SCALES
from experiments.run import runs
from experiments.wise_ft.claims import said
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
    results.gather(run, number, corruption=kind, layers=layers, split=split)
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
  kinds, gather = _kinds(run), results.gather
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


def signatures(run: runs.Run) -> Verdict:
  """Judge: robustness transfers, costs little, is shallow and recognisable."""
  hard, easy = gains(run, ALL, tuned=True)
  plain, cost = gains(run, ALL, tuned=False)
  shallow = gains(run, SHALLOW, tuned=True)
  # Where validation allows no step there is no gain to have a share of.
  share = 100 * shallow[0] / np.where(hard == 0, 1, hard)
  same, different = cosines(run, ALL)
  text = (
    f"another model patched: corrupted images {said(hard)}, clean"
    f" {said(easy)} at the tuned scale ({said(plain)} and {said(cost)} at 1);"
    f" shallow layers alone {said(shallow[0])} and {said(shallow[1])},"
    f" {said(share, '%')} of the gain; cosine of signatures of one corruption"
    f" {said(same, '')}, of two {said(different, '')}, {seeds(run)}"
  )
  small = low(hard) > 5 and low(easy) > -1
  return text, small and low(same - different) > 0 and low(share) >= 80


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
      found = results.gather(run, "corrupted", **which)
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
  return [results.gather(run, number, aligned=s)[:, 0] for s in states]


def aligning(run: runs.Run) -> Verdict:
  """Judge: equal norms, nothing else moved, old classes and all gain."""
  change = {
    name: np.subtract(*_aligned(run, f"{name} (%)")[::-1])
    for name in ("old", "new", "all")
  }
  before, after = _aligned(run, "norms")
  off = np.abs(after - 1).max()
  moved = results.gather(run, "moved", aligned="aligned").max()
  parts = [f"{name} classes {said(x)}" for name, x in change.items()]
  text = (
    f"aligned minus before: {', '.join(parts)}; new over old norms"
    f" {said(before, '')} before, off 1 by {off:.0e} after; all else"
    f" moved by {moved:.0e}, {seeds(run)}"
  )
  exact = off < 1e-6 and moved == 0
  return text, exact and min(low(change["old"]), low(change["all"])) > 0


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
