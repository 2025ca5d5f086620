"""Broods whose covariance adapts: the evolution strategy behind searches.

Vectors are drawn from a normal distribution; its mean moves to the weighted
mean of the better half, its covariance along the steps taken, and its scale
with the length of the path that the mean goes (CMA-ES).  The state is a dict of
arrays.

>>> state = restart(begin(2), np.array([3.0, 3.0]), 1.0)
>>> random = np.random.default_rng(0)
>>> for _ in range(60):
...   brood = ask(state, 10, random)
...   state = tell(state, brood, -(brood**2).sum(1))
>>> bool(np.abs(state["mean"]).max() < 1e-3)
True

Hansen 2016, "The CMA evolution strategy: a tutorial",
https://arxiv.org/abs/1604.00772, with its default numbers.
"""

from typing import Any, NamedTuple

import numpy as np

State = dict[str, Any]


def begin(size: int) -> State:
  """Return the state of a search over vectors [size], around zero."""
  return {
    "mean": np.zeros(size),
    "scale": np.float64(1.0),
    "covariance": np.eye(size),
    "path": np.zeros(size),  # of the mean, in whitened coordinates
    "drift": np.zeros(size),  # of the mean, as it is
    "broods": np.int64(0),
  }


def restart(state: State, mean: np.ndarray, scale: float) -> State:
  """Return a fresh state around a mean."""
  fresh = begin(len(mean))
  return state | fresh | {"mean": mean.copy(), "scale": np.float64(scale)}


def ask(state: State, count: int, random: np.random.Generator) -> np.ndarray:
  """Draw a brood [count, D]."""
  values, vectors = _factors(state)
  drawn = random.normal(size=(count, len(values)))
  return state["mean"] + state["scale"] * (drawn * values) @ vectors.T


class _Rates(NamedTuple):
  """The tutorial's defaults for D dimensions and broods of K."""

  shares: np.ndarray  # of the better half in the mean
  mass: float  # how many vectors the shares are worth
  path: float
  drift: float
  one: float
  many: float
  damping: float
  length: float  # of a random path


def _rates(size: int, count: int) -> _Rates:
  half = max(1, count // 2)
  shares = np.log(half + 0.5) - np.log(np.arange(1, half + 1))
  shares = shares / shares.sum()
  mass = 1 / (shares**2).sum()
  path = (mass + 2) / (size + mass + 5)
  drift = (4 + mass / size) / (size + 4 + 2 * mass / size)
  one = 2 / ((size + 1.3) ** 2 + mass)
  many = min(1 - one, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
  damping = 1 + 2 * max(0.0, np.sqrt((mass - 1) / (size + 1)) - 1) + path
  length = np.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
  return _Rates(shares, mass, path, drift, one, many, damping, length)


def tell(state: State, brood: np.ndarray, values: np.ndarray) -> State:
  """Return the state after a brood [K, D] with its scores, higher is better."""
  size, rates = brood.shape[1], _rates(brood.shape[1], len(brood))
  best = np.argsort(-values, kind="stable")[: len(rates.shares)]
  shares = rates.shares[: len(best)] / rates.shares[: len(best)].sum()
  steps = (brood[best] - state["mean"]) / state["scale"]
  step = shares @ steps
  eigenvalues, vectors = _factors(state)
  white = vectors @ ((vectors.T @ step) / eigenvalues)
  path = _faded(state["path"], rates.path, rates.mass, white)
  broods = state["broods"] + 1
  length = np.linalg.norm(path) / rates.length
  usual = np.sqrt(1 - (1 - rates.path) ** (2 * broods))
  stalled = length / usual >= 1.4 + 2 / (size + 1)
  drift = _faded(
    state["drift"], rates.drift, rates.mass, 0.0 if stalled else step
  )
  lost = rates.one * rates.drift * (2 - rates.drift) if stalled else 0.0
  covariance = (
    (1 - rates.one - rates.many + lost) * state["covariance"]
    + rates.one * np.outer(drift, drift)
    + rates.many * (steps.T * shares) @ steps
  )
  scale = state["scale"] * np.exp(rates.path / rates.damping * (length - 1))
  return state | {
    "mean": state["mean"] + state["scale"] * step,
    "scale": np.float64(np.clip(scale, 1e-12, 1e6)),
    "covariance": covariance,
    "path": path,
    "drift": drift,
    "broods": broods,
  }


def _faded(path: np.ndarray, rate: float, mass: float, step: Any) -> np.ndarray:
  return (1 - rate) * path + np.sqrt(rate * (2 - rate) * mass) * step


def _factors(state: State) -> tuple[np.ndarray, np.ndarray]:
  """Return the standard deviations and the axes of the covariance."""
  c = state["covariance"]
  values, vectors = np.linalg.eigh((c + c.T) / 2)
  return np.sqrt(np.maximum(values, 1e-20)), vectors
