"""What each claim about trajectories asks, and whether a run grants it.

>>> sorted(CLAIMS)[:2]
['data_diet', 'free_lunch']
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
  rows,
  said,
)

WORSE = 0.5  # points by which it would be better after all: ours
CLOSE = 0.005  # nats that count as equal: ours, and papers.md's for lengths


def free_lunch(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: checkpoint averages gain under shift, and vary less."""
  right, spread = (
    rows(run, name) for name in ("shifted accuracy (%)", "spread (points)")
  )
  mean, last = "CA, shared head", "last, shared head"
  gain, calm = right[mean] - right[last], spread[mean] - spread[last]
  both = "CA + RA, "
  heads = right[f"{both}shared head"] - right[f"{both}own head"]
  more = right[f"{both}shared head"] - right[mean]
  measured = (
    f"checkpoint average minus last checkpoint under shift: "
    f"{said(gain, 'points')}; spread over rates and runs: "
    f"{said(calm, 'points')}; run average on top: {said(more, 'points')}; run"
    f" average with a shared head minus own heads: {said(heads, 'points')},"
    f" over {len(gain)} seeds"
  )
  return measured, every(above(gain), below(calm), above(heads))


def mwa(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: loss weights beat the uniform mean and the last, and meet rivals."""
  found = rows(run, "test loss")
  gap = found["MWA by loss"] - found["uniform"]
  step = found["MWA by step"] - found["uniform"]
  last = found["MWA by loss"] - found["last checkpoint"]
  rivals = {n: found["MWA by loss"] - found[n] for n in ("EMA", "last k")}
  others = ", ".join(f"{n} {said(x, 'nats')}" for n, x in rivals.items())
  measured = (
    f"test loss, MWA by loss minus uniform: {said(gap, 'nats')}; by step minus"
    f" uniform: {said(step, 'nats')}; by loss minus last: {said(last, 'nats')};"
    f" minus what is chosen as freely, {others},"
    f" over {len(gap)} seeds"
  )
  close = (below(x, CLOSE) for x in rivals.values())
  return measured, every(below(gap), below(last), *close)


def lcsc(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: on the data of the search by construction, on held-out text too."""
  inside, outside = rows(run, "validation loss"), rows(run, "test loss")
  rivals = ("best checkpoint", "EMA", "uniform")
  worst = max(float((inside["LCSC"] - inside[r]).max()) for r in rivals)
  gap = outside["LCSC"] - outside["EMA"]
  best = outside["LCSC"] - outside["best checkpoint"]
  measured = (
    f"test loss, LCSC minus best EMA: {said(gap, 'nats')}, minus best"
    f" checkpoint: {said(best, 'nats')}; on the text of the search minus the"
    f" best rival: {worst:+.4f} at worst, over {len(gap)} seeds"
  )
  return measured, every(exact(worst <= 1e-6), below(gap))


def mindvl(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the mean over lengths meets the best, and beats one length's."""
  found = rows(run, "mean test loss")
  single = [x for name, x in found.items() if name.startswith("tuned")]
  best = min(single, key=np.mean)
  gap = found["average"] - best
  same = found["average"] - found["average at one length"]
  own = []
  for name in found:
    if name.startswith("tuned at "):
      length = name.removeprefix("tuned at ")
      there = {n: x.mean() for n, x in rows(run, f"at {length}").items()}
      tuned = {n: x for n, x in there.items() if n.startswith("tuned")}
      own.append(min((x, n) for n, x in tuned.items())[1] == name)
  measured = (
    f"mean test loss over lengths, average minus best single: "
    f"{said(gap, 'nats')}, minus the average of as many at one length"
    f" {said(same, 'nats')}, over {len(gap)} seeds; {sum(own)} of {len(own)}"
    " members are the best at their own length"
  )
  return measured, every(below(gap, CLOSE), below(same))


def signal_noise(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: averaged scores are quieter, and decide as well or better."""
  noise, decided = (
    rows(run, name) for name in ("noise (%)", "decision accuracy (%)")
  )
  quiet = noise["averaged"] - noise["last checkpoint"]
  better = decided["averaged"] - decided["last checkpoint"]
  measured = (
    f"decision accuracy, averaged minus last checkpoint:"
    f" {said(better, 'points')}; noise: {said(quiet, 'points')}, over"
    f" {len(quiet)} seeds"
  )
  return measured, every(below(quiet), above(better))


def zscl(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: averaging keeps the old domain at little cost in the new.

  But not better than a mix of start and end at the same cost.
  """
  old, new = rows(run, "old domain (%)"), rows(run, "new domain (%)")
  kept = old["weight ensemble"] - old["fine-tuned"]
  cost = new["weight ensemble"] - new["fine-tuned"]
  plain = old["weight ensemble"] - old["WiSE-FT, as much of the new"]
  measured = (
    f"weight ensemble minus fine-tuned: old domain {said(kept, 'points')}, new"
    f" domain {said(cost, 'points')}; minus the mix of start and end that has"
    f" as much of the new domain: old domain {said(plain, 'points')}, over"
    f" {len(kept)} seeds"
  )
  return measured, every(above(kept), above(cost, -1.0), below(plain, WORSE))


def sparse_soups(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: equal zeros, and a lower loss than members and than IMP."""
  loss, zeros = rows(run, "test loss"), rows(run, "zeros (%)")
  right = rows(run, "accuracy (%)")
  members = loss["soup"] - loss["mean member"]
  single = loss["soup"] - loss["IMP"]
  points = right["soup"] - right["IMP"]
  same = bool(np.allclose(zeros["soup"], zeros["mean member"], atol=1e-4))
  measured = (
    f"test loss at {zeros['soup'].mean():.1f} % zeros, soup minus mean member:"
    f" {said(members, 'nats')}; minus IMP: {said(single, 'nats')}, accuracy"
    f" {said(points, 'points')}, over {len(members)} seeds"
  )
  return measured, every(exact(same), below(members), below(single))


def data_diet(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: barriers are larger on hard examples, and fall with training."""
  found = rows(run, "error barrier (points)")
  names = [name for name in found if name.startswith("hard")]
  first, last = names[0], names[-1]
  gap = np.mean([found[n] - found[n.replace("hard", "easy")] for n in names], 0)
  fall = found[last] - found[first]
  measured = (
    f"error barrier between children, hard minus easy examples: "
    f"{said(gap, 'points')}; on hard ones from the first parent to the last:"
    f" {said(fall, 'points')}, over {len(gap)} seeds"
  )
  return measured, every(above(gap), below(fall))


CLAIMS = {
  "free_lunch": Claim(free_lunch),
  "mwa": Claim(mwa),
  "lcsc": Claim(lcsc),
  "mindvl": Claim(mindvl),
  "signal_noise": Claim(signal_noise),
  "zscl": Claim(zscl),
  "sparse_soups": Claim(sparse_soups),
  "data_diet": Claim(data_diet),
}
