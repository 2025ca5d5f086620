"""Fisher merging: the mean of models, each entry by how sure its model is.

>>> models = {"w": jnp.array([[0.0, 0.0], [1.0, 1.0]])}
>>> sure = {"w": jnp.array([[1.0, 3.0], [1.0, 1.0]])}
>>> fisher(normalize=False)(models, fisher=sure)["w"].tolist()
[0.5, 0.25]
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Measure, Step
from weightspace.types import Key


def fisher(
  floor: float | jax.Array = 1e-6,
  normalize: bool = True,
  *,
  coefficients: Sequence[float] | jax.Array | None = None,
  floor_on: str = "all",
) -> Recipe:
  """Return Fisher merging, theta = sum_m a_m F_m theta_m / sum_m a_m F_m.

  F_m >= floor is the diagonal Fisher information of model m, entry by entry;
  with `normalize`, a_m is divided by |F_m|, the norm over all leaves.  Where
  all weights of an entry are zero it is the plain mean: so it is everywhere
  when every Fisher is zero.

  Args:
    floor: entries of F below it are raised to it, before normalising.
    normalize: divide each model's Fisher by its norm (the paper's code).
    coefficients: [M], a_m; all one by default.  `fisher_coefficients` has the
      grids of the paper's code.
    floor_on: the models whose F has the floor: "all", or the "first" alone,
      which keeps the first model's value where no other has any information
      (the default of the paper's code, which calls it the target).

  Returns:
    Recipe, called with `fisher=`, a Stack of what `ws.statistics.fisher` gives,
    or a list with one per model.

  Raises:
    ValueError: for a negative floor, coefficients that are not one per model,
      or (when called) a Fisher of another shape or with a negative entry.

  >>> models = {"w": jnp.array([0.0, 4.0])}
  >>> fisher()(models, fisher={"w": jnp.array([5.0, 1.0])})["w"].item()
  2.0

  Matena and Raffel 2022, "Merging models with Fisher-weighted averaging",
  https://arxiv.org/abs/2111.09832; floor and norm are from its code, where
  floor_on is "first".
  """
  checks.number("fisher: floor", floor, 0)
  checks.option("fisher: floor_on", floor_on, ("all", "first"))
  given = None if coefficients is None else _coefficients(coefficients)
  measures = (Measure(_none, _add, jnp.sqrt, _squares),) if normalize else ()

  def edit(x: jax.Array, at: At) -> jax.Array:
    weights = jnp.asarray(at.given["fisher"], x.dtype)
    lead = (-1, *[1] * (x.ndim - 1))
    least = jnp.full(len(x), floor).reshape(lead)
    if floor_on == "first":
      least = least * (jnp.arange(len(x)) == 0).reshape(lead)
    weights = jnp.maximum(weights, least)
    if normalize:
      size = jnp.asarray(at.measured)
      share = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 1.0)
      weights = weights * share.reshape(lead)
    if given is not None:
      weights = weights * given.reshape(lead)
    return _mean(x, weights)

  step = Step(
    "fisher",
    edit,
    ("fisher",),
    measures,
    reduces=True,
    models=None if given is None else len(given),
    check=_check,
  )
  return chain(step)


def _mean(x: jax.Array, weights: jax.Array) -> jax.Array:
  """Return sum w x / sum w, the plain mean where the weights are zero."""
  total = means.contract(weights, jnp.ones(len(x)))
  empty = total <= 0
  plain = means.contract(x, jnp.full(len(x), 1 / len(x), jnp.float32))
  # Relative to the plain mean: entries that all models share stay exact.
  moved = means.contract(x - plain[None], weights)
  return plain + jnp.where(empty, 0.0, moved / jnp.where(empty, 1.0, total))


def _check(path: str, x: Any, at: At) -> None:
  """Refuse a leaf's Fisher of another shape or with a negative entry."""
  fisher = at.given["fisher"]
  if np.shape(fisher) != x.shape:
    raise ValueError(
      f"fisher: {path!r} has shape {np.shape(fisher)}, expected {x.shape}: that"
      " of the Stack"
    )
  if trees.concrete(fisher) and np.asarray(fisher).min(initial=0) < 0:
    raise ValueError(f"fisher: {path!r} has a negative entry, expected squares")


def _none(before: Any) -> jax.Array:
  return jnp.zeros(())


def _add(state: jax.Array, item: tuple[jax.Array, At]) -> jax.Array:
  return state + item[0]


def _squares(x: jax.Array, at: At) -> jax.Array:
  """Return the squared norm of a leaf's Fisher, [M]."""
  fisher = jnp.asarray(at.given["fisher"], jnp.float32)
  return (fisher**2).sum(tuple(range(1, fisher.ndim)))


def _coefficients(values: Any) -> jax.Array:
  values = jnp.asarray(values, jnp.float32)
  if values.ndim != 1:
    raise ValueError(
      f"fisher: coefficients have shape {values.shape}, expected [M]"
    )
  checks.number("fisher: coefficients", values, 0, many=True)
  return values


def fisher_coefficients(
  models: int, count: int = 51, key: Key | None = None
) -> jax.Array:
  """Return the grid of coefficients that the paper's code searches, [K, M].

  Args:
    models: M; of two, an even grid from (0, 1) to (1, 0), both ends included;
      of more, draws from the uniform distribution on the simplex.
    count: K.
    key: for more than two models.

  Raises:
    ValueError: for fewer than two models, fewer than two rows, or no key.

  >>> fisher_coefficients(2, 3).tolist()
  [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]

  Matena and Raffel 2022, https://arxiv.org/abs/2111.09832 (its code).
  """
  if models < 2 or count < 2:
    raise ValueError(
      f"fisher_coefficients: {count} of {models} models, expected at least 2"
      " of at least 2"
    )
  if models == 2:
    first = jnp.linspace(0.0, 1.0, count)
    return jnp.stack([first, 1 - first], 1)
  if key is None:
    raise ValueError("fisher_coefficients: more than 2 models need key=")
  return jax.random.dirichlet(key, jnp.ones(models), (count,))
