"""Sparse forms of a layer that cost what the dense one does (Sparse-IFT).

A layer of density 1 - s may be larger by 1 / (1 - s) in weights.  `wide` makes
it wider, `parallel` repeats it, `factorised` puts a wide product in its place,
`doped` a thin product and a sparse rest.  Where all is to cost exactly the
same, keep as many entries as the dense layer has: `spend` says which densities.

>>> wide(64, 0.75), parallel(0.75), wide(64, 0.9)
(128, 4, 202)
"""

import math
from collections.abc import Mapping

EDGE = 1e-6  # keeps 64 * 2 from being counted as 127


def _check(what: str, sparsity: float, **widths: int) -> None:
  if not 0.0 < sparsity < 1.0:
    raise ValueError(
      f"{what}: sparsity is {sparsity}, expected a share in (0, 1)"
    )
  for name, width in widths.items():
    if width < 1:
      raise ValueError(f"{what}: {name} is {width}, expected at least 1")


def wide(width: int, sparsity: float) -> int:
  """Return the width at which sparse layers cost what dense ones do.

  floor(k width) with (1 - sparsity) k^2 = 1: inputs and outputs are k times as
  many.

  Args:
    width: of the dense layer, at least 1.
    sparsity: the share of zeros, in (0, 1).

  Raises:
    ValueError: for numbers out of range.

  >>> wide(32, 0.75), wide(64, 0.5)
  (64, 90)

  Thangarasa et al. 2023, "Sparse-IFT: sparse iso-FLOP transformations for
  maximizing training efficiency", https://arxiv.org/abs/2303.11525.  The code
  rounds k^2 to a whole number, which the sparsities that it uses (0.5, 0.75,
  0.9) are.
  """
  _check("wide", sparsity, width=width)
  return math.floor(width / math.sqrt(1.0 - sparsity) + EDGE)


def parallel(sparsity: float) -> int:
  """Return how many sparse branches cost what one dense layer does.

  round(1 / (1 - sparsity)); the branches, each with its own normalisation, are
  summed before the activation.

  Raises:
    ValueError: for a sparsity outside of (0, 1).

  >>> parallel(0.9)
  10

  Thangarasa et al. 2023, https://arxiv.org/abs/2303.11525; that normalisation
  comes before the sum is its code.
  """
  _check("parallel", sparsity)
  return round(1.0 / (1.0 - sparsity))


def factorised(inputs: int, outputs: int, sparsity: float) -> int:
  """Return the inner width of a sparse product that costs what a layer does.

  ceil(inputs outputs / ((1 - sparsity) (inputs + outputs))) for [inputs, r] [r,
  outputs] in place of [inputs, outputs].

  Args:
    inputs: of the layer; for a convolution times the size of its window.
    outputs: of the layer.
    sparsity: the share of zeros in both factors, in (0, 1).

  Raises:
    ValueError: for numbers out of range.

  >>> factorised(9 * 16, 16, 0.75)
  58

  Thangarasa et al. 2023, https://arxiv.org/abs/2303.11525.
  """
  _check("factorised", sparsity, inputs=inputs, outputs=outputs)
  weights = inputs * outputs / (inputs + outputs)
  return math.ceil(weights / (1.0 - sparsity) - EDGE)


def doped(inputs: int, outputs: int, sparsity: float) -> int:
  """Return the rank of the dense product beside a sparse layer at equal cost.

  floor(sparsity inputs outputs / (inputs + outputs)); the sparse layer [inputs,
  outputs] keeps the share 1 - sparsity.

  Args:
    inputs: of the layer; for a convolution times the size of its window.
    outputs: of the layer.
    sparsity: the share of zeros of the sparse layer, in (0, 1).

  Raises:
    ValueError: for numbers out of range, or where no rank is left.

  >>> doped(9 * 16, 16, 0.75)
  10

  Thangarasa et al. 2023, https://arxiv.org/abs/2303.11525.
  """
  _check("doped", sparsity, inputs=inputs, outputs=outputs)
  rank = math.floor(sparsity * inputs * outputs / (inputs + outputs) + EDGE)
  if not rank:
    raise ValueError(
      f"doped: sparsity {sparsity} of [{inputs}, {outputs}] leaves no rank,"
      " expected one of 1 or more"
    )
  return rank


def densities(sizes: Mapping[str, int], kept: int) -> dict[str, float]:
  """Return the densities at which leaves keep `kept` entries in all, exactly.

  Each leaf keeps its share of them, rounded so that the sum is right; `top` and
  `random` turn the densities into those counts again.

  Args:
    sizes: {path: n}, entries of each leaf.
    kept: from the number of leaves to the number of entries.

  Raises:
    ValueError: for a number out of range.

  >>> densities({"in": 6, "out": 4}, 5)
  {'in': 0.5, 'out': 0.5}
  """
  total = sum(sizes.values())
  if not len(sizes) <= kept <= total:
    raise ValueError(
      f"densities: kept is {kept}, expected {len(sizes)} to {total} entries"
    )
  result, left, room = {}, kept, total
  for number, (path, size) in enumerate(sizes.items()):
    later = len(sizes) - number - 1
    share = min(max(round(left * size / room), 1), size, left - later)
    result[path] = share / size
    left, room = left - share, room - size
  return result
