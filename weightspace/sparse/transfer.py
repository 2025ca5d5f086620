"""Which earlier task a new one is like: nearest neighbours under its mask.

>>> x, labels = np.array([[0.0], [5.0], [0.1], [5.1]]), np.array([0, 1, 0, 1])
>>> task = lambda mask: x * mask
>>> similar(task, labels, [0.0, 1.0], neighbours=1, share=0.5).best
1
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from weightspace.types import Params


class Similarity(NamedTuple):
  """How well neighbours under each earlier mask tell the new task's labels."""

  accuracy: np.ndarray  # [T], shares
  best: int | None  # the most accurate; None where it is not above chance


def similar(
  features: Callable[[Params], Any],
  labels: Any,
  masks: Sequence[Params],
  *,
  neighbours: int = 100,
  share: float = 0.66,
) -> Similarity:
  """Tell under which earlier mask a new task is told best by its neighbours.

  The first `share` of the examples vote, `neighbours` nearest ones each (in
  Euclidean distance; of equal votes the smaller label wins), on the labels of
  the rest.  Scores of the best task may then be copied as the start of the new
  one's; nothing of an earlier task is touched.

  Args:
    features: `features(mask) -> [N, d]`: of the new task's examples.
    labels: whole numbers [N].
    masks: of the earlier tasks.
    neighbours: that vote; at most as many as there are.
    share: of the examples, in (0, 1).

  Returns:
    Similarity; chance is 1 over the number of labels.

  Raises:
    ValueError: without masks, for numbers out of range, or features that are
      not [N, d] or not finite.

  >>> x, labels = np.array([[0.0], [9.0], [1.0]]), np.array([0, 1, 0])
  >>> similar(lambda mask: x, labels, [None], neighbours=1,
  ...   share=0.7).accuracy.tolist()
  [1.0]

  Yadav & Bansal 2023, https://arxiv.org/abs/2210.10209 (its `knn_best`).  Its
  `knn_all` writes the mean of scores into an earlier task's: left out.
  """
  labels = np.asarray(labels)
  first = int(share * len(labels) + 1e-6)
  if not masks or neighbours < 1 or not 1 <= first < len(labels):
    raise ValueError(
      f"similar: {len(masks)} masks, {neighbours} neighbours, {first} of"
      f" {len(labels)} examples that vote, expected at least one of each and of"
      " the rest"
    )
  accuracy = [
    _accuracy(
      _rows(features(mask), len(labels), index), labels, first, neighbours
    )
    for index, mask in enumerate(masks)
  ]
  best = int(np.argmax(accuracy))
  chance = 1.0 / len(np.unique(labels))
  return Similarity(
    np.array(accuracy), best if accuracy[best] > chance else None
  )


def _rows(x: Any, count: int, index: int) -> np.ndarray:
  rows = np.asarray(x, np.float32)
  if rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all():
    raise ValueError(
      f"similar: features under mask {index} are {rows.shape}, expected finite"
      f" numbers [{count}, d]"
    )
  return rows


def _accuracy(
  rows: np.ndarray, labels: np.ndarray, first: int, neighbours: int
) -> float:
  known, asked = rows[:first], rows[first:]
  # |a - b|^2 less |a|^2, which is the same for all neighbours of a.
  distance = (known**2).sum(1) - 2 * asked @ known.T
  nearest = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
  kinds, numbers = np.unique(labels, return_inverse=True)
  votes = np.eye(len(kinds))[numbers[:first]][nearest].sum(1)
  return float((votes.argmax(1) == numbers[first:]).mean())
