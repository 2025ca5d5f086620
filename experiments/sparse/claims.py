"""What each claim about masks asks, and whether a run grants it.

>>> sorted(CLAIMS)[:2]
['exclusive', 'iso_flop']
"""

import numpy as np

from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  exact,
  not_below,
  over,
  points,
  rows,
  said,
)
from experiments.run.verdicts import OPEN

MARGIN = 1.0  # points of accuracy that count as no difference; ours
EXCESS = 1.02  # of a distortion that counts as no larger; ours
RIVALS = ("uniform", "global magnitude")


def rate_distortion(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: better than equal shares, not worse than global magnitude."""
  gap, right = rows(run, "distortion"), rows(run, "accuracy (%)")
  parts, verdicts = [], []
  for target in run.config.targets:
    names = [f"{name}, {target:.0%}" for name in ("RD", *RIVALS)]
    cost = [gap[names[0]] - gap[name] for name in names[1:]]
    gain = [right[names[0]] - right[name] for name in names[1:]]
    excess = np.log(gap[names[0]] / gap[names[2]])
    verdicts += [below(cost[0]), below(excess, np.log(EXCESS))]
    verdicts += [above(gain[0]), not_below(gain[1], MARGIN)]
    shown = zip(RIVALS, cost, gain)
    parts.append(
      f"{target:.0%} zeros: "
      + ", ".join(f"{n} {said(c)} and {points(g)}" for n, c, g in shown)
    )
  joint = rows(run, "joint over sum")
  ratio = np.mean([*joint.values()], 0)
  measured = (
    "distortion and accuracy of RD less those of rivals, "
    + "; ".join(parts)
    + f"; joint distortion over the sum of layers {said(ratio, signed=False)},"
    f" {over(run)}"
  )
  return measured, every(*verdicts)


def jackpots(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: a searched mask is far above magnitude, and overlaps with it."""
  right = rows(run, "accuracy (%)")
  both = rows(run, "overlap with magnitude")
  ends = {s: f"from {s}, {run.config.steps} steps" for s in STARTS}
  early = [right[f"from {s}, {run.config.early} steps"] for s in STARTS]
  gain = right[ends["magnitude"]] - right["magnitude"]
  near = both[ends["random"]] - both["random"]
  measured = (
    f"accuracy at {run.config.density:.0%} of the weights, searched less"
    f" magnitude mask: {points(gain)}; overlap with the magnitude mask,"
    f" searched from a random start less a random mask: {said(near)}; after"
    f" {run.config.early} steps, from magnitude less from random:"
    f" {points(early[0] - early[1])}, {over(run)}"
  )
  return measured, every(above(gain, 20.0), above(near))


STARTS = ("magnitude", "random")


def exclusive(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: training exclusive weights beats masks alone, forgetting nothing."""
  right = rows(run, "accuracy (%)")
  moved = rows(run, "largest change of a logit")
  parts, gains = [], []
  for density in run.config.densities:
    gain = right[f"ExSSNeT, {density:.0%}"] - right[f"SupSup, {density:.0%}"]
    gains.append(gain)
    parts.append(f"{points(gain)} at density {density:.0%}")
  still = max(float(x.max()) for x in moved.values())
  measured = (
    f"mean accuracy over {run.config.tasks} tasks, ExSSNeT less SupSup:"
    f" {', '.join(parts)}; largest change of an earlier task's logit:"
    f" {still:g}, {over(run)}"
  )
  return measured, every(exact(still == 0.0), above(gains[0]))


def tickets(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the generalised ticket is faster than others, twice than dense."""
  found = rows(run, "log steps over dense")
  reached = rows(run, "reached (%)")
  ratio = found["generalised"]
  rivals = {n: ratio - found[n] for n in ("memorised", "random")}
  shown = ", ".join(
    f"{name} {np.exp(gap.mean()):.2f}" for name, gap in rivals.items()
  )
  runs_in = ", ".join(f"{n} {x.mean():.0f} %" for n, x in reached.items())
  steps = run.config.steps
  measured = (
    f"log of steps to 95 % of the generalised ticket over dense: {said(ratio)}"
    f" (a factor of {np.exp(ratio.mean()):.2f}); factors over tickets:"
    f" {shown}; who reached it within {steps} steps (the others count with"
    f" these): {runs_in}; {over(run)}"
  )
  if (reached["dense"] > 0).sum() < 2:  # nothing to compare with
    return measured, Verdict(OPEN)
  others = [below(gap) for gap in rivals.values()]
  return measured, every(*others, below(ratio, np.log(0.5)))


def iso_flop(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: wide and sparse is above dense at equal cost of its layers."""
  right, cost = rows(run, "accuracy (%)"), rows(run, "MFLOP an image")
  gain = right["RigL"] - right["dense"]
  moves = right["RigL"] - right["static"]
  share = float(cost["RigL"].mean() / cost["dense"].mean())
  measured = (
    f"accuracy, sparse and wide with RigL less dense: {points(gain)}; RigL less"
    f" a static mask: {points(moves)}; cost of the whole network over dense:"
    f" {share:.2f}, {over(run)}"
  )
  return measured, every(above(gain), above(moves))


def principal(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: at equal accuracy on the target LIFT forgets least."""
  kept = rows(run, "source at equal target (%)")
  there = rows(run, "target there (%)")
  gaps = {n: kept["LIFT"] - kept[n] for n in kept if n != "LIFT"}
  shown = ", ".join(f"{name} {points(gap)}" for name, gap in gaps.items())
  reach = ", ".join(f"{name} {x.mean():.1f}" for name, x in there.items())
  measured = (
    f"accuracy on the source at equal accuracy on the target, LIFT less others:"
    f" {shown}; on the target there: {reach} %, {over(run)}"
  )
  return measured, every(above(gaps["full"], 20.0), above(gaps["LoRA"], 10.0))


def merging(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: TIES with allocated densities is above equal and global ones."""
  right = rows(run, "accuracy (%)")
  parts: list[str] = []
  verdicts: list[Verdict] = []
  for density in run.config.densities:
    for method in ("TIES", "DARE"):
      ways = {w: right[f"{method}, {w}, {density:.0%}"] for w in DENSITIES}
      gaps = [ways["allocated"] - ways[w] for w in ("equal", "global")]
      parts.append(
        f"{method} at {density:.0%}: {points(gaps[0])} over equal,"
        f" {points(gaps[1])} over global"
      )
      if method == "TIES":
        verdicts += map(above, gaps)
  told = "; ".join(parts)
  measured = f"accuracy with allocated densities, {told}, {over(run)}"
  return measured, every(*verdicts)


DENSITIES = ("equal", "global", "allocated")
CLAIMS = {
  "exclusive": Claim(exclusive),
  "iso_flop": Claim(iso_flop),
  "jackpots": Claim(jackpots),
  "merging": Claim(merging),
  "principal": Claim(principal),
  "rate_distortion": Claim(rate_distortion),
  "tickets": Claim(tickets),
}
