"""What each claim about weights and data asks, and whether a run grants it.

>>> sorted(CLAIMS)
['adamp', 'consistency', 'd2nwg', 'dwa', 'trajectories', 'weights']
"""

from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  correlated,
  every,
  exact,
  not_below,
  over,
  points,
  rows,
  said,
)
from experiments.run.estimates import correlation, fisher_z

FAR = 20.0  # points above an untrained network that count as far: ours
TRIP = 0.5  # points that a round trip may cost: papers.md
SLOWER = 1.0  # points that smooth experts may cost: papers.md
WORSE = 0.3  # points of accuracy below Adam that count as equal: ours
LAW = 1e-6  # the largest error of a closed form in float32


def adamp(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: norms grow less than with Adam, accuracy is not lower."""
  growth, right = rows(run, "log growth"), rows(run, "test (%)")
  less = growth["AdamP"] - growth["Adam"]
  gap = right["AdamP"] - right["Adam"]
  text = f"AdamP minus Adam: log growth of norms {said(less)}, {points(gap)}"
  if "SGDP" in growth:
    text += (
      f"; SGDP minus SGD: {said(growth['SGDP'] - growth['SGD'])},"
      f" {points(right['SGDP'] - right['SGD'])}"
    )
  return f"{text}, {over(run)}", every(below(less), not_below(gap, WORSE))


def consistency(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: samples are nearer to the data without a lagging teacher."""
  far = rows(run, "energy distance")
  error = max(rows(run, "error of the law")["teacher's rate 0"])
  own = far.pop("teacher's rate 0")
  gaps = {name: own - values for name, values in far.items()}
  texts = [f"{name}: {said(gap)}" for name, gap in gaps.items()]
  text = f"energy distance, rate 0 minus {'; '.join(texts)}; largest error of"
  text += f" the law on one point {error:.1e}, {over(run)}"
  return text, every(exact(error <= LAW), *map(below, gaps.values()))


def d2nwg(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the basis keeps accuracy, samples have it, the best as much."""
  names = "round trip", "sampled (%)"
  trip, made = (rows(run, name)["one start"] for name in names)
  untrained, zoo, best = (
    rows(run, name)["one start"]
    for name in ("untrained (%)", "zoo (%)", "best (%)")
  )
  apart = rows(run, "sampled (%)")
  text = (
    f"one start: round trip {points(trip)}; samples for unseen classes minus"
    f" untrained {points(made - untrained)}; best minus mean of the zoo"
    f" {points(best - zoo)}; minus the samples of starts apart:"
    f" {points(made - apart['starts apart'])}, which units matched raise by"
    f" {points(apart['apart, units matched'] - apart['starts apart'])}"
  )
  verdicts = (
    not_below(trip, TRIP),
    above(made - untrained, FAR),
    not_below(best - zoo),
  )
  return f"{text}, {over(run)}", every(*verdicts)


def trajectories(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: smooth experts, no worse ones, and images better than real ones."""
  step, right = rows(run, "largest step"), rows(run, "expert's test (%)")
  student = rows(run, "student's test (%)")
  plain, smooth = "plain experts", "smooth experts"
  calmer, cost = (x[smooth] - x[plain] for x in (step, right))
  gain = student[smooth] - student["as many real images"]
  other = student[smooth] - student[plain]
  text = (
    f"smooth minus plain experts: largest step {said(calmer)}, {points(cost)};"
    f" students of learned images minus those of as many real ones"
    f" {points(gain)}, minus those learned from plain experts {points(other)}"
  )
  verdicts = below(calmer), not_below(cost, SLOWER), above(gain)
  return f"{text}, {over(run)}", every(*verdicts)


def dwa(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: images of a class vary more where each batch moves its teacher."""
  wide, student = (
    rows(run, name) for name in ("variance of features", "student's test (%)")
  )
  still = "teacher as it is"
  moved = f"ascent of length {run.config.judged:g}"
  gap, gain = (x[moved] - x[still] for x in (wide, student))
  text = (
    f"variance of features, moved minus still: {said(gap)} of"
    f" {wide[still].mean():.3g}; students {points(gain)}, {over(run)}"
  )
  return text, above(gap)


def weights(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: features rank held-out members, and better than spectra do."""
  held, wider = (
    rows(run, f"rank correlation, {name}") for name in ("held out", "wider")
  )
  ours, few, deep = "all features", "norms and spectra", "equivariant layers"
  text = (
    f"rank correlation with test accuracy, held out:"
    f" {said(correlation(held[ours]))}; on a wider network:"
    f" {said(correlation(wider[ours]))}; minus norms and spectra alone:"
    f" {said(held[ours] - held[few])}, {said(wider[ours] - wider[few])};"
    f" equivariant layers minus features: {said(held[deep] - held[ours])},"
    f" {said(wider[deep] - wider[ours])}"
  )
  better = above(fisher_z(held[ours]) - fisher_z(held[few]))
  known = correlated(held[ours], 0.5), correlated(wider[ours], 0.5)
  return f"{text}, {over(run)}", every(*known, better)


CLAIMS = {
  "adamp": Claim(adamp),
  "consistency": Claim(consistency),
  "d2nwg": Claim(d2nwg),
  "dwa": Claim(dwa),
  "trajectories": Claim(trajectories),
  "weights": Claim(weights),
}
