"""Phases of a model's landscape, by a rule that says when it does not know.

A grid of models over load (width) and temperature (batch size) falls into
phases by training loss, curvature, mode connectivity and similarity:

| phase | train loss | curvature | connectivity | CKA |
| --- | --- | --- | --- | --- |
| I | high | large | negative | |
| II | high | large | not negative | |
| III | small | small | negative | |
| IV-A | small | small | about 0 | small |
| IV-B | small | small | about 0 | large |

The papers draw the boundaries by hand.  Here each measure votes when it is
beyond a threshold by a margin; votes that disagree or are missing make a cell
"undecided".  Thresholds are the papers' colour centres, or Otsu's of a grid.

>>> found = {"loss": 0.01, "trace": 3.0, "mode_connectivity": 0.0, "cka": 0.9}
>>> phase(found), phase(found | {"cka": 0.3}), phase(found | {"trace": 5e3})
('IV-B', 'IV-A', 'undecided')
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

PHASES = ("I", "II", "III", "IV-A", "IV-B")
UNDECIDED = "undecided"
ALIASES = {
  "train_loss": "loss",
  "top": "top_eigenvalue",
  "connectivity": "mode_connectivity",
  "mc": "mode_connectivity",
}
KNOWN = ("loss", "trace", "top_eigenvalue", "mode_connectivity", "cka")
ERROR = "mode_connectivity_stderr"


class Rule(NamedTuple):
  """Thresholds of the phases, and how far beyond them a measure must be."""

  loss: float = 0.2  # nats of training loss
  trace: float = math.exp(4.0)  # the model zoo centres its colours there
  top_eigenvalue: float = math.exp(1.0)
  cka: float = 0.6
  connectivity: float = 0.01  # |mc| below is "about 0": one point of error
  factor: float = 1.1  # loss and curvature within it of a threshold: no vote
  cka_margin: float = 0.02


class Phase(NamedTuple):
  """A label, and by how much each measure is beyond its threshold."""

  label: str
  margins: dict[str, float]  # log ratios; connectivity and CKA: differences
  reason: str


def phase(metrics: Mapping[str, Any], rule: Rule | None = None) -> str:
  """Return the phase of one model: I, II, III, IV-A, IV-B or undecided.

  Args:
    metrics: of these, those that are known: `loss` (training), `trace` and
      `top_eigenvalue` (of the training Hessian), `mode_connectivity` (signed:
      negative is a barrier; of the training error as a share, so 0.01 is one
      point), `mode_connectivity_stderr` (the band is then at least two of
      them), and `cka`.  `train_loss`, `top`, `connectivity` and `mc` are
      understood too.
    rule: thresholds; None for the defaults.

  Raises:
    ValueError: for an unknown name, or a metric that is not one number.

  >>> phase({"loss": 1.5, "top_eigenvalue": 40.0, "mode_connectivity": -0.2})
  'I'

  Yang et al. 2021, https://arxiv.org/abs/2107.11228; the table is that of the
  phase-transition model zoo, https://arxiv.org/abs/2504.18072.  Thresholds,
  margins and "undecided" are ours: neither has numbers.
  """
  return classify(metrics, rule).label


def classify(metrics: Mapping[str, Any], rule: Rule | None = None) -> Phase:
  """Return the phase with margins and the reason: see `phase`.

  >>> classify({"loss": 0.2, "mode_connectivity": 0.0}).reason
  'loss and curvature are within the margin or missing'
  """
  rule, found = rule or Rule(), _numbers(metrics)
  margins = _margins(found, rule)
  votes = {
    name: margins[name] > 0
    for name in ("loss", "trace", "top_eigenvalue")
    if name in margins and abs(margins[name]) > math.log(rule.factor)
  }
  place = found.get("mode_connectivity", math.nan)
  band = max(rule.connectivity, 2.0 * found.get(ERROR, 0.0))
  if not votes:
    reason = "loss and curvature are within the margin or missing"
    return Phase(UNDECIDED, margins, reason)
  if len(set(votes.values())) > 1:
    high = ", ".join(name for name, vote in votes.items() if vote)
    return Phase(UNDECIDED, margins, f"only {high} is high")
  if not math.isfinite(place):
    return Phase(UNDECIDED, margins, "mode connectivity is missing")
  under_fitted = next(iter(votes.values()))
  if under_fitted:
    label = "I" if place < -band else "II"
    return Phase(label, margins, "high loss and large curvature")
  if place < -band:
    return Phase("III", margins, "low loss behind a barrier")
  if place > band:
    reason = "low loss, but the path is far better than its ends"
    return Phase(UNDECIDED, margins, reason)
  if "cka" not in margins or abs(margins["cka"]) <= rule.cka_margin:
    reason = "CKA is within the margin or missing"
    return Phase(UNDECIDED, margins, reason)
  label = "IV-B" if margins["cka"] > 0 else "IV-A"
  return Phase(label, margins, "low loss, well connected")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
  """Return the metrics by their own names; NaN is as good as missing."""
  found = {}
  for name, value in metrics.items():
    own = ALIASES.get(name, name)
    if own not in (*KNOWN, ERROR):
      raise ValueError(f"phase: unknown metric {name!r}, expected {KNOWN}")
    if np.ndim(value) != 0:
      raise ValueError(
        f"phase: {name!r} is {np.shape(value)}, expected a number"
      )
    if own in found:
      raise ValueError(f"phase: {name!r} is given twice, expected once")
    if not math.isnan(float(value)):
      found[own] = float(value)
  return found


def _margins(found: dict[str, float], rule: Rule) -> dict[str, float]:
  margins: dict[str, float] = {}
  for name in ("loss", "trace", "top_eigenvalue"):
    if name in found:
      # A trace or eigenvalue below zero is as small as can be.
      ratio = max(found[name], 1e-12) / getattr(rule, name)
      margins[name] = math.log(ratio)
  if "cka" in found:
    margins["cka"] = found["cka"] - rule.cka
  if "mode_connectivity" in found:
    band = max(rule.connectivity, 2.0 * found.get(ERROR, 0.0))
    margins["mode_connectivity"] = abs(found["mode_connectivity"]) - band
  return margins


def otsu(values: npt.ArrayLike) -> float:
  """Return the threshold that splits numbers into two classes best.

  The middle between neighbours at the largest variance between classes.

  Raises:
    ValueError: for fewer than two distinct finite numbers.

  >>> otsu([0.0, 1.0, 9.0, 10.0])
  5.0

  Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076.
  """
  array = np.asarray(values, float).ravel()
  array = np.sort(array[np.isfinite(array)])
  if not len(array) or array[0] == array[-1]:
    raise ValueError(f"otsu: {array}, expected two distinct numbers")
  cuts = np.flatnonzero(np.diff(array) > 0) + 1

  def between(cut: Any) -> float:
    low, high = array[:cut], array[cut:]
    return float(len(low) * len(high) * (high.mean() - low.mean()) ** 2)

  best = max(cuts, key=between)
  return float((array[best - 1] + array[best]) / 2)


def rule_of(
  grid: Mapping[str, npt.ArrayLike], rule: Rule | None = None
) -> Rule:
  """Return the rule whose thresholds split the measures of a grid.

  Otsu's threshold of log loss, log trace and log top eigenvalue over all cells,
  and of CKA over all cells; a measure without two values keeps its default.

  Args:
    grid: {metric: numbers of any shape, one for each cell}.
    rule: what is not in the grid.

  >>> made = rule_of({"loss": [0.01, 0.01, 1.0, 1.0]})
  >>> round(made.loss, 3)
  0.1

  Ours; the papers draw boundaries by hand.
  """
  rule, found = rule or Rule(), {}
  for name, values in grid.items():
    own = ALIASES.get(name, name)
    array = np.asarray(values, float)
    if own in ("loss", "trace", "top_eigenvalue"):
      array = np.log(np.maximum(array, 1e-12))
    elif own != "cka":
      continue
    if len(np.unique(array[np.isfinite(array)])) > 1:
      cut = otsu(array)
      found[own] = cut if own == "cka" else math.exp(cut)
  return rule._replace(**found)
