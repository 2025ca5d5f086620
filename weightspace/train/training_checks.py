"""What training refuses: sizes that do not fit, and losses that are no numbers.

>>> examples({"w": np.ones((2, 3))}, {"x": np.ones((5, 1))}, 5, 1, True)
5
"""

import numpy as np

from weightspace import trees
from weightspace.types import Data, Stack


def examples(
  stack: Stack, data: Data, batch_size: int, epochs: int, shared: bool
) -> int:
  """Check sizes and starts; return N."""
  trees.check_finite(stack, "stack", stacked=True)
  lead = () if shared else (trees.size(stack),)
  axes = len(lead) + 1
  count, first = None, ""
  for path, leaf in trees.named(data).items():
    shape = np.shape(leaf)
    if len(shape) < axes or shape[: axes - 1] != lead:
      want = f"[{', '.join(map(str, (*lead, 'N')))}, ...]"
      raise ValueError(f"data: {path!r} has shape {shape}, expected {want}")
    if count is None:
      count, first = shape[axes - 1], path
    if shape[axes - 1] != count:
      raise ValueError(
        f"data: {path!r} has {shape[axes - 1]} examples, expected {count} as in"
        f" {first!r}"
      )
  if not count:
    raise ValueError("data: no examples, expected at least one")
  if not 1 <= batch_size <= count:
    raise ValueError(
      f"batch_size: {batch_size}, expected 1 to {count} examples"
    )
  if epochs < 1:
    raise ValueError(f"epochs: {epochs}, expected at least 1")
  return count


def losses(losses: np.ndarray, epoch: int) -> None:
  """Raise a ValueError that names the first step and member of a NaN."""
  bad = np.argwhere(np.isnan(losses))
  if len(bad):
    step, member = bad[0]
    raise ValueError(
      f"training: the loss of member {member} is NaN at step {step} of epoch"
      f" {epoch} (step {epoch * len(losses) + step} in all), expected a number"
    )
