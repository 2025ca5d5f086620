"""Sparse model soups: prune, retrain copies, average, keep the mask.

Copies of one pruned network have one mask, so their average has it too.  What
prunes and averages them is in `weightspace.sparse`; here is how far each phase
goes.

>>> [round(density, 2) for density in phases(0.75, 2)]
[0.5, 0.25]
"""


def phases(sparsity: float, count: int) -> list[float]:
  """Return the density after each phase: the same share of what is left goes.

  >>> [round(d, 3) for d in phases(0.97, 3)]
  [0.311, 0.097, 0.03]

  Raises:
    ValueError: for a sparsity outside (0, 1) or no phase.

  Zimmer et al. 2024, "Sparse model soups", https://arxiv.org/abs/2306.16788.
  """
  if not 0.0 < sparsity < 1.0 or count < 1:
    raise ValueError(
      f"phases: sparsity {sparsity} in {count} phases, expected a share in"
      " (0, 1) and at least one phase"
    )
  return [(1.0 - sparsity) ** (n / count) for n in range(1, count + 1)]
