"""What each claim about replicas asks, and whether a run grants it.

>>> sorted(CLAIMS)
['fedau', 'fedpeft', 'noloco']
"""

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


def noloco(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: replicas stay together, as good as its paper's DiLoCo within 2 %."""
  apart = rows(run, "distance to the mean")
  loss = rows(run, "replicas' test loss")
  sent = rows(run, "kB a step and replica")
  ratio = apart["NoLoCo"] / apart["alone"]
  names = "DiLoCo, heavy ball", "DiLoCo, Nesterov"
  gaps = [100 * (loss["NoLoCo"] / loss[name] - 1) for name in names]
  measured = (
    f"distance to the mean, NoLoCo over no exchange: {ratio.mean():.2f}; test"
    f" loss of its replicas minus DiLoCo's with the heavy ball of its paper:"
    f" {said(gaps[0], '%')}, with DiLoCo's own Nesterov: {said(gaps[1], '%')};"
    f" kB a step and replica: NoLoCo {sent['NoLoCo'].mean():.1f}, DiLoCo"
    f" {sent[names[0]].mean():.1f}, all-reduce {sent['all-reduce'].mean():.1f},"
    f" over {len(ratio)} seeds"
  )
  return measured, every(below(ratio, 0.5), below(gaps[0], 2.0))


def fedau(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: below FedAvg, which forgets who is seldom there."""
  loss = rows(run, "test loss")
  names = ("FedAvg of those present", "FedAvg of all")
  gaps = [loss["FedAU"] - loss[name] for name in names]
  known = loss["FedAU"] - loss["known rates"]
  measured = (
    f"test loss, FedAU minus FedAvg of those present: {said(gaps[0], 'nats')},"
    f" of all: {said(gaps[1], 'nats')}; minus known rates:"
    f" {said(known, 'nats')}, over {len(known)} seeds"
  )
  return measured, every(*map(below, gaps))


def fedpeft(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: a part is within two points of all, for a share of the bytes."""
  right = rows(run, "accuracy (%)")
  sent = rows(run, "kB a round and client")
  gap = right["biases and head"] - right["all parameters"]
  bias = right["biases"] - right["all parameters"]
  share = 100 * sent["biases and head"].mean() / sent["all parameters"].mean()
  still = all(
    (x == 0).all() for x in rows(run, "frozen leaves changed").values()
  )
  measured = (
    f"accuracy, biases and head minus all parameters: {said(gap, 'points')} at"
    f" {share:.1f} % of the bytes; biases alone: {said(bias, 'points')}; frozen"
    f" leaves {'kept' if still else 'changed'}, over {len(gap)} seeds"
  )
  return measured, every(exact(still), above(gap, -2.0))


CLAIMS = {
  "noloco": Claim(noloco),
  "fedau": Claim(fedau),
  "fedpeft": Claim(fedpeft),
}
