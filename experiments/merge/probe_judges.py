"""Judges of what the probes of the bed found: DARE, OPCM, OptMerge, RMM.

>>> callable(dare)
True
"""

import numpy as np

from experiments.merge.judges import Finding, gap
from experiments.merge.results import TUNED, UNTUNED
from experiments.run import runs
from experiments.run.claims import (
  above,
  below,
  every,
  exact,
  gather,
  high,
  low,
  not_below,
  over,
  points,
)

# What can be done as models arrive, without validation.
CONTINUAL = ("average", "continual task arithmetic", "continual TIES")


def opcm(run: runs.Run) -> Finding:
  """Judge: constant state, orthogonal, of one length, above, order-robust."""
  size = gather(run, "bytes")
  overlap = gather(run, "overlap").max()
  length = np.abs(gather(run, "length") - 1).max()
  orders = gather(run, "test", tried="OPCM, other orders")
  spread = orders.std(1, ddof=1)
  gaps = {name: gap(run, "OPCM", name) for name in CONTINUAL}
  batch = {n: gap(run, "OPCM", n) for n in ("task arithmetic", "TIES")}
  others = ", ".join(f"{name} {points(x)}" for name, x in batch.items())
  rivals_text = ", ".join(f"{name} {points(x)}" for name, x in gaps.items())
  text = (
    f"state of {size.min() / 1e6:.2f} to {size.max() / 1e6:.2f} MB from the"
    f" first to the last model; overlap of added and merged {overlap:.0e};"
    f" length over the mean task vector's off by {length:.0e}; OPCM minus"
    f" {rivals_text}; minus those that see all models at once, tuned: {others};"
    f" standard deviation over {orders.shape[1]} orders"
    f" {points(spread)}, {over(run)}"
  )
  kept = size.min() == size.max() and overlap < 1e-5 and length < 1e-5
  steady = below(spread, 1.0)
  return text, every(exact(kept), steady, *map(above, gaps.values()))


def optmerge(run: runs.Run) -> Finding:
  """Judge: the loss descends, and OptMerge is not below, tuned or untuned."""
  loss = gather(run, "interaction")
  falls = bool((np.diff(loss, axis=1) < 0).all())
  parts = [
    f"{choice} {points(gap(run, 'OptMerge', 'task arithmetic', choice))}"
    for choice in (TUNED, UNTUNED)
  ]
  text = (
    f"interaction loss after {_steps(run)[-1]} steps at"
    f" {points(100 * loss[:, -1], '%')} of the sum's, falling throughout:"
    f" {'yes' if falls else 'no'}; OptMerge minus task arithmetic:"
    f" {', '.join(parts)}, {over(run)}"
  )
  gains = [
    gap(run, "OptMerge", "task arithmetic", choice)
    for choice in (TUNED, UNTUNED)
  ]
  return text, every(exact(falls), *map(not_below, gains))


def _steps(run: runs.Run) -> list[int]:
  return sorted({x["steps"] for x in run.lines.values() if "steps" in x})


def rmm(run: runs.Run) -> Finding:
  """Judge: the error is that of the cut-off values, and accuracy stays."""
  count = len(run.config.tasks)
  half = f"RMM, p = {(count + 1) // 2}"
  found = {
    name: gather(run, "accuracy", adapted=name)[:, 0]
    for name in ("adapters", half, f"RMM, p = {count}", "mean of products")
  }
  wrong = gather(run, "mismatch").max()
  last = gather(run, "error", reversible=f"RMM, p = {count}").max()
  stored = gather(run, "stored", reversible=half).mean()
  kept = found[half] - found["mean of products"]
  lost = found["adapters"] - found[half]
  text = (
    f"squared error off the discarded singular values by {wrong:.0e} of all,"
    f" at p = {count} {last:.0e}; {half} ({stored:.0f} % stored):"
    f" {points(kept)} above one averaged model, {points(lost)} below the"
    f" adapters themselves, {over(run)}"
  )
  identity = exact(wrong < 1e-5 and last < 1e-10)
  return text, every(identity, exact(low(kept) > high(lost)))


def dare(run: runs.Run) -> Finding:
  """Judge: 90 % of a task vector can go, and 10 % of the weights cannot."""

  def left(kind: str, rate: str) -> np.ndarray:
    return gather(run, "normalised", dropped=kind, rate=rate)[:, 0] - 100

  deltas, weights = left("deltas, rescaled", "0.9"), left("weights", "0.1")
  wide, plain = left("weights, rescaled", "0.9"), left("deltas", "0.9")
  text = (
    f"accuracy over the expert's, minus 100 %: 90 % of task vectors dropped"
    f" {points(deltas)} rescaled and {points(plain)} not, 90 % of weights"
    f" {points(wide)} (rescaled), 10 % of weights {points(weights)} (not),"
    f" {over(run)}"
  )
  return text, every(above(deltas, -2.0), below(wide, -20.0))
