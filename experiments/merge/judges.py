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
from experiments.run.claims import (
  Verdict,
  above,
  below,
  every,
  exact,
  gather,
  only,
  over,
  points,
)

Finding = tuple[str, Verdict]


def gap(run: runs.Run, a: str, b: str, choice: str = TUNED, **w: Any) -> Any:
  """Return [S], the accuracy of method a minus that of b."""
  return results.of(run, a, choice, **w) - results.of(run, b, choice, **w)


def ties(run: runs.Run) -> Finding:
  """Judge: TIES above task arithmetic above the average, and below experts."""
  steps = (("TIES", "task arithmetic"), ("task arithmetic", "average"))
  parts = [
    f"{choice}: TIES minus task arithmetic"
    f" {points(gap(run, *steps[0], choice))}, task arithmetic minus average"
    f" {points(gap(run, *steps[1], choice))}"
    for choice in (TUNED, UNTUNED)
  ]
  below = gap(run, EXPERTS, "TIES")
  parts.append(f"experts minus tuned TIES {points(below)}, {over(run)}")
  gaps = [gap(run, *pair) for pair in steps]
  return "; ".join(parts), every(*map(above, (*gaps, below)))


def breadcrumbs(run: runs.Run) -> Finding:
  """Judge: the masks keep what they say, and win once both are tuned.

  At the same coefficient for both they lose, which is part of the statement.
  """
  parts: list[str] = []
  gaps: list[list[np.ndarray]] = []
  for count in run.config.counts:
    found = [
      gap(run, "Breadcrumbs", "task arithmetic", choice, count=count)
      for choice in (UNTUNED, TUNED)
    ]
    parts.append(
      f"{count} tasks {points(found[0])} at the paper's coefficient for both,"
      f" {points(found[1])} with mask and coefficient tuned"
    )
    gaps.append(found)
  wrong = gather(run, "wrong").max()
  norm = gather(run, "norm kept").mean(1)
  carry = carried(run) - results.of(run, "task arithmetic", TUNED)
  text = (
    f"Breadcrumbs minus task arithmetic: {'; '.join(parts)}; with the mask that"
    f" was tuned on {run.config.counts[0]} tasks, on {run.config.counts[-1]}"
    f" {points(carry)}; the mask keeps"
    f" {points(norm, '%')} of a task vector's norm, and its count is off by"
    f" {wrong:.0f} entries a row at most, {over(run)}"
  )
  untuned, tuned = zip(*gaps)
  return text, every(
    exact(wrong == 0), *map(above, (*tuned, carry)), *map(below, untuned)
  )


def carried(run: runs.Run) -> np.ndarray:
  """Return [S], the accuracy on most tasks of a mask tuned on the fewest.

  The mask's setting is the one with most right on validation images of few
  tasks, and its coefficient that of the many.
  """
  few, most = run.config.counts[0], run.config.counts[-1]
  found = []
  for seed in range(run.config.seeds):
    tried = only(run, "setting", "validation", tried="Breadcrumbs", seed=seed)
    first = max(
      (line for line in tried if line["count"] == few),
      key=lambda line: line["validation"],
    )
    last = max(
      (
        line
        for line in tried
        if line["count"] == most and line["setting"] == first["setting"]
      ),
      key=lambda line: line["validation"],
    )
    found.append(last["test"])
  return np.array(found)


def pcb(run: runs.Run) -> Finding:
  """Judge: PCB is above TIES untuned, and less than a point below tuned."""
  found = {c: gap(run, "PCB", "TIES", c) for c in (UNTUNED, TUNED)}
  text = ", ".join(f"{choice} {points(x)}" for choice, x in found.items())
  plain = gap(run, "PCB", "task arithmetic")
  text = (
    f"PCB minus TIES: {text}; minus task arithmetic, both tuned,"
    f" {points(plain)}, {over(run)}"
  )
  return text, every(above(found[UNTUNED]), above(found[TUNED], -1.0))


def bench(run: runs.Run) -> Finding:
  """Judge: tuning gains on test, and keeps more of the base's own task.

  On validation data it never loses, by construction.
  """
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
    f" seeds {least:+.2f} points; on test, mean over methods, {points(test)},"
    f" on the base's task {points(kept)}; best tuned: {best},"
    f" {points(results.of(run, best, TUNED, 'normalised'), '%')} of the"
    f" experts, {over(run)}"
  )
  return text, every(exact(least >= 0), above(test), above(kept))


def _kept(run: runs.Run, name: str, choice: str) -> np.ndarray:
  return results.of(run, name, choice, f"on {BASE}")


def scale(run: runs.Run) -> Finding:
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
    f" {narrow} minus {wide} {points(width)}; {weak} minus {wide}"
    f" {points(strength)}; {run.config.counts[-1]} experts minus"
    f" {run.config.counts[0]} {points(many - few)}; spread of methods, {narrow}"
    f" minus {wide}, {points(spread)}, {over(run)}"
  )
  return text, every(*map(above, (width, strength, spread)))


def _gaps(run: runs.Run, bed: str, count: int | None = None) -> np.ndarray:
  """Return [methods, S] of 100 minus normalised accuracy, tuned."""
  which = {"bed": bed, "count": count or run.config.counts[-1]}
  return np.stack(
    [
      100 - results.of(run, name, TUNED, "normalised", **which)
      for name in run.config.methods
    ]
  )
