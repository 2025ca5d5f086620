"""Which entries to keep: the largest by a score, exactly so many.

k = floor(density n + 1e-6), at least 1, of n entries; of equal ones those that
come first are kept, by leaf and then by place.

>>> top(jnp.array([0.5, -3.0, 2.0, 0.5]), 0.5).tolist()
[True, False, True, False]
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import matrix_views, trees
from weightspace.numerics import counts, top_k
from weightspace.types import Params

SCOPES = ("leaf", "global", "row")
EDGE = 1e-6  # keeps 0.3 * 10 from being counted as 2


def pruned(
  params: Params, only: str | Sequence[str] | None, what: str
) -> dict[str, Any]:
  """Return the leaves that are pruned, by path.

  Args:
    params: of one model.
    only: patterns of paths; None for the kernels: floats of two axes or more
      that are not named `bias` or `scale`.
    what: who asks, for the error.

  Raises:
    ValueError: when there are none, or a pattern matches no path.
  """
  leaves = {p: x for p, x in trees.named(params).items() if trees.inexact(x)}
  if only is None:
    chosen = {
      path: x
      for path, x in leaves.items()
      if matrix_views.kernels(path)(np.shape(x)) is not None
    }
    if not chosen:
      raise ValueError(f"{what}: no leaf has 2 axes or more, nothing to prune")
    return chosen
  patterns = [only] if isinstance(only, str) else list(only)
  for pattern in patterns:
    if not any(fnmatch.fnmatch(path, pattern) for path in leaves):
      raise ValueError(
        f"{what}: only {pattern!r} matches no path of {', '.join(leaves)}"
      )
  return {
    path: x
    for path, x in leaves.items()
    if any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
  }


def check_density(what: str, density: Any) -> None:
  """Raise a ValueError for a density outside of (0, 1]; pass traced ones."""
  for path, share in trees.named(density).items():
    at = f" of {path!r}" if path else ""
    if not trees.concrete(share):
      if jnp.ndim(share):
        raise ValueError(
          f"{what}: density{at} has shape {share.shape}, expected a number"
        )
    elif np.ndim(share) or isinstance(share, str) or not 0.0 < share <= 1.0:
      raise ValueError(
        f"{what}: density{at} is {share}, expected a number in (0, 1]"
      )


def fill(params: Params, chosen: Mapping[str, jax.Array]) -> Params:
  """Return the mask of some leaves by path; the others are kept whole."""

  def leaf(path: str, x: Any) -> jax.Array:
    return chosen[path] if path in chosen else jnp.ones(jnp.shape(x), bool)

  return trees.map_named(leaf, params)


def top(scores: Params, density: Any, scope: str = "leaf") -> Params:
  """Return the mask of the largest scores: exactly k are kept.

  k = floor(density n + 1e-6), at least 1.  Scores are taken as they are, with
  their sign: take `abs` first for magnitudes.

  Args:
    scores: a tree of real numbers [...]; every leaf takes part.
    density: the share that is kept, in (0, 1]; a number, or a prefix tree of
      numbers where the scope is not global.  May be traced.
    scope: n counts each leaf ("leaf"), the tree ("global"), or each row along
      the last axis ("row"; a leaf of one axis is one row).

  Returns:
    Booleans, shaped as `scores`.  Of equal scores those that come first are
    kept, by leaf order and then by place in the leaf.

  Raises:
    ValueError: for a density out of range, another scope, no scores, complex
      scores, or a NaN (on concrete values), naming the first path.

  >>> top({"a": jnp.array([4.0, 1.0]), "b": jnp.array([3.0, 2.0])}, 0.5,
  ...   scope="global")["b"].tolist()
  [True, False]

  Counts as in Zhu & Gupta 2017, https://arxiv.org/abs/1710.01878; the rule for
  ties is ours.
  """
  leaves = _scores(scores)
  if scope not in SCOPES:
    raise ValueError(f"top: scope is {scope!r}, expected one of {SCOPES}")
  check_density("top", density)
  if scope == "global":
    if not jax.tree_util.all_leaves([density]):
      raise ValueError("top: density is a tree, expected a number if global")
    kept = counts.kept(density, sum(x.size for x in leaves.values()))
    return fill(scores, largest(leaves, kept))
  shares = trees.named(trees.spread(density, scores, "top: density"))
  chosen = {}
  for path, x in leaves.items():
    rows = x.shape[-1] if scope == "row" and x.ndim else x.size
    k = counts.kept(shares[path], rows)
    words = top_k.words(x).reshape(-1, rows)
    chosen[path] = top_k.first([words], k)[0].reshape(x.shape)
  return fill(scores, chosen)


def largest(leaves: Mapping[str, jax.Array], k: Any) -> dict[str, jax.Array]:
  """Return the masks of the k largest scores over all leaves.

  >>> largest({"a": jnp.array([1.0, 3.0]), "b": jnp.array([2.0])}, 2)
  {'a': Array([False,  True], dtype=bool), 'b': Array([ True], dtype=bool)}
  """
  dtype = jnp.result_type(*leaves.values())
  rows = [top_k.words(x.astype(dtype)).reshape(1, -1) for x in leaves.values()]
  found = top_k.first(rows, k)
  return {
    path: mask.reshape(x.shape)
    for (path, x), mask in zip(leaves.items(), found)
  }


def _scores(scores: Params) -> dict[str, jax.Array]:
  """Return the scores by path, refusing what has no order."""
  leaves = {path: jnp.asarray(x) for path, x in trees.named(scores).items()}
  if not sum(x.size for x in leaves.values()):
    raise ValueError("top: no scores, expected at least one number")
  for path, x in leaves.items():
    real = jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool
    if not real and not jnp.issubdtype(x.dtype, jnp.floating):
      raise ValueError(f"top: {path!r} is {x.dtype}, expected real numbers")
    if x.size >= counts.LIMIT:
      raise ValueError(f"top: {path!r} has {x.size} entries, expected < 2^31")
  trees.check_finite(leaves, "top")
  return leaves


def by_layer(params: Params, amounts: Mapping[str, float]) -> Params:
  """Return the magnitude mask that prunes a share of each leaf.

  floor(amount n + 1e-6) entries of a leaf go, the smallest by magnitude; of
  equal ones those that come last.  Unlike `top`, it may take all of a leaf.

  Args:
    params: of one model.
    amounts: the share that is pruned, in [0, 1], by path; leaves that are not
      named are kept whole.

  Returns:
    Booleans, shaped as `params`.

  Raises:
    ValueError: for an unknown path or an amount out of range, naming it.

  >>> by_layer({"w": jnp.array([[4.0, -1.0, 2.0]])}, {"w": 0.5})["w"].tolist()
  [[True, False, True]]

  The counts are those of the code of Xu et al. 2023,
  https://arxiv.org/abs/2308.10438.
  """
  leaves = trees.named(params)
  chosen: dict[str, jax.Array] = {}
  for path, amount in amounts.items():
    if path not in leaves:
      raise ValueError(f"by_layer: {path!r} is no path of {', '.join(leaves)}")
    if not 0.0 <= amount <= 1.0:
      raise ValueError(
        f"by_layer: amount of {path!r} is {amount}, expected a share in [0, 1]"
      )
    x = jnp.abs(jnp.asarray(leaves[path]))
    trees.check_finite({path: x}, "by_layer")
    kept = x.size - math.floor(amount * x.size + EDGE)
    chosen |= largest({path: x}, kept)
  return fill(params, chosen)
