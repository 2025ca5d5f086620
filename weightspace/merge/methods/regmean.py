"""RegMean: the linear maps that agree best with each model on its own inputs.

For a linear map W_m with inputs X_m the least-squares merge has a closed form
in the Gram matrices G_m = X_m' X_m / tokens, so the data need not be at hand.

>>> models = {"w": jnp.array([[[0.0], [0.0]], [[1.0], [1.0]]])}
>>> seen = [jnp.diag(jnp.array(d)) for d in ([1.0, 0.0], [1.0, 0.0])]
>>> grams = [{"w": g.reshape(2, 1, 2, 1)} for g in seen]
>>> regmean()(models, gram=grams)["w"].round(4).tolist()
[[0.5], [0.5]]
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.core.matrix_view import dot
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Step
from weightspace.statistics import gram_matrices
from weightspace.types import Params

RIDGE = 1e-6


def regmean(
  offdiag: float | jax.Array = 1.0, *, ridge: float | jax.Array = RIDGE
) -> Recipe:
  """Return RegMean, W = (sum_m H_m)^-1 sum_m H_m W_m, by linear map.

  H_m = G_m with off-diagonal entries times `offdiag`, plus r I: the minimum of
  sum_m |X_m (W - W_m)|^2 + M r |W - mean W_m|^2.  The ridge is on both sides,
  so what no model has seen gets the plain mean, and so do all parameters
  without a Gram matrix (biases, norms, embeddings).  r is `ridge` times the
  mean of the diagonals of all G_m; `gram_ranks` reports it.

  Args:
    offdiag: 1 is no shrinking, the default of the paper's code; 0.9 and 0.1
      are in its settings for single models, 0 weighs inputs by themselves.
    ridge: relative.

  Returns:
    Recipe, called with `gram=`, a list with one `ws.statistics.gram` per model
    (or their Stack).

  Raises:
    ValueError: for numbers out of range, or (when called) Gram matrices of
      another model, naming the parameter.

  >>> models = {"w": jnp.array([[[0.0], [0.0]], [[1.0], [1.0]]])}
  >>> seen = [jnp.diag(jnp.array(d)) for d in ([3.0, 0.0], [1.0, 1.0])]
  >>> grams = [{"w": g.reshape(2, 1, 2, 1)} for g in seen]
  >>> regmean()(models, gram=grams)["w"].round(3).tolist()
  [[0.25], [1.0]]

  Jin et al. 2023, "Dataless knowledge fusion by merging weights of language
  models", https://arxiv.org/abs/2212.09849; the ridge is ours.
  """
  checks.number("regmean: offdiag", offdiag, 0, 1)
  checks.number("regmean: ridge", ridge, 0)

  def edit(x: jax.Array, at: At) -> jax.Array:
    return merged("the leaf", x, at.given["gram"], offdiag, ridge)

  step = Step("regmean", edit, ("gram",), reduces=True, check=_check)
  return chain(step)


def _check(path: str, x: Any, at: At) -> None:
  """Refuse the Gram matrices of another parameter."""
  jax.eval_shape(lambda gram: _matrices(path, gram, x.shape), at.given["gram"])


def merged(
  path: str, x: jax.Array, gram: jax.Array, offdiag: Any, ridge: Any
) -> jax.Array:
  """Return one merged leaf of [M, ...], of Gram matrices stacked likewise."""
  plain = means.contract(x, jnp.full(len(x), 1 / len(x), jnp.float32))
  seen = _matrices(path, gram, x.shape)
  if seen is None:
    return plain
  batch, inputs, outputs = gram_matrices.axes(gram.shape[1:], x.shape[1:])
  order = [*batch, *inputs, *outputs]
  moved = (x - plain[None]).transpose(0, *[axis + 1 for axis in order])
  rows = moved.reshape(len(x), seen.shape[1], seen.shape[-1], -1)
  solve = jax.vmap(lambda g, w: _solve(g, w, offdiag, ridge), in_axes=1)
  found = solve(seen.astype(x.dtype), rows).reshape(moved.shape[1:])
  return plain + found.transpose(np.argsort(order))


def _solve(
  grams: jax.Array, moved: jax.Array, offdiag: Any, ridge: Any
) -> jax.Array:
  """Return (sum G_m + M r I)^-1 sum_m G_m D_m, of [M, in, in], [M, in, out].

  D_m are differences from the plain mean, so the ridge's share of the right
  side is zero.  Directions that are seen less than rounding is take none of it.
  """
  shrunk = _shrunk(grams, offdiag)
  ones = jnp.ones(len(shrunk))
  right = means.contract(dot(shrunk, moved), ones)
  values, vectors = jnp.linalg.eigh(means.contract(shrunk, ones))
  least = noise(values.dtype, len(values)) * values[-1]
  whole = values + len(grams) * _absolute(grams, ridge)
  kept = (values > least) & (whole > 0)
  inverse = jnp.where(kept, 1 / jnp.where(kept, whole, 1.0), 0.0)
  return dot(vectors, inverse[:, None] * dot(vectors.mT, right))


def noise(dtype: Any, size: int) -> float:
  """Return which share of the largest eigenvalue rounding may look like."""
  return 4.0 * math.sqrt(size) * float(jnp.finfo(dtype).eps)


def _shrunk(grams: jax.Array, offdiag: Any) -> jax.Array:
  diagonal = jnp.eye(grams.shape[-1], dtype=grams.dtype)[None]
  return grams * (diagonal + (1 - diagonal) * offdiag)


def _absolute(grams: jax.Array, ridge: Any) -> jax.Array:
  """Return the ridge of Gram matrices [M, in, in] as it is added to each."""
  return ridge * jnp.trace(grams.mean(0)) / grams.shape[-1]


def _matrices(
  path: str, gram: jax.Array, shape: tuple[int, ...]
) -> jax.Array | None:
  """Return [M, batch, in, in] of a stacked leaf; None where there is none."""
  if np.shape(gram)[:1] != shape[:1]:
    raise ValueError(
      f"gram: {path!r} has {np.shape(gram)[:1]} models, expected {shape[:1]}"
    )
  if gram.shape[1:] == (0,):
    return None
  try:
    return jax.vmap(lambda g: gram_matrices.matrix(g, shape[1:]))(gram)
  except ValueError:
    raise ValueError(
      f"gram: {path!r} is {gram.shape[1:]}, expected the Gram matrix of a"
      f" parameter {shape[1:]}"
    ) from None


class Rank(NamedTuple):
  """How much of a linear map's inputs the models have seen, by batch."""

  inputs: int
  seen: np.ndarray  # [batch] directions that some model has seen
  condition: np.ndarray  # [batch] largest eigenvalue over the least one seen
  ridge: np.ndarray  # [batch] what is added to the diagonal of each G_m


def gram_ranks(
  grams: Sequence[Params], params: Params, ridge: float = RIDGE
) -> dict[str, Rank]:
  """Report the rank of sum_m G_m and the ridge that `regmean` adds, by path.

  Args:
    grams: one `ws.statistics.gram` per model.
    params: one of the models, or its shapes.
    ridge: as given to `regmean`.

  Returns:
    {path: Rank} of the linear maps; `seen < inputs` is a singular matrix, whose
    unseen directions get the plain mean.

  Raises:
    ValueError: for no Gram matrices, or those of another model.

  >>> grams = [{"w": jnp.diag(jnp.array([4.0, 0.0])).reshape(2, 1, 2, 1)}]
  >>> rank = gram_ranks(grams, {"w": jnp.ones((2, 3))})["w"]
  >>> rank.inputs, rank.seen.tolist(), rank.ridge.round(9).tolist()
  (2, [1], [2e-06])
  """
  if not grams:
    raise ValueError("gram_ranks: no Gram matrices, expected one per model")
  stacked = trees.named(trees.spread(list(grams), params, "gram"))
  found = {}
  for path, leaf in trees.named(params).items():
    seen = _matrices(path, stacked[path], (len(grams), *np.shape(leaf)))
    if seen is not None:
      found[path] = _rank(np.asarray(seen, np.float64), ridge)
  return found


def _rank(grams: np.ndarray, ridge: float) -> Rank:
  values = np.linalg.eigvalsh(grams.sum(0))
  size, most = values.shape[-1], values[:, -1:]
  kept = values > noise(jnp.float32, size) * most
  least = np.where(kept, values, np.inf).min(1)
  return Rank(
    size,
    kept.sum(1),
    np.where(np.isfinite(least), most[:, 0] / least, np.inf),
    ridge * np.trace(grams.mean(0), axis1=1, axis2=2) / size,
  )
