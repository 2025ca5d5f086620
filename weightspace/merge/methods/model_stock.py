"""Averages around a base: how far to go from it towards the models.

>>> models, start = {"w": jnp.eye(2)}, {"w": jnp.zeros(2)}
>>> model_stock()(models, base=start)["w"].tolist()
[0.0, 0.0]
"""

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means
from weightspace.merge.core import checks, matrix_view
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Step, minus_base, plus_base
from weightspace.merge.methods import karcher

SCOPES = ("tensor", "row")
ANGLES = ("cosine", "degrees")


def model_stock(
  scope: str = "tensor",
  average: str = "cosine",
  rows: str = "last",
  view: matrix_view.View = matrix_view.kernels,
) -> Recipe:
  """Return Model Stock, t mean_m theta_m + (1 - t) base.

  t = M c / (1 + (M - 1) c) with c the cosine between task vectors, averaged
  over all pairs.  Nothing is clamped: c < 0 moves away from the mean, and where
  |1 + (M - 1) c| < 1e-6, t = 0.

  Args:
    scope: one t for each "tensor" (the paper's layer), or for each "row" (the
      last axis).
    average: over pairs, the "cosine" or the angle ("degrees", as FusionBench).
    rows: with scope="row", the "last" axis as given or one "output" unit.
    view: what an output unit is, for rows="output".

  Raises:
    ValueError: for an unknown option, or (when called) a missing base or M < 2.

  >>> models, start = {"w": jnp.eye(2) + 1}, {"w": jnp.ones(2)}
  >>> model_stock()(models, base=start)["w"].tolist()  # orthogonal: the base
  [1.0, 1.0]

  Jang, Yun and Han 2024, "Model Stock: all we need is just a few fine-tuned
  models", https://arxiv.org/abs/2403.19522; the mean over pairs and the
  floor (1e-12 of the largest squared norm) are ours.
  """
  checks.option("model_stock: scope", scope, SCOPES)
  checks.option("model_stock: average", average, ANGLES)
  matrix_view.check_rows("model_stock", rows, scope)

  def edit(x: jax.Array, at: At) -> jax.Array:
    checks.count("model_stock", x, least=2)
    by_row = scope == "row" and x.ndim > 2
    products = karcher.gram(x, by_row=by_row)
    c = _mean_cosine(products, average)
    below = 1 + (len(x) - 1) * c
    flat = jnp.abs(below) < 1e-6
    t = jnp.where(flat, 0.0, len(x) * c / jnp.where(flat, 1.0, below))
    mean = means.contract(x, jnp.full(len(x), 1 / len(x), jnp.float32))
    return (t[..., None] if by_row else t) * mean

  step = Step("model_stock", edit, reduces=True)
  return chain(minus_base, matrix_view.by_rows(rows, step, view), plus_base)


def _mean_cosine(products: jax.Array, average: str) -> jax.Array:
  """Return the mean cosine of pairs from inner products [..., M, M]."""
  squares = jnp.diagonal(products, axis1=-2, axis2=-1)
  lengths = jnp.sqrt(squares)
  floor = 1e-12 * squares.max(-1)[..., None, None]
  scale = jnp.maximum(lengths[..., :, None] * lengths[..., None, :], floor)
  cosines = products / jnp.where(scale == 0, 1.0, scale)
  first, second = np.triu_indices(products.shape[-1], 1)
  pairs = cosines[..., first, second]
  if average == "cosine":
    return pairs.mean(-1)
  return jnp.cos(jnp.arccos(jnp.clip(pairs, -1.0, 1.0)).mean(-1))


def nearswap(t: float | jax.Array) -> Recipe:
  """Return base + clip(model - base, -t, t): move by at most t per parameter.

  The weight of the model is min(1, t / |model - base|): parameters that are
  near each other are swapped, the others move by t.

  Args:
    t: at least 0, in units of the parameters.

  Raises:
    ValueError: for a negative t, or (when called) a missing base or M != 1.

  >>> models, start = {"w": jnp.array([[3.0, 0.1]])}, {"w": jnp.zeros(2)}
  >>> nearswap(0.5)(models, base=start)["w"].round(3).tolist()
  [0.5, 0.10000000149011612]

  alchemonaut 2024, model cards of QuartetAnemoi-70B and BoreanGale-70B,
  https://huggingface.co/alchemonaut/BoreanGale-70B; no paper.
  """
  checks.number("nearswap: t", t, least=0.0)

  def edit(x: jax.Array, at: At) -> jax.Array:
    checks.count("nearswap", x, exactly=1)
    return jnp.clip(x[0], -t, t)

  return chain(minus_base, Step("nearswap", edit, reduces=True), plus_base)
