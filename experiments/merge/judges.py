"""Judges of what merged models are worth against each other.

A judge reads the lines that a run logged, and nothing else; differences are
paired by seed.

>>> callable(ties)
True
"""

from typing import Any

import numpy as np

from experiments.merge import results
from experiments.merge.results import BASE, EXPERTS, TUNED, UNTUNED
from experiments.run import runs
from experiments.wise_ft.claims import said
from weightspace import intervals

Verdict = tuple[str, bool]


def low(values: np.ndarray) -> float:
  """Return the lower end of the interval of a mean over seeds."""
  return intervals.mean_interval(values).low


def high(values: np.ndarray) -> float:
  """Return the upper end of the interval of a mean over seeds."""
  return intervals.mean_interval(values).high


def gap(run: runs.Run, a: str, b: str, choice: str = TUNED, **w: Any) -> Any:
  """Return [S], the accuracy of method a minus that of b."""
  return results.of(run, a, choice, **w) - results.of(run, b, choice, **w)


def seeds(run: runs.Run) -> str:
  """Return how many seeds a run has, for people."""
  return f"over {run.config.seeds} seeds"


def ties(run: runs.Run) -> Verdict:
  """Judge: TIES above task arithmetic above the average, and below experts."""
  steps = (("TIES", "task arithmetic"), ("task arithmetic", "average"))
  parts = [
    f"{choice}: TIES minus task arithmetic {said(gap(run, *steps[0], choice))},"
    f" task arithmetic minus average {said(gap(run, *steps[1], choice))}"
    for choice in (TUNED, UNTUNED)
  ]
  below = gap(run, EXPERTS, "TIES")
  parts.append(f"experts minus tuned TIES {said(below)}, {seeds(run)}")
  lows = [low(gap(run, *pair)) for pair in steps]
  return "; ".join(parts), min(*lows, low(below)) > 0


def breadcrumbs(run: runs.Run) -> Verdict:
  """Judge: the masks keep what they say, and merge no worse at equal alpha."""
  parts: list[str] = []
  lows: list[float] = []
  for count in run.config.counts:
    found = [
      gap(run, "Breadcrumbs", "task arithmetic", choice, count=count)
      for choice in (UNTUNED, TUNED)
    ]
    parts.append(
      f"{count} tasks {said(found[0])} at the paper's coefficient for both,"
      f" {said(found[1])} with mask and coefficient tuned"
    )
    lows += map(low, found)
  wrong = results.gather(run, "wrong").max()
  norm = results.gather(run, "norm kept").mean(1)
  text = (
    f"Breadcrumbs minus task arithmetic: {'; '.join(parts)}; the mask keeps"
    f" {said(norm, '%')} of a task vector's norm, and its count is off by"
    f" {wrong:.0f} entries a row at most, {seeds(run)}"
  )
  return text, min(lows) >= 0 and wrong == 0


def pcb(run: runs.Run) -> Verdict:
  """Judge: PCB is above TIES untuned, and less than a point below tuned."""
  found = {c: gap(run, "PCB", "TIES", c) for c in (UNTUNED, TUNED)}
  text = ", ".join(f"{choice} {said(x)}" for choice, x in found.items())
  plain = gap(run, "PCB", "task arithmetic")
  text = (
    f"PCB minus TIES: {text}; minus task arithmetic, both tuned, {said(plain)},"
    f" {seeds(run)}"
  )
  return text, low(found[UNTUNED]) > 0 and low(found[TUNED]) > -1


def bench(run: runs.Run) -> Verdict:
  """Judge: tuning never loses on validation, gains on test, forgets less."""
  names = [n for n, m in run.config.methods.items() if m.get("tuned", True)]
  own = {
    n: results.of(run, n, TUNED, "chosen by")
    - results.of(run, n, UNTUNED, "chosen by")
    for n in names
  }
  least = min(x.min() for x in own.values())
  test = np.mean(
    [results.of(run, n, TUNED) - results.of(run, n, UNTUNED) for n in names], 0
  )
  kept = np.mean(
    [_kept(run, n, TUNED) - _kept(run, n, UNTUNED) for n in names], 0
  )
  best = max(run.config.methods, key=lambda n: results.of(run, n, TUNED).mean())
  text = (
    f"tuned minus untuned on validation: least of {len(names)} methods and all"
    f" seeds {least:+.2f} points; on test, mean over methods, {said(test)}, on"
    f" the base's task {said(kept)}; best tuned: {best},"
    f" {said(results.of(run, best, TUNED, 'normalised'), '%')} of the experts,"
    f" {seeds(run)}"
  )
  return text, bool(least >= 0) and low(test) > 0


def _kept(run: runs.Run, name: str, choice: str) -> np.ndarray:
  return results.of(run, name, choice, f"on {BASE}")


def scale(run: runs.Run) -> Verdict:
  """Judge: the gap to experts shrinks with width and with a better base."""
  narrow, wide, weak = (
    next(label for label in run.config.beds if word in label)
    for word in ("narrow", "wide", "weak")
  )
  found = {b: _gaps(run, b) for b in (narrow, wide, weak)}
  width = found[narrow].mean(0) - found[wide].mean(0)
  strength = found[weak].mean(0) - found[wide].mean(0)
  spread = np.ptp(found[narrow], 0) - np.ptp(found[wide], 0)
  few = np.mean([_gaps(run, b, run.config.counts[0]).mean(0) for b in found], 0)
  many = np.mean([found[b].mean(0) for b in found], 0)
  text = (
    f"gap of normalised accuracy to the experts, mean over methods:"
    f" {narrow} minus {wide} {said(width)}; {weak} minus {wide}"
    f" {said(strength)}; {run.config.counts[-1]} experts minus"
    f" {run.config.counts[0]} {said(many - few)}; spread of methods, {narrow}"
    f" minus {wide}, {said(spread)}, {seeds(run)}"
  )
  return text, min(map(low, (width, strength, spread))) > 0


def _gaps(run: runs.Run, bed: str, count: int | None = None) -> np.ndarray:
  """Return [methods, S] of 100 minus normalised accuracy, tuned."""
  which = {"bed": bed, "count": count or run.config.counts[-1]}
  return np.stack(
    [
      100 - results.of(run, name, TUNED, "normalised", **which)
      for name in run.config.methods
    ]
  )
