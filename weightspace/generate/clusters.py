"""Examples that stand for many: those nearest to the centres of clusters.

>>> representatives(np.array([[0.0], [0.1], [0.2], [9.0]]), 2).tolist()
[1, 3]
"""

from typing import Any

import numpy as np


def representatives(features: Any, k: int, seed: int = 0) -> np.ndarray:
  """Return which examples lie nearest to the centres of k clusters.

  Args:
    features: [n, d], such as an expert's logits of one class.
    k: 1 to n.
    seed: of the first centres (k-means++).

  Returns:
    [k] distinct indices, in order.

  Raises:
    ValueError: for k out of range or features that are not finite.

  >>> representatives(np.array([[0.0], [0.1], [0.2], [9.0]]), 2).tolist()
  [1, 3]

  Shen et al. 2023, https://arxiv.org/abs/2310.10541 (where real images begin);
  k-means: Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489.
  """
  x = np.asarray(features, float)
  if x.ndim != 2 or not 1 <= k <= len(x) or not np.isfinite(x).all():
    raise ValueError(
      f"representatives: features {x.shape} and k {k}, expected finite [n, d]"
      " and 1 <= k <= n"
    )
  centers = _lloyd(x, _spread_out(x, k, np.random.default_rng(seed)))
  chosen: list[int] = []
  for center in centers:
    far = ((x - center) ** 2).sum(1)
    far[chosen] = np.inf
    chosen.append(int(far.argmin()))
  return np.array(sorted(chosen))


def _spread_out(x: np.ndarray, k: int, random: Any) -> np.ndarray:
  """Return k first centres, drawn by squared distance to those before."""
  centers = [x[random.integers(len(x))]]
  for _ in range(1, k):
    far = np.min([((x - c) ** 2).sum(1) for c in centers], 0)
    shares = far / far.sum() if far.sum() > 0 else None
    centers.append(x[random.choice(len(x), p=shares)])
  return np.array(centers)


def _lloyd(x: np.ndarray, centers: np.ndarray, rounds: int = 100) -> np.ndarray:
  """Move centres to the means of what lies nearest, until none moves."""
  for _ in range(rounds):
    nearest = ((x[:, None] - centers[None]) ** 2).sum(-1).argmin(1)
    moved = np.array(
      [
        x[nearest == i].mean(0) if (nearest == i).any() else center
        for i, center in enumerate(centers)
      ]
    )
    if np.array_equal(moved, centers):
      break
    centers = moved
  return centers
