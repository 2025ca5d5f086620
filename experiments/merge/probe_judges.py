"""Judges of what the probes of the bed found: DARE, OPCM, OptMerge, RMM.

>>> callable(dare)
True
"""

import numpy as np

from experiments.merge import results
from experiments.merge.judges import Verdict, gap, high, low, seeds
from experiments.merge.results import TUNED, UNTUNED
from experiments.run import runs
from experiments.wise_ft.claims import said


def opcm(run: runs.Run) -> Verdict:
  """Judge: constant state, orthogonal, of one length, above, order-robust."""
  size = results.gather(run, "bytes")
  overlap = results.gather(run, "overlap").max()
  length = np.abs(results.gather(run, "length") - 1).max()
  orders = results.gather(run, "test", tried="OPCM, other orders")
  spread = orders.std(1, ddof=1)
  rivals = [n for n in run.config.methods if not n.startswith("OPCM")]
  gaps = {name: gap(run, "OPCM", name) for name in rivals}
  above = ", ".join(f"{name} {said(x)}" for name, x in gaps.items())
  text = (
    f"state of {size.min() / 1e6:.2f} to {size.max() / 1e6:.2f} MB from the"
    f" first to the last model; overlap of added and merged {overlap:.0e};"
    f" length over the mean task vector's off by {length:.0e}; OPCM minus"
    f" {above}; standard deviation over {orders.shape[1]} orders"
    f" {said(spread)}, {seeds(run)}"
  )
  exact = size.min() == size.max() and overlap < 1e-5 and length < 1e-5
  steady = high(spread) < 1.0
  return text, exact and steady and min(map(low, gaps.values())) > 0


def optmerge(run: runs.Run) -> Verdict:
  """Judge: the loss descends step by step, and OptMerge is not below."""
  loss = results.gather(run, "interaction")
  falls = bool((np.diff(loss, axis=1) < 0).all())
  parts = [
    f"{choice} {said(gap(run, 'OptMerge', 'task arithmetic', choice))}"
    for choice in (TUNED, UNTUNED)
  ]
  text = (
    f"interaction loss after {_steps(run)[-1]} steps at"
    f" {said(100 * loss[:, -1], '%')} of the sum's, falling throughout:"
    f" {'yes' if falls else 'no'}; OptMerge minus task arithmetic:"
    f" {', '.join(parts)}, {seeds(run)}"
  )
  return text, falls and low(gap(run, "OptMerge", "task arithmetic")) >= 0


def _steps(run: runs.Run) -> list[int]:
  return sorted({x["steps"] for x in run.lines.values() if "steps" in x})


def rmm(run: runs.Run) -> Verdict:
  """Judge: the error is that of the cut-off values, and accuracy stays."""
  count = len(run.config.tasks)
  half = f"RMM, p = {(count + 1) // 2}"
  found = {
    name: results.gather(run, "accuracy", adapted=name)[:, 0]
    for name in ("adapters", half, f"RMM, p = {count}", "mean of products")
  }
  wrong = results.gather(run, "mismatch").max()
  last = results.gather(run, "error", reversible=f"RMM, p = {count}").max()
  stored = results.gather(run, "stored", reversible=half).mean()
  above = found[half] - found["mean of products"]
  lost = found["adapters"] - found[half]
  text = (
    f"squared error off the discarded singular values by {wrong:.0e} of all,"
    f" at p = {count} {last:.0e}; {half} ({stored:.0f} % stored):"
    f" {said(above)} above one averaged model, {said(lost)} below the adapters"
    f" themselves, {seeds(run)}"
  )
  return text, wrong < 1e-5 and last < 1e-10 and low(above) > high(lost)


def dare(run: runs.Run) -> Verdict:
  """Judge: 90 % of a task vector can go, and 10 % of the weights cannot."""

  def left(kind: str, rate: str) -> np.ndarray:
    return (
      results.gather(run, "normalised", dropped=kind, rate=rate)[:, 0] - 100
    )

  deltas, weights = left("deltas, rescaled", "0.9"), left("weights", "0.1")
  wide, plain = left("weights, rescaled", "0.9"), left("deltas", "0.9")
  text = (
    f"accuracy over the expert's, minus 100 %: 90 % of task vectors dropped"
    f" {said(deltas)} rescaled and {said(plain)} not, 90 % of weights"
    f" {said(wide)} (rescaled), 10 % of weights {said(weights)} (not),"
    f" {seeds(run)}"
  )
  return text, low(deltas) > -2 and high(wide) < -20
