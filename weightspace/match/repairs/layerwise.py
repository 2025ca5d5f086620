"""Layer-wise least squares: from the mean of the inputs to that of the outputs.

What a layer of the merged model should do is known from its members; the
weights that do it best have a closed form.

>>> def apply(w, x): return x @ w
>>> a, b, x = jnp.ones((1, 1)), jnp.full((1, 1), 3.0), jnp.array([[1.0], [2.0]])
>>> least_squares(apply, [a, b], x).round(3).tolist()
[[2.0]]
"""

import functools
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.jaxpr import closures
from weightspace.match.repairs import layers, repairing
from weightspace.symmetry import checks
from weightspace.types import Apply, Data, Params, Stack

HIGHEST = jax.lax.Precision.HIGHEST
ROUNDING = 1e-6  # of the size of a float32 product


def least_squares(
  apply: Apply,
  stack: Stack,
  x: Data,
  weights: Any = None,
  *,
  ridge: float = 1e-6,
  only: Collection[str] | None = None,
  batch_size: int | None = None,
) -> Params:
  """Merge aligned models layer by layer, by least squares on their features.

  For each linear map, with Z_m its inputs and Y_m its outputs in member m:
  W = argmin |Z W - Y|^2 + r |W - W_0|^2
    = W_0 + (Z'Z + r)^-1 Z'(Y - Z W_0),
  with W_0, Z and Y weighted means over members and r = ridge tr(Z'Z) / n, at
  least 1e-6 |Z'Z|: float32 products say nothing finer.  All other leaves are
  averaged.  Inputs and outputs are those of the members by themselves, so
  layers are independent.

  Args:
    apply: apply(params, x).
    stack: M members, aligned (`permute`), leaves [M, ...] or a list.
    x: inputs [N, ...].
    weights: [M], summing to one; equal when left out.
    ridge: pull towards the mean where the inputs say nothing, as a share of
      their mean square.
    only: paths of the weights to solve for; all when left out.
    batch_size: inputs at a time.

  Returns:
    Params.

  Raises:
    ValueError: for no inputs, models that differ, or a negative ridge.

  >>> def apply(w, x): return jnp.tanh(x @ w["a"]) @ w["b"]
  >>> w = {"a": jnp.eye(2), "b": jnp.ones((2, 1))}
  >>> same = least_squares(apply, [w, w], jnp.eye(2))
  >>> same["b"].round(3).tolist()
  [[1.0], [1.0]]

  Nasery et al. 2024, "PLeaS", https://arxiv.org/abs/2407.02447, section 3.2,
  solved there by Adam; the closed form and the pull to the mean are ours.
  """
  if ridge < 0:
    raise ValueError(f"least_squares: ridge is {ridge}, expected at least 0")
  models, shares = repairing.members(stack, weights, "least_squares")
  checks.check_batch(x, "least_squares", batch_size, graphs=True)
  merged = means.weighted_mean(trees.stack(models), shares)
  parts = repairing.batches(x, batch_size)
  maps = layers.find(apply, merged, parts[0], "least_squares", only)
  keys = tuple((at.leaf, at.taken) for at in maps)
  total: Any = None
  for part in parts:
    sums = _products(
      closures.fixed(apply), keys, models, merged, jnp.asarray(shares), part
    )
    host = jax.tree.map(lambda v: np.asarray(v, np.float64), sums)
    total = host if total is None else jax.tree.map(np.add, total, host)
  for at, (square, moved) in zip(maps, total):
    merged = _solved(merged, at, square, moved, ridge)
  return merged


@functools.partial(jax.jit, static_argnums=(0, 1))
def _products(
  apply: Apply,
  keys: Any,
  models: Sequence[Params],
  mean: Params,
  shares: jax.Array,
  x: Data,
) -> Any:
  """Return (Z'Z, Z'(Y - Z W_0)), [batch, in, in] and [batch, in, out].

  The difference is taken here: the two products cancel, their rounding does
  not.
  """
  maps = layers.find(apply, models[0], x, "least_squares")
  chosen = {(at.leaf, at.taken): at for at in maps}
  wanted = [chosen[key] for key in keys]

  def read(at: Any, a: jax.Array, b: jax.Array) -> Any:
    return trees.widened((at.features(a), at.results(b)))

  total: Any = None
  for model, share in zip(models, shares):
    rows = layers.seen(apply, model, x, wanted, read)
    scaled = jax.tree.map(lambda v, w=share: w * v, rows)
    total = scaled if total is None else jax.tree.map(jnp.add, total, scaled)
  leaves, multiply, result = trees.named(mean), "bti,btj->bij", []
  for at, (z, y) in zip(wanted, total):
    start = trees.widened(layers.matrix(at, leaves[at.path]))
    rest = y - jnp.matmul(z, start, precision=HIGHEST)
    square = jnp.einsum(multiply, z, z, precision=HIGHEST)
    result.append((square, jnp.einsum(multiply, z, rest, precision=HIGHEST)))
  return result


def _solved(
  params: Params, at: Any, square: np.ndarray, moved: np.ndarray, ridge: float
) -> Params:
  def leaf(path: str, value: Any) -> Any:
    if path != at.path:
      return value
    start = np.asarray(layers.matrix(at, value), np.float64)
    size = np.einsum("bii->b", square) / square.shape[1]
    known = ROUNDING * np.linalg.norm(square, axis=(1, 2))
    pull = np.maximum(ridge * size, np.where(known > 0, known, 1.0))
    eye = pull[:, None, None] * np.eye(square.shape[1])[None]
    step = np.linalg.solve(square + eye, moved)
    return layers.put(at, value, jnp.asarray(start + step))

  return trees.map_named(leaf, params)


def residual(
  apply: Apply, stack: Stack, params: Params, x: Data, weights: Any = None
) -> float:
  """Return sum over maps of |sum_m w_m (Z_m W - Y_m)|^2, what is minimised.

  >>> def apply(w, x): return x @ w
  >>> residual(apply, [jnp.eye(2), jnp.eye(2)], jnp.eye(2), jnp.eye(2))
  0.0
  """
  models, shares = repairing.members(stack, weights, "residual")
  maps = layers.find(apply, models[0], x, "residual")

  def read(at: Any, a: jax.Array, b: jax.Array) -> Any:
    return at.features(a), at.results(b)

  rows = [layers.seen(apply, m, x, maps, read) for m in models]
  leaves, total = trees.named(params), 0.0
  for k, at in enumerate(maps):
    z, y = (
      sum(
        w * np.asarray(row[k][side], np.float64) for row, w in zip(rows, shares)
      )
      for side in (0, 1)
    )
    own = np.asarray(layers.matrix(at, leaves[at.path]), np.float64)
    total += float(((z @ own - y) ** 2).sum())
  return total
