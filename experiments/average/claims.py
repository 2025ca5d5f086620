"""What each claim about trajectories asks, and whether a run grants it.

>>> sorted(CLAIMS)[:2]
['data_diet', 'free_lunch']
"""

import numpy as np

from experiments.run import runs
from experiments.run.claims import Claim, above, below, rows, said


def free_lunch(run: runs.Run) -> tuple[str, bool]:
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
  return measured, above(gain) and below(calm) and above(heads)


def mwa(run: runs.Run) -> tuple[str, bool]:
  """Judge: loss weights are not worse than the uniform mean, or the last."""
  found = rows(run, "test loss")
  gap = found["MWA by loss"] - found["uniform"]
  step = found["MWA by step"] - found["uniform"]
  last = found["MWA by loss"] - found["last checkpoint"]
  measured = (
    f"test loss, MWA by loss minus uniform: {said(gap, 'nats')}; by step minus"
    f" uniform: {said(step, 'nats')}; by loss minus last: {said(last, 'nats')},"
    f" over {len(gap)} seeds"
  )
  return measured, below(gap) and below(last)


def lcsc(run: runs.Run) -> tuple[str, bool]:
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
  return measured, worst <= 1e-6 and below(gap)


def mindvl(run: runs.Run) -> tuple[str, bool]:
  """Judge: the mean over lengths is no worse than the best single length."""
  found = rows(run, "mean test loss")
  single = [x for name, x in found.items() if name.startswith("tuned")]
  best = min(single, key=np.mean)
  gap = found["average"] - best
  own = []
  for name in found:
    if name.startswith("tuned at "):
      length = name.removeprefix("tuned at ")
      there = {n: x.mean() for n, x in rows(run, f"at {length}").items()}
      tuned = {n: x for n, x in there.items() if n.startswith("tuned")}
      own.append(min((x, n) for n, x in tuned.items())[1] == name)
  measured = (
    f"mean test loss over lengths, average minus best single: "
    f"{said(gap, 'nats')} over {len(gap)} seeds; {sum(own)} of {len(own)}"
    " members are the best at their own length"
  )
  return measured, below(gap - 0.005)


def signal_noise(run: runs.Run) -> tuple[str, bool]:
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
  return measured, below(quiet) and above(better)


def zscl(run: runs.Run) -> tuple[str, bool]:
  """Judge: averaging keeps the old domain at little cost in the new."""
  old, new = rows(run, "old domain (%)"), rows(run, "new domain (%)")
  kept = old["weight ensemble"] - old["fine-tuned"]
  cost = new["weight ensemble"] - new["fine-tuned"]
  measured = (
    f"weight ensemble minus fine-tuned: old domain {said(kept, 'points')}, new"
    f" domain {said(cost, 'points')}, over {len(kept)} seeds"
  )
  return measured, above(kept) and above(cost + 1.0)


def sparse_soups(run: runs.Run) -> tuple[str, bool]:
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
  return measured, same and below(members) and below(single)


def data_diet(run: runs.Run) -> tuple[str, bool]:
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
  return measured, above(gap) and below(fall)


CLAIMS = {
  "free_lunch": Claim(
    "Averaging the checkpoints of a run is more accurate under shift than its"
    " last checkpoint and varies less over rates and runs; averages of runs"
    " need a shared head.",
    free_lunch,
  ),
  "mwa": Claim(
    "Weighting checkpoints by training loss gives a lower loss than their"
    " uniform mean and than the last one.",
    mwa,
  ),
  "lcsc": Claim(
    "Searched signed coefficients over checkpoints are below the best EMA and"
    " the best checkpoint, on held-out text too.",
    lcsc,
  ),
  "mindvl": Claim(
    "The mean of models tuned at different lengths is as good over all lengths"
    " as the best of them (within 0.005 nats).",
    mindvl,
  ),
  "signal_noise": Claim(
    "Scores averaged over checkpoints have less noise and rank recipes more"
    " often as a large test does.",
    signal_noise,
  ),
  "zscl": Claim(
    "A running mean of the weights while fine-tuning keeps the old domain"
    " better, within a point in the new.",
    zscl,
  ),
  "sparse_soups": Claim(
    "The average of retrained copies of a pruned network keeps the mask and has"
    " a lower loss than the copies and than iterative magnitude pruning.",
    sparse_soups,
  ),
  "data_diet": Claim(
    "The barrier between children of one parent is larger on examples of high"
    " EL2N, and falls the later they are spawned.",
    data_diet,
  ),
}
