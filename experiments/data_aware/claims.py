"""What papers say of data-aware merges, each judged from the lines of a run.

>>> sorted(CLAIMS)[:3]
['ama', 'atlas', 'bench']
"""

import numpy as np

from experiments.run import claims, runs
from experiments.run.claims import Claim, above, below, said
from weightspace import intervals

Verdict = tuple[str, bool]
TUNED = "tuned (%)"


def _seeds(run: runs.Run) -> str:
  return f"over {run.config.seeds} seeds"


def regmean(run: runs.Run) -> Verdict:
  """Judge: RegMean is above Fisher, and Fisher above the average."""
  found = claims.rows(run, TUNED)
  plain = claims.rows(run, "untuned (%)")
  steps = [("RegMean", "Fisher"), ("Fisher", "average")]
  texts = [
    f"{a} minus {b}: tuned {said(found[a] - found[b], 'points')}, untuned"
    f" {said(plain[a] - plain[b], 'points')}"
    for a, b in steps
  ]
  holds = all(above(found[a] - found[b]) for a, b in steps)
  return f"{'; '.join(texts)}, {_seeds(run)}", holds


def regmean_pp(run: runs.Run) -> Verdict:
  """Judge: RegMean++ is at least RegMean."""
  texts, holds = [], True
  for metric in (TUNED, "untuned (%)"):
    found = claims.rows(run, metric)
    gain = found["RegMean++"] - found["RegMean"]
    texts.append(f"{metric.split()[0]} {said(gain, 'points')}")
    holds = holds and not below(gain)
    holds = holds and (metric != TUNED or above(gain))
  text = f"RegMean++ minus RegMean: {', '.join(texts)}, {_seeds(run)}"
  return text, holds


def bench(run: runs.Run) -> Verdict:
  """Judge: merges with data beat task arithmetic, mean over methods."""
  found = claims.rows(run, TUNED)
  ends = ("experts", "base", "average", "task arithmetic")
  names = [name for name in found if name not in ends]
  gains = {n: found[n] - found["task arithmetic"] for n in names}
  text = "; ".join(f"{n} {said(x, 'points')}" for n, x in gains.items())
  mean = np.mean(list(gains.values()), 0)
  text = f"minus tuned task arithmetic: {text}; mean {said(mean, 'points')}"
  return f"{text}, {_seeds(run)}", above(mean)


def atlas(run: runs.Run) -> Verdict:
  """Judge: a coefficient a leaf beats one a task; both beat the base."""
  shown = claims.rows(run, "new task (%)")
  fit = claims.rows(run, "log-likelihood of the few")
  leaf, task = (f"aTLAS, by {by}" for by in ("leaf", "task"))
  gain, over = shown[leaf] - shown["base"], shown[leaf] - shown[task]
  fitted = fit[leaf] - fit[task]
  text = (
    f"by leaf minus base {said(gain, 'points')}, minus by task"
    f" {said(over, 'points')} on test images of the new task; log-likelihood of"
    f" the few {said(fitted, 'nats')} over by task, {_seeds(run)}"
  )
  return text, above(gain) and above(fitted) and not below(over)


def front(run: runs.Run) -> Verdict:
  """Judge: few evaluations give nearly the front of the grid."""
  own = claims.rows(run, "hypervolume over the grid's (%)")
  shown = claims.rows(run, "on test (%)")
  names = [name for name in own if name.startswith("MAP")]
  last, rival = names[-1], names[-1].replace("MAP", "random")
  texts = [
    f"{name} evaluations {_share(own[name])} (test {_share(shown[name])})"
    for name in names
  ]
  text = (
    f"hypervolume over the grid's: {'; '.join(texts)}; {last} minus as many at"
    f" random {said(own[last] - own[rival], 'points')}, {_seeds(run)}"
  )
  return text, intervals.mean_interval(own[last]).low > 97.0


def _share(values: np.ndarray) -> str:
  found = intervals.mean_interval(values)
  return f"{found.mean:.1f} % [{found.low:.1f}, {found.high:.1f}]"


def tax(run: runs.Run) -> Verdict:
  """Judge: at AMA's reward, one ratio has a lower likelihood of text."""
  reward = claims.rows(run, "reward (%)")
  skill = claims.rows(run, "log-likelihood")
  one = [name for name in reward if name.startswith("one ratio")]
  line = np.array([reward[n] for n in one]), np.array([skill[n] for n in one])
  texts, gains = [], []
  for name in reward:
    if name.startswith("AMA"):
      beside = [
        np.interp(at, line[0][:, seed], line[1][:, seed])
        for seed, at in enumerate(reward[name])
      ]
      gains.append(skill[name] - np.array(beside))
      texts.append(f"mean {name.split()[-1]} {said(gains[-1], 'nats')}")
  text = (
    f"log-likelihood of text minus that of one ratio at the same reward:"
    f" {'; '.join(texts)}, {_seeds(run)}"
  )
  return text, all(map(above, gains))


def cfg(run: runs.Run) -> Verdict:
  """Judge: every mix between the two lies above the line between them."""
  top = claims.rows(run, "above the chord")["interpolated"]
  least = claims.rows(run, "least interior")["interpolated"]
  text = (
    f"furthest above the chord {said(top, 'of the range')}, least of the"
    f" interior {said(least, 'of the range')}, {_seeds(run)}"
  )
  return text, above(top) and above(least)


def moe(run: runs.Run) -> Verdict:
  """Judge: alignment and frequencies each lower the loss of merged experts."""
  found = claims.rows(run, "test loss")
  ranks = claims.rows(run, "stable rank")
  best = "by frequency, aligned"
  weighed = found[best] - found["mean, aligned"]
  ordered = found[best] - found["by frequency, as they are"]
  rank = ranks[best] - ranks["all experts"]
  text = (
    f"test loss by frequency minus mean, both aligned,"
    f" {said(weighed, 'nats')}; aligned minus as they are, both by frequency,"
    f" {said(ordered, 'nats')}; minus all experts"
    f" {said(found[best] - found['all experts'], 'nats')}; stable rank of"
    f" merged minus members {said(rank, '')}, {_seeds(run)}"
  )
  return text, below(weighed) and below(ordered) and below(rank)


CLAIMS = {
  "regmean": Claim(
    "Across tasks RegMean is above Fisher merging, and Fisher above the"
    " average, all with a tuned coefficient.",
    regmean,
  ),
  "regmean_pp": Claim(
    "In a deep network RegMean++, whose inputs come through the merged layers,"
    " is above RegMean.",
    regmean_pp,
  ),
  "bench": Claim(
    "Merges that look at data beat tuned task arithmetic, mean over methods.",
    bench,
  ),
  "atlas": Claim(
    "A coefficient for each parameter array fits a new task from a few"
    " examples better than one for each task vector, and beats the base.",
    atlas,
  ),
  "map": Claim(
    "A front from a few evaluations has nearly the hypervolume of a dense"
    " grid's (over 97 %).",
    front,
  ),
  "ama": Claim(
    "At the same reward, ratios by part keep more likelihood of text than one"
    " ratio.",
    tax,
  ),
  "cfg": Claim(
    "Between a policy tuned for quality and one tuned for diversity too, every"
    " mix lies above the line between them.",
    cfg,
  ),
  "moe": Claim(
    "Aligning experts and weighing them by frequency each lower the loss of"
    " the merged mixture; merged experts have a lower stable rank.",
    moe,
  ),
}
