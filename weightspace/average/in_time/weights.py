"""Which weight each checkpoint of a trajectory gets, and in what sum.

A fold over a trajectory is a sum of its models; `profile` says with which
weights, so an average that was not kept can be had afterwards from some that
were: `synthesise` solves for it.

>>> from weightspace.average.in_time.windows import window
>>> profile(window(2), 4).tolist()
[0.0, 0.0, 0.5, 0.5]
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from weightspace import trees
from weightspace.types import Fold

KINDS = ("loss", "step")


def metric_weights(
  metrics: npt.ArrayLike, penalty: float, kind: str = "loss"
) -> jax.Array:
  """Return weights of checkpoints from a number that each has.

  a_m = L_m^-p / sum_j L_j^-p of losses, or s_m^p / sum_j s_j^p of steps, taken
  as a softmax of -p log L.  p = 0 is the uniform mean, p = inf the best (or
  latest) checkpoint alone, equal ones together; scaling all losses changes
  nothing.  Near zero losses (training loss of a network that interpolates)
  weigh the late checkpoints only.

  Args:
    metrics: [M] losses above zero, or steps, of which some may be zero.
    penalty: p >= 0.
    kind: "loss" or "step".

  Returns:
    [M] float32, of sum 1, for `weighted_mean`.

  Raises:
    ValueError: for another kind, a negative penalty, no metrics, or one that is
      not a number above zero.

  >>> metric_weights([1.0, 2.0], penalty=1.0).round(4).tolist()
  [0.666..., 0.333...]

  Metrics-Weighted Averaging, 2025, https://arxiv.org/abs/2504.18580: weights
  from training loss or steps with one penalty.  The power law is our form of
  it: the paper's formula was not available to us.
  """
  if kind not in KINDS:
    raise ValueError(f"metric_weights: kind is {kind!r}, expected {KINDS}")
  if np.ndim(metrics) != 1 or not np.size(metrics):
    raise ValueError(
      f"metric_weights: metrics of shape {np.shape(metrics)}, expected [M]"
    )
  if trees.concrete(penalty) and not np.asarray(penalty) >= 0:
    raise ValueError(f"metric_weights: penalty is {penalty}, expected >= 0")
  if trees.concrete(metrics):
    values = np.asarray(metrics, np.float64)
    fits = values > 0 if kind == "loss" else values >= 0
    bad = np.flatnonzero(~(fits & np.isfinite(values)))
    if len(bad) or not values.any():
      place = bad[0] if len(bad) else 0
      raise ValueError(
        f"metric_weights: {kind} {place} is {values[place]}, expected a number"
        " above zero"
      )
  logs = jnp.log(jnp.asarray(metrics, jnp.float32))
  logs = -logs if kind == "loss" else logs
  logs = logs - logs.max()
  # 0 times inf is no number: the best keep 0 whatever the penalty, and without
  # a penalty all do.
  flat = (logs == 0) | (jnp.asarray(penalty) == 0)
  return jax.nn.softmax(jnp.where(flat, 0.0, penalty * logs))


def profile(fold: Fold, count: int, total: int | None = None) -> np.ndarray:
  """Return the weight of each of the first `count` models in a fold's value.

  The fold is run over the rows of the identity matrix, so any that is linear
  in its models will do.  A fold that starts from the model given to `init`
  starts from zero here: then the weights sum to less than one.

  Args:
    fold: such as `ema(0.99, debias=True)`.
    count: how many models it has seen.
    total: length of the result, filled up with zeros; `count` by default.

  Returns:
    [total] float64.

  Raises:
    ValueError: unless 1 <= count <= total.

  >>> from weightspace.average.in_time.traces import ema
  >>> profile(ema(0.5), 3).tolist()
  [0.125, 0.25, 0.5]
  """
  total = count if total is None else total
  if not 1 <= count <= total:
    raise ValueError(f"profile: count is {count}, expected 1 to {total}")

  def seen(rows: jax.Array) -> jax.Array:
    start = fold.init(jnp.zeros(count, jnp.float32))
    state, _ = jax.lax.scan(
      lambda state, row: (fold.update(state, row), None), start, rows
    )
    return fold.value(state)

  weights = np.zeros(total)
  weights[:count] = jax.jit(seen)(jnp.eye(count, dtype=jnp.float32))
  return weights


class Synthesis(NamedTuple):
  """How an average is made of stored ones, and how well."""

  weights: np.ndarray  # [K]: `weighted_sum(traces, weights)` is the average
  error: float  # |sum_k w_k c_k - target| / |target|, of weights per model


def synthesise(stored: npt.ArrayLike, target: npt.ArrayLike) -> Synthesis:
  """Return the weights that make one average out of stored ones.

  w = argmin |sum_k w_k c_k - target|^2 subject to equal sums, with c_k the
  profile of stored average k: least squares in the space of weights per model,
  which is exact wherever the target is a mix of what was stored.

  Args:
    stored: [K, T] profiles, one a stored average or checkpoint.
    target: [T], the profile of the average that is wanted.

  Returns:
    Synthesis.

  Raises:
    ValueError: when the shapes differ, or the target is zero.

  >>> from weightspace.average.in_time.traces import ema, running_mean
  >>> stored = [profile(running_mean(), n, 4) for n in (2, 4)]
  >>> found = synthesise(stored, [0.0, 0.0, 0.5, 0.5])  # the latest two
  >>> found.weights.round(6).tolist(), round(found.error, 6)
  ([-1.0, 2.0], 0.0)

  Post-hoc EMA: Karras et al. 2024, https://arxiv.org/abs/2312.02696, section
  3.2, there for power functions in closed form; the discrete form is ours.
  """
  rows = np.asarray(stored, np.float64)
  wanted = np.asarray(target, np.float64)
  if rows.ndim != 2 or wanted.shape != rows.shape[1:] or not len(rows):
    raise ValueError(
      f"synthesise: profiles {rows.shape} for a target {wanted.shape}, expected"
      " [K, T] and [T]"
    )
  if not wanted.any():
    raise ValueError("synthesise: the target is zero, expected some weight")
  # The sums get a heavy row of their own, so that averages stay averages.
  heavy = 1e3 * np.linalg.norm(wanted)
  system = np.vstack([rows.T, heavy * rows.sum(1)])
  right = np.append(wanted, heavy * wanted.sum())
  weights = np.linalg.lstsq(system, right, rcond=None)[0]
  error = np.linalg.norm(weights @ rows - wanted) / np.linalg.norm(wanted)
  return Synthesis(weights, float(error))


def ema_weights(steps: npt.ArrayLike, decay: float) -> np.ndarray:
  """Return the weights of an EMA over steps, put on saved checkpoints.

  Each checkpoint stands for the steps since the one before it: a_m =
  d^(s_M - s_m) - d^(s_M - s_(m-1)), and the first for all earlier ones.

  Args:
    steps: [M], rising: when each checkpoint was saved.
    decay: d in [0, 1), per step.

  Returns:
    [M] float64, of sum 1.

  Raises:
    ValueError: for no steps, steps that do not rise, or a bad decay.

  >>> ema_weights([1, 2, 3], 0.5).tolist()
  [0.25, 0.25, 0.5]

  The seeds of LCSC's search: Liu et al. 2024, https://arxiv.org/abs/2404.02241;
  this piecewise form is ours.
  """
  at = np.asarray(steps, np.float64)
  if at.ndim != 1 or not len(at) or (np.diff(at) <= 0).any():
    raise ValueError(f"ema_weights: steps {at.tolist()}, expected rising [M]")
  if not 0.0 <= decay < 1.0:
    raise ValueError(f"ema_weights: decay is {decay}, expected 0 <= decay < 1")
  # The share of all steps up to each checkpoint, seen from the last.
  below = decay ** (at[-1] - at)
  return np.diff(below, prepend=0.0)


def spaced(total: int, count: int) -> list[int]:
  """Return `count` steps at equal distances, the last of which is `total`.

  >>> spaced(100, 4)
  [25, 50, 75, 100]

  Raises:
    ValueError: unless 1 <= count <= total.

  Snapshots over a whole run, as Schmidt et al. 2023, "Free lunch: robust
  cross-lingual transfer via model checkpoint averaging",
  https://arxiv.org/abs/2305.16834.
  """
  if not 1 <= count <= total:
    raise ValueError(f"spaced: {count} of {total} steps, expected 1 to {total}")
  return [math.floor(total * (n + 1) / count) for n in range(count)]
