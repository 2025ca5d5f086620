"""Averages of models: uniform, weighted, and towards a base.

>>> models = {"w": jnp.array([0.0, 4.0])}
>>> linear([3.0, 1.0])(models)["w"].item()
1.0
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Step, mean, reduction
from weightspace.types import Fold


def uniform() -> Recipe:
  """Return the uniform soup, sum_m theta_m / M.

  >>> uniform()({"w": jnp.array([1.0, 3.0])})["w"].item()
  2.0

  Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482.
  """
  return chain(mean)


def linear(
  weights: Sequence[float] | jax.Array, normalize: bool = True
) -> Recipe:
  """Return the weighted mean, sum_m w_m theta_m / sum_m w_m.

  Args:
    weights: [M]; negative ones are allowed.
    normalize: divide by the sum of the weights; False uses them as they are.

  Raises:
    ValueError: for weights that are not [M], hold a NaN, or sum to zero while
      they are to be normalised; when called, for another M.

  >>> models = {"w": jnp.array([1.0, 3.0])}
  >>> linear([1.0, 1.0], normalize=False)(models)["w"].item()
  4.0

  Wortsman et al. 2022, https://arxiv.org/abs/2203.05482.
  """
  weights = jnp.asarray(weights, float)
  if weights.ndim != 1:
    raise ValueError(
      f"linear: weights have shape {weights.shape}, expected [M]"
    )
  trees.check_finite(weights, "linear: weights")
  if normalize:
    means.check_sum(weights, "linear: weights")
    weights = weights / weights.sum()

  def add(total: jax.Array, item: tuple[Any, jax.Array]) -> jax.Array:
    model, x = item
    return total + weights[model].astype(x.dtype) * x

  def fold(at: At) -> Fold:
    return Fold(
      init=jnp.zeros_like,
      update=add,
      value=lambda total: total,
      merge=lambda a, b: a + b,
    )

  return chain(reduction("linear", fold, models=len(weights), entrywise=True))


def wise_ft(alpha: float | jax.Array) -> Recipe:
  """Return WiSE-FT, (1 - alpha) base + alpha model.

  Several models take the model's place by their uniform soup (ours).

  Args:
    alpha: 0 gives the base, 1 the fine-tuned model; the paper recommends 0.5
      without domain knowledge and stays within [0, 1].

  >>> model, start = {"w": jnp.array([3.0])}, {"w": jnp.array(1.0)}
  >>> wise_ft(0.25)(model, base=start)["w"].item()
  1.5

  Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", sec. 3,
  https://arxiv.org/abs/2109.01903.
  """
  finite = not trees.concrete(alpha) or np.isfinite(alpha).all()
  if np.ndim(alpha) or not finite:
    raise ValueError(f"wise_ft: alpha is {alpha}, expected a number")

  def edit(x: jax.Array, at: At) -> jax.Array:
    return (1 - alpha) * at.base + alpha * x

  return chain(mean, Step("towards_base", edit, ("base",), entrywise=True))
