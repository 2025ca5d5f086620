"""What each claim about soups asks, and whether a run's numbers grant it.

A judge reads the lines that the run logged, and nothing else.

>>> sorted(CLAIMS)
['collapse', 'greedy', 'uniform']
"""

from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  exact,
  only,
  points,
  rows,
  said,
)


def greedy(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: on test data the greedy soup is above the best member, on average.

  On the selection set it is never below, by construction.
  """
  chosen, shown = (
    right["greedy"] - right["best"]
    for right in (rows(run, "validation accuracy"), rows(run, "test accuracy"))
  )
  measured = (
    f"greedy minus best member: {points(shown, 'points of test accuracy')} over"
    f" {len(shown)} seeds; on the selection set smallest {chosen.min():+.2f},"
    f" mean {points(chosen)}"
  )
  return measured, every(above(shown), exact((chosen >= 0.0).all()))


def uniform(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the uniform soup is above the best member, on average."""
  right = rows(run, "test accuracy")
  gap = right["uniform"] - right["best"]
  measured = (
    "uniform soup minus best member:"
    f" {points(gap, 'points of test accuracy')} over {len(gap)} seeds"
  )
  return measured, above(gap)


def collapse(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the average of independent members falls by over ten points."""
  right = rows(run, "test accuracy")
  fall = right["uniform"] - right["mean"]
  lines = only(run, "barrier")
  error, loss = ([line[name] for line in lines] for name in ("error", "loss"))
  measured = (
    f"uniform soup minus mean member: {points(fall)} over {len(fall)} seeds;"
    f" midpoint of two members: error {said(error, 'points', 1)}, loss"
    f" {said(loss, '', 2)}"
  )
  return measured, every(below(fall, -10.0), above(loss))


CLAIMS = {
  "greedy": Claim(greedy),
  "uniform": Claim(uniform),
  "collapse": Claim(collapse),
}
