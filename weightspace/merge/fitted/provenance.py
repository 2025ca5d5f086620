"""The guard that users of soups ask for: members must share their start.

>>> a, b = Member("start-1", seed=0), Member("start-1", seed=1)
>>> starts([a, b])
['start-1']
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weightspace import means, mixes, trees
from weightspace.types import Data, Member, Stack


def starts(members: Sequence[Member]) -> list[str]:
  """Return the distinct starts of members, in order of appearance."""
  return list(dict.fromkeys(member.start for member in members))


def guard(
  stack: Stack,
  members: Sequence[Member] | None,
  loss: Callable[..., Any],
  data: Data | None = None,
) -> None:
  """Warn when members of different starts are about to be mixed.

  The warning quotes, for the first two members of different starts, the change
  of `loss` from the mean of its ends to the midpoint (a barrier where the loss
  is an error), and names the remedy.  Independently trained networks lie in
  different basins, and their average is usually useless.

  Args:
    stack: M models, leaves [M, ...].
    members: their provenance; None checks nothing.
    loss: `loss(params, data)` (or a score), or `loss(params)` without data.
    data: what the loss is measured on.

  Raises:
    ValueError: when there is not one member for each model.

  >>> guard({"w": np.zeros((1, 2))}, [Member("a", 0)], lambda p: 0.0)
  """
  if members is None:
    return
  if len(members) != trees.size(stack):
    raise ValueError(
      f"members: {len(members)} records for {trees.size(stack)} models"
    )
  found = starts(members)
  if len(found) == 1:
    return
  other = [member.start for member in members].index(found[1])
  ends = np.zeros((3, len(members)), np.float32)
  ends[0, 0] = ends[1, other] = 1.0
  ends[2, [0, other]] = 0.5
  if data is None:
    mixed = [means.weighted_sum(stack, w) for w in ends]
    values = np.array([float(loss(params)) for params in mixed])
  else:
    values = np.asarray(mixes.evaluate_mixes(stack, ends, loss, data))
  change = values[2] - (values[0] + values[1]) / 2
  warnings.warn(
    f"members 0 and {other} come from different starts ({found[0]!r},"
    f" {found[1]!r}): halfway between them the loss or score changes by"
    f" {change:+.4g} from the mean of its ends. Align them first (permutation"
    " matching), or keep to members of one start.",
    stacklevel=2,
  )
