"""RegMean++: RegMean block by block, on what the merged model puts in.

>>> def apply(w, x): return x @ w
>>> models, x = jnp.array([[[0.0]], [[1.0]]]), jnp.ones((4, 1))
>>> regmean_pp(models, apply, [x, x]).round(4).tolist()
[[0.5]]
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.merge.methods import regmean
from weightspace.statistics import gram_matrices, map_inputs, streams
from weightspace.types import Apply, Data, Params, Stack

Blocks = Callable[[str], str]  # from a parameter's path to its block's name


def regmean_pp(
  stack: Stack,
  apply: Apply,
  data: Sequence[Data],
  offdiag: float = 1.0,
  *,
  ridge: float = regmean.RIDGE,
  blocks: Blocks | None = None,
) -> Params:
  """Merge linear maps by RegMean, block by block through the merged model.

  For each block in the order of the computation: run each model's data through
  the blocks merged so far and the model's own block, take the Gram matrices of
  the block's linear maps, and merge the block by `regmean`.  With one block it
  is RegMean.  Parameters outside of all blocks with a linear map (embeddings)
  are averaged first.

  Args:
    stack: M models, leaves [M, ...].
    apply: `apply(params, x) -> outputs`.
    data: one per model: {"x": [N, ...]}, an array x, or a list of batches,
      which is gone through once for each block.
    offdiag, ridge: as in `regmean`.
    blocks: from a parameter's path to the name of its block; by default the
      first name in which paths differ (`block_0` of `block_0/mlp_up/kernel`).
      Scanned layers are one block.

  Returns:
    Params.

  Raises:
    ValueError: for another number of data sets than of models, numbers out of
      range, no linear map, no examples, or NaN.

  >>> def apply(p, x): return jnp.tanh(x @ p["a"]) @ p["b"]
  >>> models = {"a": jnp.ones((2, 1, 1)), "b": jnp.array([[[1.0]], [[3.0]]])}
  >>> x = jnp.ones((4, 1))
  >>> regmean_pp(models, apply, [x, 0.5 * x])["b"].round(3).tolist()
  [[1.538...]]

  Nguyen et al. 2025, "RegMean++: enhancing effectiveness and generalization of
  regression mean for model merging", https://arxiv.org/abs/2508.03121.
  """
  checks.number("regmean_pp: offdiag", offdiag, 0, 1)
  checks.number("regmean_pp: ridge", ridge, 0)
  models = trees.unstack(stack)
  trees.check_finite(stack, "stack", stacked=True)
  if len(data) != len(models):
    raise ValueError(
      f"regmean_pp: {len(data)} data sets, expected {len(models)}, one for each"
      " model"
    )
  sets = [list(streams.batches(part, "regmean_pp")) for part in data]
  first = jax.tree.map(jnp.asarray, sets[0][0]["x"])
  maps = map_inputs.checked("regmean_pp", apply, models[0], first)
  paths = trees.names(stack)
  name = blocks or _by_name(paths)
  order = list(dict.fromkeys(name(at.path) for at in maps))
  merged = _merged(stack, {p for p in paths if name(p) not in order}, {})
  for block in order:
    own = {path for path in paths if name(path) == block}
    grams = [
      gram_matrices.gram(
        apply,
        _joined(model, merged, own),
        part,
        only={at.path for at in maps} & own,
      )
      for model, part in zip(models, sets)
    ]
    found = trees.named(trees.spread(grams, models[0], "gram"))
    merged |= _merged(stack, own, found, offdiag, ridge)
  return trees.map_named(lambda path, _: merged[path], models[0])


def _by_name(paths: Sequence[str]) -> Blocks:
  """Return the blocks of the first name in which paths differ."""
  common = os.path.commonpath(paths) if len(paths) > 1 else ""
  depth = len(common.split("/")) if common else 0
  return lambda path: path.split("/")[depth]


def _joined(model: Params, merged: dict[str, Any], own: set[str]) -> Params:
  """Return a model with what is merged already, but for its own block."""

  def leaf(path: str, x: Any) -> Any:
    return x if path in own else merged.get(path, x)

  return trees.map_named(leaf, model)


def _merged(
  stack: Stack,
  own: set[str],
  grams: dict[str, jax.Array],
  offdiag: float = 1.0,
  ridge: float = regmean.RIDGE,
) -> dict[str, jax.Array]:
  """Return the merged leaves of one block, by path."""
  found = {}
  for path, x in trees.named(stack).items():
    if path not in own:
      continue
    if not trees.inexact(x):
      found[path] = x[0]
      continue
    wide = x.astype(trees.accumulator(x.dtype))
    none = jnp.zeros((len(x), 0))
    y = regmean.merged(path, wide, grams.get(path, none), offdiag, ridge)
    found[path] = y.astype(x.dtype)
  return found
