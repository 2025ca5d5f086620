"""Masks by magnitude, and zeros that stay: sparse without a mask beside.

A pruned weight is a zero, and `frozen_zeros` keeps zeros through training, so
no mask has to be carried along; models that share one have a mean that has it.

>>> params = {"w": jnp.array([[3.0, -1.0], [0.5, 2.0]])}
>>> mask = magnitude_mask(params, density=0.5)
>>> prune(params, mask)["w"].tolist()
[[3.0, 0.0], [0.0, 2.0]]
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import means, trees
from weightspace.numerics import counts, top_k
from weightspace.sparse import masks
from weightspace.types import Params, Stack

SCOPES = ("global", "leaf")


def magnitude_mask(
  params: Params, density: float, scope: str = "global", axes: int = 2
) -> Params:
  """Return which weights are kept: the largest by magnitude.

  k = floor(density n + 1e-6), at least 1; every weight as large as the k-th
  largest is kept, ties included, and no zero ever.

  Args:
    params: of one model.
    density: the share that is kept, in (0, 1].
    scope: "global" over all weights, or "leaf" by leaf.
    axes: leaves of fewer axes (biases, scales) are kept whole.

  Returns:
    Booleans, shaped as `params`.

  Raises:
    ValueError: for a density out of range, another scope, or a tree without
      weights.

  >>> magnitude_mask({"w": jnp.array([[4.0, 1.0]])}, 0.5)["w"].tolist()
  [[True, False]]

  Global magnitude is the default of Zimmer et al. 2024,
  https://arxiv.org/abs/2306.16788; keeping biases whole is ours.
  """
  if scope not in SCOPES:
    raise ValueError(f"magnitude_mask: scope is {scope!r}, expected {SCOPES}")
  if not 0.0 < density <= 1.0:
    raise ValueError(
      f"magnitude_mask: density is {density}, expected 0 < density <= 1"
    )
  sizes = {
    path: jnp.abs(jnp.asarray(x)).astype(jnp.float32)
    for path, x in trees.named(params).items()
    if _prunable(x, axes)
  }
  if not sizes:
    raise ValueError(f"magnitude_mask: no leaf has {axes} axes or more")
  groups = [list(sizes)] if scope == "global" else [[path] for path in sizes]
  kept: dict[str, jax.Array] = {}
  for group in groups:
    kept |= _not_below({path: sizes[path] for path in group}, density)

  def leaf(path: str, x: Any) -> jax.Array:
    if path not in sizes:
      return jnp.ones(jnp.shape(x), bool)
    return kept[path] & (sizes[path] > 0)

  return trees.map_named(leaf, params)


def _not_below(
  sizes: dict[str, jax.Array], density: float
) -> dict[str, jax.Array]:
  """Return which of some sizes are at least their k-th largest."""
  words = {path: top_k.words(x) for path, x in sizes.items()}
  k = counts.kept(density, sum(x.size for x in sizes.values()))
  limit = top_k.kth([x.reshape(1, -1) for x in words.values()], k)
  return {path: x >= limit.reshape(()) for path, x in words.items()}


def prune(params: Params, mask: Params) -> Params:
  """Set to zero what a mask leaves out: `apply` under its older name.

  Raises:
    ValueError: at the first leaf that the mask is not shaped as.

  >>> prune({"w": jnp.ones(2)}, {"w": jnp.array([True, False])})["w"].tolist()
  [1.0, 0.0]
  """
  masks.check(params, mask, "prune")
  return masks.apply(params, mask)


def masked_mean(stack: Stack, mask: Params) -> Params:
  """Return the mean of models that share a mask; it has the mask exactly.

  Args:
    stack: leaves [M, ...].
    mask: booleans, shaped as one model.

  Returns:
    Params.

  Raises:
    ValueError: at the first leaf that the mask is not shaped as, or when a
      model is not zero where the mask says so, naming the first path and model
      (checked on concrete values).

  >>> mask = {"w": jnp.array([True, False])}
  >>> models = {"w": jnp.array([[1.0, 0.0], [3.0, 0.0]])}
  >>> masked_mean(models, mask)["w"].tolist()
  [2.0, 0.0]

  Zimmer et al. 2024, https://arxiv.org/abs/2306.16788.
  """
  masks.check(jax.tree.map(lambda x: x[0], stack), mask, "masked_mean")
  if trees.concrete((stack, mask)):
    keeps = trees.named(mask)
    for path, x in trees.named(stack).items():
      stray = np.asarray((x != 0) & ~keeps[path][None])
      if stray.any():
        model = int(np.argwhere(stray)[0][0])
        raise ValueError(
          f"masked_mean: {path!r} of model {model} is not zero outside of the"
          " mask, expected members of one mask"
        )
  return prune(means.weighted_mean(stack), mask)


def frozen_zeros(tx: Any, axes: int = 2) -> Any:
  """Wrap an optax transformation so that weights that are zero stay zero.

  Gradients and updates of zero weights are cut off, so momentum and weight
  decay do not move them either.

  Args:
    tx: the transformation.
    axes: leaves of fewer axes train on, also from zero.

  Returns:
    An optax transformation; its update needs the parameters.

  >>> tx = frozen_zeros(optax.sgd(1.0))
  >>> params = {"w": jnp.array([[0.0, 1.0]])}
  >>> updates, _ = tx.update({"w": jnp.ones((1, 2))}, tx.init(params), params)
  >>> updates["w"].tolist()
  [[0.0, -1.0]]

  Ours; equal to the masked training of https://arxiv.org/abs/2306.16788.
  """
  inner = optax.with_extra_args_support(tx)

  def cut(tree: Params, params: Params) -> Params:
    return jax.tree.map(
      lambda g, x: jnp.where(x != 0, g, 0.0) if _prunable(x, axes) else g,
      tree,
      params,
    )

  def update(
    updates: Params, state: Any, params: Any = None, **extra: Any
  ) -> tuple[Params, Any]:
    if params is None:
      raise ValueError("frozen_zeros: params is None, expected the parameters")
    updates, state = inner.update(cut(updates, params), state, params, **extra)
    return cut(updates, params), state

  return optax.GradientTransformationExtraArgs(inner.init, update)


def sparsity(params: Params, axes: int = 2) -> float:
  """Return the share of zeros among the weights that can be pruned.

  Raises:
    ValueError: for a tree without such weights.

  >>> sparsity({"w": jnp.array([[0.0, 1.0]]), "b": jnp.zeros(3)})
  0.5
  """
  leaves = [
    np.asarray(x) for x in jax.tree.leaves(params) if _prunable(x, axes)
  ]
  if not leaves:
    raise ValueError(f"sparsity: no leaf has {axes} axes or more")
  zeros = sum(int((x == 0).sum()) for x in leaves)
  return zeros / sum(x.size for x in leaves)


def _prunable(x: Any, axes: int) -> bool:
  return trees.inexact(x) and np.ndim(x) >= axes
