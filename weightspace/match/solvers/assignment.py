"""Assignment: which unit goes where, so that the sum of gains is largest.

On the host by SciPy, many problems in threads (its solver releases the
interpreter); on devices by optax's solver under `jit`.  Of answers that are
equally good the one that changes less is taken (`keep_ties`).

>>> solve(np.array([[1.0, 3.0], [2.0, 1.0]])).tolist()
[1, 0]
"""

import concurrent.futures
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

SOLVERS = ("scipy", "optax")
WORKERS = os.cpu_count() or 1
SMALL = 64  # units: below, threads and prices cost more than they save
NEAR = 0.25  # share of the largest gain that makes the present order good
ROUNDS = 4  # of prices


def solve(gains: Any, solver: str = "scipy") -> np.ndarray:
  """Return for each row the column that it is given, each column once.

  argmax over permutations p of sum_i gains[i, p(i)].

  Args:
    gains: [..., n, n]; -inf forbids a pair (scipy only).
    solver: "scipy" on the host, or "optax" on the device of `gains`.

  Returns:
    [..., n] whole numbers.

  Raises:
    ValueError: for another solver, gains that are not square, or NaN.

  >>> solve(np.eye(3)[None], "optax").tolist()
  [[0, 1, 2]]

  Crouse 2016, "On implementing 2D rectangular assignment algorithms",
  https://doi.org/10.1109/TAES.2016.140952 (SciPy).
  """
  if solver not in SOLVERS:
    raise ValueError(f"solver: {solver!r}, expected one of {SOLVERS}")
  shape = np.shape(gains)
  if len(shape) < 2 or shape[-1] != shape[-2]:
    raise ValueError(f"gains: {shape}, expected [..., n, n]")
  if solver == "optax":
    return _on_device(gains)
  host = np.asarray(jax.device_get(gains))
  if np.isnan(host).any():
    raise ValueError("gains: hold NaN, expected numbers")
  flat = host.reshape(-1, *shape[-2:])
  result = np.empty(flat.shape[:2], np.int64)

  def one(k: int) -> None:
    result[k] = _on_host(flat[k])

  if len(flat) > 1 and shape[-1] >= SMALL:
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
      list(pool.map(one, range(len(flat))))
  else:
    for k in range(len(flat)):
      one(k)
  return result.reshape(shape[:-1])


def _on_host(gains: np.ndarray) -> np.ndarray:
  """Solve by SciPy, told of the present order where that is good already.

  A number added to a column changes no choice.  The numbers tried are prices
  under which each unit would rather stay, as far as four rounds find them:
  v_j <- max_i (v_i + gains[i, j] - gains[i, i]).  The solver starts without
  prices, and with good ones takes a third of the time.
  """
  n = len(gains)
  if n >= SMALL:
    middle, stay = gains.mean(), gains.diagonal()
    near = (stay - middle).sum() > NEAR * (gains.max(1) - middle).sum()
  if n < SMALL or not near:
    return scipy.optimize.linear_sum_assignment(gains, maximize=True)[1]
  price = np.zeros_like(stay)
  for _ in range(ROUNDS):
    price = (gains + (price - stay)[:, None]).max(0)
  costs = price.astype(np.float64) - gains
  return scipy.optimize.linear_sum_assignment(costs)[1]


def _on_device(gains: Any) -> np.ndarray:
  gains = jnp.asarray(gains)
  if not bool(jnp.isfinite(gains).all()):
    raise ValueError("gains: not finite, expected numbers")
  flat = gains.reshape(-1, *gains.shape[-2:])
  rows, columns = _hungarian(-flat)
  order = jnp.argsort(rows, axis=-1)
  found = jnp.take_along_axis(columns, order, axis=-1)
  return np.asarray(found).astype(np.int64).reshape(gains.shape[:-1])


@jax.jit
def _hungarian(costs: jax.Array) -> Any:
  return jax.vmap(optax.assignment.hungarian_algorithm)(costs)


def keep_ties(gains: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, float]:
  """Undo moves that gain nothing; return the rest and what it gains.

  Units change places in cycles; a cycle whose gain, in float64, is not above
  the rounding of its entries is left where it was.

  Args:
    gains: [n, n], rows and columns in the present order.
    found: [n], an assignment.

  >>> keep_ties(np.ones((2, 2)), np.array([1, 0]))
  (array([0, 1]), 0.0)
  """
  stay = np.arange(len(found))
  if (found == stay).all():
    return stay, 0.0
  now = gains[stay, stay].astype(np.float64)
  then = gains[stay, found].astype(np.float64)
  label = _cycles(found)
  better = np.bincount(label, then - now)
  noise = np.bincount(label, np.abs(then) + np.abs(now))
  eps = np.finfo(gains.dtype).eps if gains.dtype.kind == "f" else 1e-7
  good = better > 4 * eps * noise
  kept = np.where(good[label], found, stay)
  return kept, float(better[good].sum())


def _cycles(found: np.ndarray) -> np.ndarray:
  """Number the cycles of a permutation: equal numbers for one cycle.

  Labels spread along doubled steps: n log n, without a Python loop over units.
  """
  label, step = np.arange(len(found)), found.copy()
  while True:
    lower = np.minimum(label, label[step])
    if (lower == label).all():
      break
    label, step = lower, step[step]
  return np.unique(label, return_inverse=True)[1]
