"""What a model's weights tell of its accuracy: ridge regression on features.

>>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
>>> predictor = fit_predictor(x, jnp.array([1.0, 3.0, 5.0, 7.0]), penalty=0.0)
>>> predictor(jnp.array([[4.0]])).round(3).tolist()
[9.0]
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees

PENALTIES = tuple(10.0**power for power in np.arange(-3.0, 5.5, 0.5))


@flax.struct.dataclass
class Predictor:
  """A linear function of standardised features; called, it predicts [K]."""

  center: jax.Array  # [F]
  scale: jax.Array  # [F]; 0 for features that did not vary
  weights: jax.Array  # [F]
  offset: jax.Array  # []
  penalty: jax.Array  # []
  left_out: jax.Array  # [M], each member predicted from all others

  def __call__(self, features: jax.Array) -> jax.Array:
    if features.shape[-1:] != self.weights.shape:
      raise ValueError(
        f"predictor: features are {features.shape}, expected"
        f" [..., {len(self.weights)}]"
      )
    lead = (1,) * (features.ndim - 1)
    center, scale = (x.reshape(*lead, -1) for x in (self.center, self.scale))
    standard = (features - center) * scale
    return standard @ self.weights + self.offset


def fit_predictor(
  features: jax.Array, targets: jax.Array, penalty: float | None = None
) -> Predictor:
  """Fit ridge regression of a number of each model on its features.

  w minimises |y - mean(y) - X w|^2 + penalty |w|^2, X the features less their
  means over their standard deviations.  The penalty is the one of `PENALTIES`
  that predicts members best which were left out, each in turn; that takes one
  decomposition, since a residual left out is r_m / (1 - h_m).

  Args:
    features: [M, F], such as `features` gives.
    targets: [M], say accuracies on held-out data.
    penalty: at least 0; None to choose it.

  Returns:
    Predictor.

  Raises:
    ValueError: for shapes that do not fit, fewer than 3 models, a negative
      penalty, or values that are not finite.

  >>> x = jax.random.normal(jax.random.key(0), (50, 3))
  >>> y = x @ jnp.array([1.0, -2.0, 0.0])
  >>> bool(jnp.abs(fit_predictor(x, y)(x) - y).max() < 0.01)
  True

  The baseline of Unterthiner et al. 2020, https://arxiv.org/abs/2002.11448,
  with ridge regression for their gradient-boosted trees.
  """
  x, y = jnp.asarray(features), jnp.asarray(targets)
  if x.ndim != 2 or y.shape != x.shape[:1] or len(x) < 3:
    raise ValueError(
      f"fit_predictor: features {x.shape} and targets {y.shape}, expected"
      " [M, F] and [M] with M >= 3"
    )
  if penalty is not None and not penalty >= 0:
    raise ValueError(f"fit_predictor: penalty is {penalty}, expected >= 0")
  for what, values in {"features": x, "targets": y}.items():
    if trees.concrete(values) and not np.isfinite(np.asarray(values)).all():
      raise ValueError(f"fit_predictor: {what} are not all finite")
  center, deviation = x.mean(0), x.std(0)
  varies = deviation > 1e-6 * jnp.maximum(jnp.abs(center), 1e-6)
  scale = jnp.where(varies, 1.0 / jnp.where(varies, deviation, 1.0), 0.0)
  u, s, v = jnp.linalg.svd(
    (x - center[None]) * scale[None], full_matrices=False
  )
  tried = jnp.array(PENALTIES if penalty is None else (penalty,), s.dtype)
  left_out = jax.vmap(lambda p: _left_out(u, s, y, p))(tried)  # [P, M]
  best = jnp.argmin(jnp.sum((left_out - y[None]) ** 2, -1))
  shrunk = _inverse(s, tried[best]) * (u.T @ (y - y.mean()))
  return Predictor(
    center, scale, v.T @ shrunk, y.mean(), tried[best], left_out[best]
  )


def _inverse(s: jax.Array, penalty: jax.Array) -> jax.Array:
  """Return s / (s^2 + penalty), 0 where rounding leaves s of zero."""
  kept = s > s.max() * len(s) * jnp.finfo(s.dtype).eps
  return jnp.where(kept, s / jnp.where(kept, s**2 + penalty, 1.0), 0.0)


def _left_out(
  u: jax.Array, s: jax.Array, y: jax.Array, penalty: jax.Array
) -> jax.Array:
  """Return each target as predicted from the others, in closed form.

  Means and deviations are those of all members, also of the one left out.
  """
  share = s * _inverse(s, penalty)
  fitted = y.mean() + u @ (share * (u.T @ (y - y.mean())))
  leverage = (u**2) @ share + 1.0 / len(y)
  residual = y - fitted
  return y - residual / jnp.maximum(1.0 - leverage, 1e-6)
