"""The claims about merging by name: how each is judged and drawn; the table.

>>> "ties" in CLAIMS
True
"""

from typing import Any

import numpy as np

from experiments.merge import (
  figures,
  judges,
  patch_claims,
  probe_figures,
  probe_judges,
  results,
)
from experiments.merge.results import BASE, EXPERTS, START, TUNED, UNTUNED
from experiments.run import runs
from experiments.run.claims import Claim, gather, percent
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
      for name in (EXPERTS, *results.ranked(run), START):
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
        found = gather(run, name, row=line["row"])
        rows.setdefault(line["row"], {})[column] = intervals.mean_interval(
          found[:, 0]
        )
  return rows


def _row(run: runs.Run, name: str, which: dict[str, Any]) -> dict[str, Any]:
  def mean(choice: str, number: str) -> Any:
    return percent(results.of(run, name, choice, number, **which))

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
    start = results.of(run, START, UNTUNED, f"on {BASE}", **which)
    ends = results.of(run, name, TUNED, f"on {BASE}", **which)
    found["forgotten"] = intervals.paired(start, ends)
    found["coefficient"] = mean(TUNED, "coefficient")
    runtime = results.of(run, name, TUNED, "runtime", **which)
    found["runtime (ms)"] = round(1000 * float(np.median(runtime)), 1)
  return found


BED = (
  "Left: test accuracy of each method, with the coefficient that validation"
  " images chose and without; lines are the experts and the base. Right: test"
  f" accuracy over the coefficient. {figures.SEEDS}"
)
CLAIMS = {
  "aligning": Claim(
    patch_claims.aligning,
    patch_claims.draw_aligning,
    patch_claims.ALIGNING,
  ),
  "bench": Claim(
    judges.bench,
    figures.bench,
    "Left: test accuracy of each method; lines are the experts and the base."
    " Right: what the tuned models keep of the base's own task (dotted: the"
    f" base). {figures.SEEDS}",
  ),
  "breadcrumbs": Claim(judges.breadcrumbs, figures.bed, BED),
  "dare": Claim(
    probe_judges.dare,
    probe_figures.dropped,
    probe_figures.DROPPED,
  ),
  "opcm": Claim(
    probe_judges.opcm,
    probe_figures.orders,
    probe_figures.ORDERS,
  ),
  "optmerge": Claim(
    probe_judges.optmerge,
    probe_figures.descent,
    probe_figures.DESCENT,
  ),
  "pcb": Claim(judges.pcb, figures.bed, BED),
  "rmm": Claim(
    probe_judges.rmm,
    probe_figures.reversible,
    probe_figures.REVERSIBLE,
  ),
  "scale": Claim(judges.scale, probe_figures.scale, probe_figures.SCALE),
  "signatures": Claim(
    patch_claims.signatures,
    patch_claims.draw_signatures,
    patch_claims.SIGNATURES,
  ),
  "ties": Claim(judges.ties, figures.bed, BED),
}
