"""What a phase grid says: its cells' phases, the claims, the diagram.

>>> spearman([1.0, 2.0, 3.0], [1.0, 8.0, 27.0])
1.0
"""

import numpy as np
import numpy.typing as npt
import scipy.stats

from experiments.phases import figures
from experiments.run import claims, runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  exact,
  said,
)
from experiments.run.verdicts import FAILS, HOLDS, OPEN
from weightspace import intervals, probe

MEASURES = {
  "loss": "training loss",
  "trace": "trace of the Hessian",
  "top_eigenvalue": "top eigenvalue",
  "mode_connectivity": "mode connectivity (%)",
  "cka": "CKA of outputs",
  "accuracy": "test accuracy (%)",
  "gain": "averaging gains (points)",
  "matched_gain": "after matching (points)",
}
HARM = 0.5  # points of test accuracy that do no harm: ours
LEVEL = 0.025  # one-sided, of a trend
LOW = 0.01  # a barrier of the training error below one point is low


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
  """Return the rank correlation, 0 where one is constant."""
  x, y = np.asarray(x, float), np.asarray(y, float)
  if np.ptp(x) == 0 or np.ptp(y) == 0:
    return 0.0
  return float(np.round(scipy.stats.spearmanr(x, y).statistic, 12))


def cells(run: runs.Run) -> dict[str, np.ndarray]:
  """Return {measure: [widths, batches]}, means over seeds or pairs."""
  widths, batches = run.config.widths, run.config.batches

  def mean(name: str) -> np.ndarray:
    return np.array(
      [
        [np.mean(values(run, name, width, batch)) for batch in batches]
        for width in widths
      ]
    )

  grid = {name: mean(name) for name in MEASURES}
  spread = [
    [
      np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else 0.0
      for found in (
        values(run, "mode_connectivity", width, batch) for batch in batches
      )
    ]
    for width in widths
  ]
  return grid | {"mode_connectivity_stderr": np.array(spread)}


def values(run: runs.Run, name: str, width: float, batch: int) -> np.ndarray:
  """Return a measure of each seed, or of each independent pair, of a cell.

  Without those where it has no value, such as the similarity of outputs that
  are constant; where none has one, NaN.
  """
  lines = claims.only(run, name, width=f"{width:g}", batch=batch)
  found = np.array([x[name] for x in lines if x.get("pair") != "twins"], float)
  known = found[~np.isnan(found)]
  return known if known.size else found


def labels(grid: dict[str, np.ndarray]) -> np.ndarray:
  """Return the phase of each cell, by thresholds of this grid."""
  known = ("loss", "trace", "top_eigenvalue", "mode_connectivity", "cka")
  rule = probe.rule_of({name: grid[name] for name in known})
  names = (*known, "mode_connectivity_stderr")
  shape = grid["loss"].shape
  found = [
    probe.phase({name: grid[name][at] for name in names}, rule)
    for at in np.ndindex(shape)
  ]
  return np.array(found).reshape(shape)


def trends(run: runs.Run, name: str, across: str = "width") -> np.ndarray:
  """Return a measure's rank correlation with width, for each batch size.

  Or with batch size, for each width, where `across` is "batch".
  """
  sides = run.config.widths, run.config.batches
  along, rest = sides if across == "width" else sides[::-1]
  found = []
  for fixed in rest:
    pairs = [
      (place, value)
      for place in along
      for value in values(
        run, name, *((place, fixed) if across == "width" else (fixed, place))
      )
    ]
    found.append(spearman(*zip(*pairs)))
  return np.array(found)


def permuted(grid: np.ndarray, draws: int = 4000) -> Verdict:
  """Judge whether a measure rises with width, by permuting cells.

  The statistic is the mean over batch sizes of the rank correlation of width
  with the measure; under the null the cells of a batch size may change places.

  Args:
    grid: [widths, batches], a measure of each cell.
    draws: permutations.

  >>> permuted(np.arange(12.0).reshape(6, 2)).word
  'holds'
  """
  ranks = scipy.stats.rankdata(grid, axis=0)
  ranks = ranks - ranks.mean(0)
  widths = np.arange(len(grid)) - (len(grid) - 1) / 2
  norms = np.sqrt((ranks**2).sum(0) * (widths**2).sum())
  ranks = ranks / np.where(norms > 0, norms, 1.0)  # 0 for a constant
  drawn = np.random.default_rng(0).permuted(
    np.broadcast_to(ranks, (draws, *ranks.shape)), axis=1
  )
  null = np.einsum("w,dwb->d", widths, drawn)
  found = float(widths @ ranks.sum(1))
  p = (1 + float((null >= found - 1e-9).sum())) / (1 + draws)
  falls = (1 + float((null <= found + 1e-9).sum())) / (1 + draws)
  word = HOLDS if p <= LEVEL else FAILS if falls <= LEVEL else OPEN
  return Verdict(word, p)


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: trends, phases, and where averages from one start help."""
  phases = labels(cells(run))
  if min(phases.shape) < 2:
    return _few(run, phases), Verdict(OPEN)
  rows = [("mode_connectivity", "width"), ("trace", "width")]
  rows += [("loss", "batch"), ("trace", "batch")]
  texts = []
  for name, across in rows:
    found = trends(run, name, across)
    ends = ", ".join(f"{x:+.2f}" for x in found)
    texts.append(
      f"rank correlation of {across} with {MEASURES[name]}"
      f" {found.mean():+.2f} (each {ends})"
    )
  # Those with batch size are told only: it sets the number of steps as well.
  grid = cells(run)
  verdicts = [permuted(grid["mode_connectivity"]), permuted(-grid["trace"])]
  twins = claims.only(run, "barrier", pair="twins")
  for name, low in (("low", True), ("high", False)):
    gains = [x["gain"] for x in twins if (x["barrier"] < LOW) == low]
    if len(gains) < 2:
      texts.append(f"{len(gains)} cells of {name} barrier")
      verdicts.append(Verdict(OPEN, 0.5))
      continue
    texts.append(
      f"averages of {name} barrier {said(gains, 'points', 2)} in"
      f" {len(gains)} cells"
    )
    verdicts.append(above(gains, -HARM) if low else below(gains))
  kinds, counts = np.unique(phases, return_counts=True)
  texts.append("phases " + ", ".join(f"{k} {n}" for k, n in zip(kinds, counts)))
  poor = np.isin(phases, ("I", "III")).any()
  well = np.isin(phases, ("II", "IV-A", "IV-B")).any()
  return "; ".join(texts), every(*verdicts, exact(poor and well))


def _few(run: runs.Run, phases: np.ndarray) -> str:
  """Say what cells without a second width or batch size have to say."""
  twins = claims.only(run, "barrier", pair="twins")
  gains = ", ".join(
    f"{x['gain']:+.2f} points at a barrier of {100 * x['barrier']:.2f} points"
    for x in twins
  )
  number = "one cell" if phases.size == 1 else f"{phases.size} cells in a row"
  return (
    f"{number}: no trends over width and batch size; phases"
    f" {', '.join(map(str, phases.ravel()))}; averages from one start {gains}"
  )


def _mean(found: np.ndarray) -> intervals.Interval | None:
  """Return the interval of a measure, None where no network has a value."""
  return None if np.isnan(found).any() else intervals.mean_interval(found)


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figures."""
  grid = cells(run)
  phases = labels(grid)
  table: runs.Table = {}
  for i, width in enumerate(run.config.widths):
    for j, batch in enumerate(run.config.batches):
      row = f"width {width}, batch {batch}: {phases[i, j]}"
      table[row] = {
        label: _mean(values(run, name, width, batch))
        for name, label in MEASURES.items()
      }
  shown = grid | {"mode_connectivity": 100 * grid["mode_connectivity"]}
  sides = list(run.config.widths), list(run.config.batches)
  charts = {
    "phases": figures.diagram(phases, shown["accuracy"], sides),
    "measures": figures.measures(
      {label: shown[name] for name, label in MEASURES.items()}, sides
    ),
  }
  claims.finish(run, Claim(judge), table, charts)
