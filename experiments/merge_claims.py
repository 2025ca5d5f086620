"""The claims about merging by name: how each is judged and drawn; the table.

>>> "ties" in CLAIMS
True
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments import (
  merge_figures,
  merge_judges,
  merge_patch_claims,
  merge_probe_figures,
  merge_probe_judges,
  runs,
)
from experiments import merge_results as logged
from experiments.merge_results import BASE, EXPERTS, START, TUNED, UNTUNED
from weightspace import intervals

PROBED = {"accuracy": "untuned (%)", "normalised": "untuned, normalised"}


def table(run: runs.Run) -> runs.Table:
  """Return a row for each method of each bed, tuned and untuned."""
  rows: runs.Table = {}
  config = run.config
  for bed in config.beds:
    for count in config.counts:
      parts = [bed] if len(config.beds) > 1 else []
      parts += [f"{count} tasks"] if len(config.counts) > 1 else []
      for name in (EXPERTS, *logged.ranked(run), START):
        row = ", ".join([*parts, name])
        rows[row] = _row(run, name, {"bed": bed, "count": count})
  return rows | _probed(run)


def _probed(run: runs.Run) -> runs.Table:
  """Return the rows that probes logged: every number of their lines."""
  rows: runs.Table = {}
  for line in run.lines.values():
    for name, value in line.items():
      if "row" in line and isinstance(value, float) and name != "seconds":
        column = PROBED.get(name, name)
        found = logged.gather(run, name, row=line["row"])
        rows.setdefault(line["row"], {})[column] = intervals.mean_interval(
          found[:, 0]
        )
  return rows


def _row(run: runs.Run, name: str, which: dict[str, Any]) -> dict[str, Any]:
  def mean(choice: str, number: str) -> Any:
    return intervals.mean_interval(
      logged.of(run, name, choice, number, **which)
    )

  tuned = name in run.config.methods and run.config.methods[name].get(
    "tuned", True
  )
  found = {
    "untuned (%)": mean(UNTUNED, "accuracy"),
    "untuned, normalised": mean(UNTUNED, "normalised"),
    "tuned (%)": mean(TUNED, "accuracy") if tuned else None,
    "tuned, normalised": mean(TUNED, "normalised") if tuned else None,
  }
  if name in run.config.methods:
    start = logged.of(run, START, UNTUNED, f"on {BASE}", **which)
    ends = logged.of(run, name, TUNED, f"on {BASE}", **which)
    found["forgotten"] = intervals.paired(start, ends)
    found["coefficient"] = mean(TUNED, "coefficient")
    runtime = logged.of(run, name, TUNED, "runtime", **which)
    found["runtime (ms)"] = round(1000 * float(np.median(runtime)), 1)
  return found


class Claim(NamedTuple):
  """How a claim is judged and drawn."""

  judge: Callable[[runs.Run], merge_judges.Verdict]
  draw: Callable[[runs.Run], Any]
  caption: str


BED = (
  "Left: test accuracy of each method, with the coefficient that validation"
  " images chose and without; lines are the experts and the base. Right: test"
  f" accuracy over the coefficient. {merge_figures.SEEDS}"
)
CLAIMS = {
  "aligning": Claim(
    merge_patch_claims.aligning,
    merge_patch_claims.draw_aligning,
    merge_patch_claims.ALIGNING,
  ),
  "bench": Claim(
    merge_judges.bench,
    merge_figures.bench,
    "Left: test accuracy of each method; lines are the experts and the base."
    " Right: what the tuned models keep of the base's own task (dotted: the"
    f" base). {merge_figures.SEEDS}",
  ),
  "breadcrumbs": Claim(merge_judges.breadcrumbs, merge_figures.bed, BED),
  "dare": Claim(
    merge_probe_judges.dare,
    merge_probe_figures.dropped,
    merge_probe_figures.DROPPED,
  ),
  "opcm": Claim(
    merge_probe_judges.opcm,
    merge_probe_figures.orders,
    merge_probe_figures.ORDERS,
  ),
  "optmerge": Claim(
    merge_probe_judges.optmerge,
    merge_probe_figures.descent,
    merge_probe_figures.DESCENT,
  ),
  "pcb": Claim(merge_judges.pcb, merge_figures.bed, BED),
  "rmm": Claim(
    merge_probe_judges.rmm,
    merge_probe_figures.reversible,
    merge_probe_figures.REVERSIBLE,
  ),
  "scale": Claim(
    merge_judges.scale, merge_probe_figures.scale, merge_probe_figures.SCALE
  ),
  "signatures": Claim(
    merge_patch_claims.signatures,
    merge_patch_claims.draw_signatures,
    merge_patch_claims.SIGNATURES,
  ),
  "ties": Claim(merge_judges.ties, merge_figures.bed, BED),
}


def finish(run: runs.Run) -> None:
  """Judge the claim of the config, and write the table, figure and page."""
  claim = CLAIMS[run.config.judge]
  measured, holds = claim.judge(run)
  charts = {run.config.judge: (claim.draw(run), claim.caption)}
  run.finish(run.config.claim, measured, table(run), bool(holds), charts)
