"""Quadratic surrogates: what a score is like around a few evaluations.

A score of a mix is close to a quadratic in the coefficients near the models;
(D + 1)(D + 2) / 2 evaluations settle it, and then it costs nothing.

>>> c = np.array([[0.0], [0.5], [1.0], [2.0]])
>>> fitted = fit(c, 3.0 - (c[:, 0] - 1.0) ** 2, "none")
>>> fitted(np.array([[1.5]])).round(6).tolist()
[2.75]
"""

from typing import NamedTuple

import numpy as np

LINKS = ("none", "sigmoid", "softplus")
EDGE = 1e-3  # how near to 0 and 1 an accuracy is taken to be


class Quadratic(NamedTuple):
  """link(c' A c / 2 + b' c + e), called with vectors [N, D]."""

  weights: np.ndarray  # of the monomials, see `monomials`
  link: str
  error: float  # root mean square residual on what it was fitted to

  def __call__(self, vectors: np.ndarray) -> np.ndarray:
    return _forward(monomials(vectors) @ self.weights, self.link)


def needed(size: int) -> int:
  """Return how many evaluations a quadratic in D coefficients needs.

  >>> [needed(size) for size in (1, 2, 8)]
  [3, 6, 45]
  """
  return (size + 1) * (size + 2) // 2


def monomials(vectors: np.ndarray) -> np.ndarray:
  """Return 1, c_i and c_i c_j (i <= j) of vectors [N, D]."""
  first, second = np.triu_indices(vectors.shape[1])
  products = vectors[:, first] * vectors[:, second]
  return np.concatenate([np.ones((len(vectors), 1)), vectors, products], 1)


def fit(
  vectors: np.ndarray, values: np.ndarray, link: str = "none"
) -> Quadratic:
  """Fit link(quadratic) to values [N] at vectors [N, D] by least squares.

  The residuals are those of the values: behind a link the inverse is fitted
  with the weights of its slope, which is the same to first order.

  Args:
    vectors: [N, D], N at least `needed(D)`.
    values: [N].
    link: "sigmoid" for accuracies in [0, 1], "softplus" for losses above 0 (of
      a negated loss, minus softplus), or "none".

  Raises:
    ValueError: for an unknown link, or too few values, saying how many.

  Li et al. 2024, "MAP: low-compute model merging with amortized Pareto fronts
  via quadratic approximation", https://arxiv.org/abs/2406.07529; fitting in
  closed form is ours.
  """
  if link not in LINKS:
    raise ValueError(f"surrogate: link is {link!r}, expected one of {LINKS}")
  least = needed(vectors.shape[1])
  if len(vectors) < least:
    raise ValueError(
      f"surrogate: {len(vectors)} evaluations, expected at least {least} for a"
      f" quadratic in {vectors.shape[1]} coefficients"
    )
  inner, slope = _backward(np.asarray(values, np.float64), link)
  rows = monomials(vectors) * slope[:, None]
  weights = np.linalg.lstsq(rows, inner * slope, rcond=1e-10)[0]
  made = Quadratic(weights, link, 0.0)
  error = float(np.sqrt(np.mean((made(vectors) - values) ** 2)))
  return made._replace(error=error)


def _forward(inner: np.ndarray, link: str) -> np.ndarray:
  if link == "sigmoid":
    return 1 / (1 + np.exp(-np.clip(inner, -500, 500)))
  if link == "softplus":
    return -np.logaddexp(0.0, inner)
  return inner


def _backward(values: np.ndarray, link: str) -> tuple[np.ndarray, np.ndarray]:
  """Return the values before the link, and the slope of the link there."""
  if link == "sigmoid":
    share = np.clip(values, EDGE, 1 - EDGE)
    return np.log(share / (1 - share)), share * (1 - share)
  if link == "softplus":
    loss = np.maximum(-values, 1e-6)
    return loss + np.log1p(-np.exp(-loss)), 1 - np.exp(-loss)
  return values, np.ones_like(values)
