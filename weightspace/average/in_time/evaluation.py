"""Signal and noise of an evaluation, and scores averaged over checkpoints.

A benchmark ranks models well where their scores lie further apart than one
model's score moves from checkpoint to checkpoint.

>>> ratio = signal([0.5, 0.7, 0.6]) / noise([0.6, 0.7, 0.5, 0.6])
>>> round(ratio.item(), 2)
2.83
"""

import numpy as np
import numpy.typing as npt


def _scores(values: npt.ArrayLike, what: str, least: int) -> np.ndarray:
  scores = np.asarray(values, np.float64)
  if scores.ndim < 1 or scores.shape[-1] < least:
    raise ValueError(
      f"{what}: scores of shape {scores.shape}, expected at least {least} on"
      " the last axis"
    )
  if not np.isfinite(scores).all():
    raise ValueError(f"{what}: a score is not finite, expected numbers")
  return scores


def signal(scores: npt.ArrayLike) -> np.ndarray:
  """Return (max - min) / mean of models' scores: how far apart they lie.

  Args:
    scores: [..., M], final scores of models; their mean is not zero.

  Returns:
    [...] float64.

  Raises:
    ValueError: for fewer than two models, or a score that is not finite.

  >>> signal([1.0, 2.0, 3.0]).item()
  1.0

  Heineman et al. 2025, "Signal and noise", https://arxiv.org/abs/2508.13144;
  the mean in the denominator is from its code.
  """
  values = _scores(scores, "signal", 2)
  return (values.max(-1) - values.min(-1)) / values.mean(-1)


def noise(scores: npt.ArrayLike, last: int | None = None) -> np.ndarray:
  """Return std / mean of one model's scores over its last checkpoints.

  Args:
    scores: [..., T] in the order of training.
    last: how many count; all by default.

  Returns:
    [...] float64, with the population's deviation (1 / n).

  Raises:
    ValueError: for fewer than two checkpoints, in all or in `last`, more of
      them than there are, or a score that is not finite.

  >>> noise([9.0, 1.0, 3.0], last=2).item()
  0.5

  Heineman et al. 2025, https://arxiv.org/abs/2508.13144.
  """
  if last is not None and last < 2:
    raise ValueError(f"noise: last is {last}, expected at least 2")
  values = _scores(scores, "noise", last or 2)[..., -(last or 0) :]
  return values.std(-1) / values.mean(-1)


def average_scores(scores: npt.ArrayLike, last: int) -> np.ndarray:
  """Return the mean of the last scores: the averaged metric of a model.

  Args:
    scores: [..., T] in the order of training.
    last: how many count.

  Returns:
    [...] float64.

  Raises:
    ValueError: unless 1 <= last <= T, or for a score that is not finite.

  >>> average_scores([0.0, 2.0, 4.0], last=2).item()
  3.0

  Heineman et al. 2025, https://arxiv.org/abs/2508.13144.
  """
  if last < 1:
    raise ValueError(f"average_scores: last is {last}, expected at least 1")
  return _scores(scores, "average_scores", last)[..., -last:].mean(-1)


def decision_accuracy(small: npt.ArrayLike, large: npt.ArrayLike) -> float:
  """Return the share of pairs that two scores rank alike.

  Args:
    small: [M] scores of M recipes where they are cheap to measure.
    large: [M] scores of the same recipes where they matter.

  Returns:
    A share: 1 for one order, 0 for the reverse; a tie in one alone is wrong.

  Raises:
    ValueError: for other shapes, fewer than two, or a score not finite.

  >>> decision_accuracy([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
  0.666...

  Heineman et al. 2025, https://arxiv.org/abs/2508.13144.
  """
  a = _scores(small, "decision_accuracy", 2)
  b = _scores(large, "decision_accuracy", 2)
  if a.shape != b.shape or a.ndim != 1:
    raise ValueError(
      f"decision_accuracy: scores {a.shape} and {b.shape}, expected [M] twice"
    )
  one, other = np.triu_indices(len(a), 1)
  same = np.sign(a[one] - a[other]) == np.sign(b[one] - b[other])
  return float(same.mean())
