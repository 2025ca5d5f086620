"""Leaves as matrices: which axes of a parameter are inputs and outputs.

A view gives each path a rule from the shape of its leaf to (batch, in, out).
Scanned layers and experts are the batch.

>>> kernels("conv/kernel")((3, 3, 4, 5)), kernels("norm/scale")((5,))
((1, 36, 5), None)
"""

import functools
import math
from collections.abc import Callable

# From the shape of one model's leaf to (batch, in, out); None: no matrix.
Rule = Callable[[tuple[int, ...]], tuple[int, int, int] | None]
View = Callable[[str], Rule]  # from a leaf's path to its rule

VECTORS = ("bias", "scale")  # never a matrix, whatever their axes
OUTPUTS_LAST = ("out", "conv")  # modules whose 3-axis kernel ends in one output


def outputs_last(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
  """[..., in, out]: all axes but the last are inputs (dense, conv)."""
  if len(shape) < 2 or 0 in shape:
    return None
  return 1, math.prod(shape[:-1]), shape[-1]


def inputs_first(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
  """[in, heads, size]: all axes but the first are outputs."""
  if len(shape) != 3:
    return outputs_last(shape)
  return 1, shape[0], shape[1] * shape[2]


def outputs_first(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
  """[out, in, ...]: all axes but the first are inputs (PyTorch's files)."""
  if len(shape) < 2 or 0 in shape:
    return None
  return 1, shape[0], math.prod(shape[1:])


def vector(shape: tuple[int, ...]) -> None:
  """Say of every shape that it is not a matrix."""


def kernels(path: str) -> Rule:
  """Return the rule of a flax parameter: the default view.

  Two axes are [in, out]; [h, w, in, out] of a convolution is (h w in, out); of
  three axes, an attention's [in, heads, size] is (in, heads size) and, under a
  module named `out` or `conv...`, all but the last are inputs.  Leaves named
  `bias` or `scale` are no matrices.

  >>> kernels("attention/query/kernel")((8, 2, 4))
  (1, 8, 8)
  """
  *modules, name = path.split("/")
  if name in VECTORS:
    return vector
  if modules and modules[-1].startswith(OUTPUTS_LAST):
    return outputs_last
  return inputs_first


def scanned(*modules: str, view: View = kernels) -> View:
  """Return the view in which leaves under `modules` have a leading batch axis.

  >>> scanned("blocks")("blocks/mlp/kernel")((6, 8, 4))
  (6, 8, 4)
  """

  def of(path: str) -> Rule:
    rule = view(path)
    inside = any(name in modules for name in path.split("/")[:-1])
    return _batched(rule) if inside else rule

  return of


@functools.cache
def _batched(rule: Rule) -> Rule:
  def batched(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    inner = rule(shape[1:])
    return inner and (shape[0] * inner[0], *inner[1:])

  return batched
