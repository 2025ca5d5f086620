"""Which mixes to evaluate before a surrogate is fitted.

>>> plain(2, 6, (0.0, 1.0), np.random.default_rng(0))[:2].tolist()
[[1.0, 0.0], [0.0, 1.0]]
"""

import numpy as np

BINS = 4  # of each angle
HEAT = 0.07  # of the softmax over bins; as in MAP's code
RADIUS = 1.5  # the longest vector that is drawn; as in MAP's code


def plain(
  size: int, count: int, box: tuple[float, float], random: np.random.Generator
) -> np.ndarray:
  """Return [count, D] coefficients: single models, their sums, and the box.

  Each model alone; a quarter of the rest on the diagonal, half of it exactly
  and half with noise of 0.1; the others uniform in the box.
  """
  rows = [np.clip(np.eye(size), *box)]
  left = max(0, count - size)
  diagonal = left // 4
  scale = np.linspace(*box, diagonal + 2)[1:-1, None] * np.ones((1, size))
  noise = 0.1 * random.normal(size=scale.shape)
  noise[::2] = 0.0
  rows.append(np.clip(scale + noise, *box))
  rows.append(random.uniform(*box, (left - diagonal, size)))
  return np.concatenate(rows)[:count]


def where_worst(
  weights: np.ndarray,
  missed: np.ndarray,
  count: int,
  box: tuple[float, float],
  random: np.random.Generator,
) -> np.ndarray:
  """Return [count, D] coefficients in directions that the fit misses most.

  Directions are binned by their spherical angles; a bin is drawn by the softmax
  of the mean error in it plus half a standard deviation, of those that have
  been sampled, and a vector in it at random.

  Args:
    weights: [N, D] coefficients so far.
    missed: [N] error of the fit at them.
    count: how many to draw.
    box: the least and the largest coefficient.
    random: of the draws.

  Li et al. 2024, https://arxiv.org/abs/2406.07529 (Bayesian adaptive sampling;
  the numbers from its code).
  """
  size = weights.shape[1]
  angles = _angles(np.abs(weights))
  places = np.minimum((angles / (np.pi / 2) * BINS).astype(int), BINS - 1)
  bins, member = np.unique(places, axis=0, return_inverse=True)
  member = member.ravel()
  worth = np.array(
    [
      missed[member == b].mean() + 0.5 * missed[member == b].std()
      for b in range(len(bins))
    ]
  )
  heat = np.exp((worth - worth.max()) / HEAT)
  drawn = bins[random.choice(len(bins), count, p=heat / heat.sum())]
  angles = (drawn + random.random(drawn.shape)) * (np.pi / 2) / BINS
  radius = random.uniform(0.0, RADIUS, (count, 1))
  return np.clip(radius * _directions(angles, size), *box)


def _angles(weights: np.ndarray) -> np.ndarray:
  """Return the spherical angles [N, D - 1] of vectors with entries >= 0."""
  rest = np.sqrt(np.cumsum((weights**2)[:, ::-1], 1)[:, ::-1])
  return np.arctan2(rest[:, 1:], weights[:, :-1])


def _directions(angles: np.ndarray, size: int) -> np.ndarray:
  """Return the unit vectors [N, D] of spherical angles."""
  before = np.cumprod(np.sin(angles), 1)
  before = np.concatenate([np.ones((len(angles), 1)), before], 1)
  last = np.concatenate([np.cos(angles), np.ones((len(angles), 1))], 1)
  return (before * last)[:, :size]
