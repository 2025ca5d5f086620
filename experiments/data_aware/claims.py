"""What papers say of data-aware merges, each judged from the lines of a run.

>>> sorted(CLAIMS)[:3]
['ama', 'atlas', 'bench']
"""

import numpy as np

from experiments.run import claims, runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  exact,
  over,
  said,
)

Finding = tuple[str, Verdict]
TUNED = "tuned (%)"


def regmean(run: runs.Run) -> Finding:
  """Judge: RegMean is above Fisher, and Fisher above the average."""
  found = claims.rows(run, TUNED)
  plain = claims.rows(run, "untuned (%)")
  steps = [("RegMean", "Fisher"), ("Fisher", "average")]
  texts = [
    f"{a} minus {b}: tuned {said(found[a] - found[b], 'points')}, untuned"
    f" {said(plain[a] - plain[b], 'points')}"
    for a, b in steps
  ]
  holds = every(*(above(found[a] - found[b]) for a, b in steps))
  return f"{'; '.join(texts)}, {over(run)}", holds


def regmean_pp(run: runs.Run) -> Finding:
  """Judge: RegMean++ is at least RegMean."""
  texts, gains = [], []
  for metric in (TUNED, "untuned (%)"):
    found = claims.rows(run, metric)
    gain = found["RegMean++"] - found["RegMean"]
    texts.append(f"{metric.split()[0]} {said(gain, 'points')}")
    gains.append(gain)
  text = f"RegMean++ minus RegMean: {', '.join(texts)}, {over(run)}"
  return text, every(above(gains[0]), exact(not below(gains[1])))


def bench(run: runs.Run) -> Finding:
  """Judge: merges with data beat task arithmetic, mean over methods."""
  found = claims.rows(run, TUNED)
  ends = ("experts", "base", "average", "task arithmetic")
  names = [name for name in found if name not in ends]
  gains = {n: found[n] - found["task arithmetic"] for n in names}
  text = "; ".join(f"{n} {said(x, 'points')}" for n, x in gains.items())
  mean = np.mean(list(gains.values()), 0)
  text = f"minus tuned task arithmetic: {text}; mean {said(mean, 'points')}"
  return f"{text}, {over(run)}", above(mean)


def atlas(run: runs.Run) -> Finding:
  """Judge: a coefficient a leaf beats one a task, and the base, on test."""
  shown = claims.rows(run, "new task (%)")
  fit = claims.rows(run, "log-likelihood of the few")
  leaf, task = (f"aTLAS, by {by}" for by in ("leaf", "task"))
  gain, more = shown[leaf] - shown["base"], shown[leaf] - shown[task]
  fitted = fit[leaf] - fit[task]
  text = (
    f"by leaf minus base {said(gain, 'points')}, minus by task"
    f" {said(more, 'points')} on test images of the new task; log-likelihood of"
    f" the few {said(fitted, 'nats')} over by task, {over(run)}"
  )
  return text, every(above(gain), above(more))


def front(run: runs.Run) -> Finding:
  """Judge: surrogates fit the grid, and their front beats random mixes."""
  own = claims.rows(run, "hypervolume over the grid's (%)")
  shown = claims.rows(run, "on test (%)")
  names = [name for name in own if name.startswith("MAP")]
  last, rival = names[-1], names[-1].replace("MAP", "random")
  fits = claims.rows(run, "least R2")[last]
  texts = [
    f"{name} evaluations {_share(own[name])} (test {_share(shown[name])})"
    for name in names
  ]
  text = (
    f"hypervolume over the grid's: {'; '.join(texts)}; {last} minus as many at"
    f" random {said(own[last] - own[rival], 'points')}; least R2 of the"
    f" surrogates on the grid {said(fits, '', 3, signed=False)}, {over(run)}"
  )
  return text, every(above(own[last] - own[rival]), above(fits, 0.9))


def _share(values: np.ndarray) -> str:
  return said(values, "%", 1, signed=False)


def tax(run: runs.Run) -> Finding:
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
    f" {'; '.join(texts)}, {over(run)}"
  )
  return text, every(*map(above, gains))


def cfg(run: runs.Run) -> Finding:
  """Judge: every mix between the two lies above the line between them."""
  top = claims.rows(run, "above the chord")["interpolated"]
  inside = claims.rows(run, "least interior")
  least = inside["interpolated"]
  more = least - inside["random direction"]
  text = (
    f"furthest above the chord {said(top, 'of the range')}, least of the"
    f" interior {said(least, 'of the range')}, minus that of a random direction"
    f" {said(more, 'of the range')}, {over(run)}"
  )
  return text, every(above(top), above(least), above(more))


def moe(run: runs.Run) -> Finding:
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
    f" merged minus members {said(rank, '')}, {over(run)}"
  )
  return text, every(below(weighed), below(ordered), below(rank))


CLAIMS = {
  "regmean": Claim(regmean),
  "regmean_pp": Claim(regmean_pp),
  "bench": Claim(bench),
  "atlas": Claim(atlas),
  "map": Claim(front),
  "ama": Claim(tax),
  "cfg": Claim(cfg),
  "moe": Claim(moe),
}
