"""What each claim about sizes asks, and whether a run grants it.

>>> sorted(CLAIMS)[:2]
['assembling', 'bignas']
"""

import math

import numpy as np

from experiments.grow import blocks, inheritance, modules, searches, widths
from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  exact,
  over,
  points,
  rows,
  said,
)

RATIO = 1.4  # of steps, at least: the abstract of TinyCLIP
FAR = 80.0  # percent, untuned and half as deep again: far above chance
MARGIN = -1.5  # points, of slices against networks alone
GAP = -20.0  # points, of slices of a plain network
RAW = 30.0  # points, of a shared meta network over unrelated ones
TUNED = -0.5  # points, of assembled and tuned against end to end
DENSE = -1.0  # points, of tickets against the dense network
IDENTITY = 1e-5  # of a mixture of slices


def tinyclip(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: inherited students reach scratch's loss in fewer steps."""
  steps = rows(run, inheritance.STEPS)
  gain = np.log(steps["scratch"] / steps["inherited"])
  best = np.log(steps["scratch"] / steps["inherited and aligned"])
  more = np.log(steps["inherited"] / steps["inherited and aligned"])
  measured = (
    f"ln of steps, scratch over inherited: {said(gain)} (a ratio of"
    f" {math.exp(gain.mean()):.2f}); units by score: {said(best)}"
    f" ({math.exp(best.mean()):.2f}), against the leading ones {said(more)},"
    f" {over(run)}"
  )
  return measured, above(gain, math.log(RATIO))


def learngene(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: expanded networks begin far up, and are ahead after tuning."""
  tuned, raw = rows(run, inheritance.TUNED), rows(run, inheritance.UNTUNED)
  depths = [
    name.removeprefix("expanded, ") for name in tuned if "expanded" in name
  ]
  gains = {d: tuned[f"expanded, {d}"] - tuned[f"scratch, {d}"] for d in depths}
  far = [raw[f"expanded, {d}"] for d in depths]
  parts = ", ".join(f"{d} {points(gain)}" for d, gain in gains.items())
  measured = (
    f"accuracy after equal tuning, expanded minus scratch: {parts}; untuned"
    f" {min(x.mean() for x in far):.1f} % or more, {over(run)}"
  )
  return measured, every(
    *map(above, gains.values()), *(above(x, FAR) for x in far)
  )


def bignas(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: slices are near networks alone, those of a plain one are not."""
  right = rows(run, widths.ACCURACY)
  shares = [n.removeprefix("alone, ") for n in right if "alone" in n]
  gaps = {s: right[f"sandwich, {s}"] - right[f"alone, {s}"] for s in shares}
  hard = [
    right[f"sandwich, hard labels, {s}"] - right[f"alone, {s}"] for s in shares
  ]
  least = min(shares, key=lambda s: float(s.rstrip("%")))
  plain = right[f"plain, {least}"] - right[f"alone, {least}"]
  parts = ", ".join(f"{s} {points(gap)}" for s, gap in gaps.items())
  labels = ", ".join(f"{gap.mean():+.2f}" for gap in hard)
  measured = (
    f"slices minus networks alone: {parts}; with hard labels {labels}; plain"
    f" training, {least}: {points(plain)}, {over(run)}"
  )
  near = [above(gap, MARGIN) for gap in gaps.values()]
  return measured, every(*near, below(plain, GAP))


def tanglenas(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: exact, as wide as the largest, and better than random search."""
  better, error, wide = (
    rows(run, name)
    for name in (searches.PERCENTILE, searches.ERROR, searches.WIDEST)
  )
  worst = max(float(x.max()) for x in error.values())
  widest = max(float(x.max()) for x in wide.values())
  parts = "; ".join(
    f"{name} {said(x, signed=False, digits=1)}" for name, x in better.items()
  )
  measured = (
    f"architectures that the chosen one beats, in percent: {parts}; mixture of"
    f" slices against mixed weight: {worst:.1e} at most; widest value of the"
    f" program over the plain one's, parameters counted: {widest:.2f},"
    f" {over(run)}"
  )
  same = exact(worst <= IDENTITY), exact(widest <= 1.0)
  return measured, every(*same, above(better["DrNAS"], 50.0))


def mixture_growth(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: recombined templates are a better fill than random numbers."""
  mean = rows(run, "mean of the curve (%)")
  last = rows(run, "in the end (%)")
  gap = mean["recombined"] - mean["random"]
  zero = mean["recombined"] - mean["zero"]
  end = last["recombined"] - last["random"]
  measured = (
    f"mean accuracy after growth, recombined minus random fill: {points(gap)};"
    f" minus zero fill: {points(zero)}; in the end, minus random:"
    f" {points(end)}, {over(run)}"
  )
  return measured, above(gap)


def assembling(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: modules fit when their meta network is one, and tune well."""
  right = rows(run, modules.ACCURACY)
  raw = right["shared, untuned"] - right["unrelated, untuned"]
  tuned = right["shared, tuned"] - right["end to end"]
  all_ = right["shared, tuned"] - right["end to end, all steps"]
  measured = (
    f"untuned, shared minus unrelated meta networks: {points(raw)}; tuned minus"
    f" end to end at the steps of tuning: {points(tuned)}, at all steps:"
    f" {points(all_)}, {over(run)}"
  )
  return measured, every(above(raw, RAW), above(tuned, TUNED))


def layer_tickets(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: without some blocks as good as dense, and better than narrow."""
  right = rows(run, blocks.ACCURACY)
  removed = [name for name in right if name.endswith(" blocks")]
  dense = {n: right[n] - right["dense"] for n in removed}
  narrow = {n: right[n] - right[f"width like {n.split()[0]}"] for n in removed}
  parts = "; ".join(
    f"without {n} {points(dense[n])} to dense, {points(narrow[n])} to narrow"
    for n in removed
  )
  measured = f"accuracy {parts}, {over(run)}"
  near = [above(gap, DENSE) for gap in dense.values()]
  return measured, every(*near, *map(above, narrow.values()))


def supernets(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: several supernets rank configurations better than one."""
  rank = rows(run, blocks.RANK)
  counts = list(rank)
  gain = rank[counts[-1]] - rank[counts[0]]
  means = ", ".join(f"{name}: {x.mean():.2f}" for name, x in rank.items())
  measured = (
    f"rank correlation with training alone, {means}; {counts[-1]} minus"
    f" {counts[0]}: {said(gain)}, {over(run)}"
  )
  return measured, above(gain)


CLAIMS = {
  "assembling": Claim(assembling),
  "bignas": Claim(bignas),
  "layer_tickets": Claim(layer_tickets),
  "learngene": Claim(learngene),
  "mixture_growth": Claim(mixture_growth),
  "supernets": Claim(supernets),
  "tanglenas": Claim(tanglenas),
  "tinyclip": Claim(tinyclip),
}
