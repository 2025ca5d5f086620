"""Keskar's sharpness: the largest loss in a box, relative to 1 + loss.

>>> def loss(w, x): return (w**2).sum()
>>> round(keskar_sharpness(loss, jnp.zeros(2), None, epsilon=0.1), 3)
2.0
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from weightspace.losses import objectives
from weightspace.probe.sharpness import sharpness
from weightspace.types import Data, Key, Loss, Params


def keskar_sharpness(
  loss: Loss,
  params: Params,
  data: Data,
  epsilon: float = 1e-3,
  *,
  key: Key | None = None,
  subspace: int | None = None,
  iterations: int = 10,
) -> float:
  """Return 100 (max_z L(w + A z) - L(w)) / (1 + L(w)) over a box.

  The box is |z_i| <= epsilon (|(A^+ w)_i| + 1), searched by L-BFGS-B.

  Args:
    loss: `loss(params, data)`.
    params: one model.
    data: a pytree.
    epsilon: size of the box; the paper has 1e-3 and 5e-4.
    key: of A, and of the start of the search (w is often stationary).
    subspace: columns of a random A; None for A = I.
    iterations: of L-BFGS-B.

  Returns:
    A lower bound of the supremum; the result of a search, >= 0.

  Raises:
    ValueError: for epsilon that is not positive, or a subspace without a key.

  >>> def loss(w, x): return 3.0 * w[0]
  >>> round(keskar_sharpness(loss, jnp.zeros(2), None), 4)
  0.3

  Keskar et al. 2017, https://arxiv.org/abs/1609.04836, section 2.2.2; the
  random start is ours, a tenth of the box wide; the search runs on the host.
  """
  loss, part, params = sharpness.opened(loss, params, data, "keskar_sharpness")
  sharpness.check_rho(epsilon, "keskar_sharpness", "epsilon")
  if subspace is not None and (key is None or subspace < 1):
    raise ValueError(
      f"keskar_sharpness: subspace {subspace} needs a key and a size of at"
      " least 1"
    )
  own, begin = jax.random.split(jax.random.key(0) if key is None else key)
  w = part.ravel(part.take(params))
  columns = None
  inside = np.asarray(w, float)
  if subspace is not None:
    columns = jax.random.normal(own, (len(w), subspace), w.dtype)
    inside = np.linalg.lstsq(np.asarray(columns, float), inside)[0]
  bound = epsilon * (np.abs(inside) + 1.0)
  value = functools.partial(_lowered, loss, part, params, data, columns)

  def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
    low, slope = value(jnp.asarray(z, w.dtype))
    return float(low), np.asarray(slope, float)

  shares = np.asarray(jax.random.uniform(begin, bound.shape, minval=-1.0))
  found = scipy.optimize.minimize(
    objective,
    0.1 * bound * shares,
    jac=True,
    method="L-BFGS-B",
    bounds=np.stack([-bound, bound], 1),
    options={"maxiter": iterations},
  )
  first = float(objectives.mean(loss, params, data))
  return 100.0 * max(-float(found.fun) - first, 0.0) / (1.0 + first)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _lowered(
  loss: Loss, part: Any, params: Params, data: Data, columns: Any, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Return -L(w + A z) and its gradient."""

  def low(z: jax.Array) -> jax.Array:
    step = z if columns is None else columns @ z
    moved = part.unravel(part.ravel(part.take(params)) + step)
    return -objectives.mean(loss, part.put(params, moved), data)

  return jax.value_and_grad(low)(z)
