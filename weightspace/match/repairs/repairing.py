"""REPAIR: give a mean of models the activations that its members have.

Averaging shrinks the variance of every hidden unit, layer after layer, even
where the models are aligned.  Each linear map of the merged model is rescaled
and shifted so that its outputs have the mean and the deviation that the members
have on average.

>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> a = {"v": jnp.ones((1, 1)), "w": jnp.array([[1.0], [0.0]])}
>>> b = {"v": jnp.ones((1, 1)), "w": jnp.array([[0.0], [1.0]])}
>>> x = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
>>> repair(apply, [a, b], x)["w"].round(2).tolist()  # the mean, times sqrt(2)
[[0.7...], [0.7...]]
"""

import functools
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.jaxpr import closures
from weightspace.jaxpr.weight_products import Map
from weightspace.match.repairs import layers
from weightspace.symmetry import checks
from weightspace.types import Apply, Data, Params, Stack

SPREADS = ("deviation", "variance")


def repair(
  apply: Apply,
  stack: Stack,
  x: Data,
  merged: Params | None = None,
  weights: Any = None,
  *,
  only: Collection[str] | None = None,
  last: bool = False,
  shift: bool = True,
  spread: str = "deviation",
  batch_size: int | None = None,
) -> Params:
  """Return the merged model with the statistics of its members restored.

  For each output channel of each linear map, in order: mu* = sum_m w_m mu_m and
  sigma* = sum_m w_m sigma_m over the members; with mu and sigma those of the
  model repaired so far, s = sigma* / sigma, W <- s W, b <- mu* - s (mu - b).  A
  later layer is measured after the earlier ones are repaired, so it is exact.

  Args:
    apply: apply(params, x).
    stack: M members, aligned (`permute`), leaves [M, ...] or a list.
    x: inputs [N, ...]; training data, a few thousand will do.  Inputs without
      one axis N, such as a graph's nodes and edges, are taken as one batch.
    merged: what is repaired; the weighted mean when left out.
    weights: [M], summing to one; equal when left out.
    only: paths of the weights to repair; all but the last when left out.
    last: repair the last map as well, whose outputs are the logits.
    shift: correct the means too, where a bias is added to the map; without, or
      without a bias, only the scale (RESCALE).
    spread: "deviation" averages deviations (the paper), "variance" variances.
    batch_size: inputs at a time; all at once when left out.

  Returns:
    Params.  Layers with BatchNorm want no more than new statistics
    (`models.population`): the norm undoes any scale.

  Raises:
    ValueError: for no inputs, models that differ, unknown options, or a path
      that is no linear map.

  Jordan et al. 2023, "REPAIR", https://arxiv.org/abs/2211.08403; variances, and
  more than two models: Crisostomi et al. 2024, https://arxiv.org/abs/2405.17897;
  the scale alone: Qu and Horvath 2024, "Rethink model re-basin".  Layers in
  order instead of one coupled pass is ours.
  """
  if spread not in SPREADS:
    raise ValueError(f"spread: {spread!r}, expected one of {SPREADS}")
  models, shares = members(stack, weights, "repair")
  checks.check_batch(x, "repair", batch_size, graphs=True)
  if merged is None:
    merged = means.weighted_mean(trees.stack(models), shares)
  trees.check_same(models[0], merged, "repair: merged")
  checks.check_finite(merged, "repair: merged")
  parts = batches(x, batch_size)
  maps = layers.find(apply, merged, parts[0], "repair", only)
  if only is None and not last:
    maps = maps[:-1] or maps
  found = tuple(maps)
  beside = layers.biases(apply, merged, parts[0])
  named = [trees.named(model) for model in models]
  goals = [measure(apply, model, parts, found) for model in models]
  for k, at in enumerate(found):
    bias = beside.get(at.path)
    offsets = [_flat(own, bias) for own in named]
    mean, deviation = _goal([g[k] for g in goals], offsets, shares, spread)
    now = measure(apply, merged, parts, found)[k]
    merged = _repaired(
      merged, at, bias if shift else None, now, mean, deviation
    )
  return merged


def members(stack: Any, weights: Any, what: str) -> tuple[list[Params], Any]:
  """Return the models as a list and their shares, checked.

  Raises:
    ValueError: for models that differ or are not finite, or other shares.
  """
  listed = isinstance(stack, list | tuple)
  models = list(stack) if listed else trees.unstack(stack)
  models = trees.as_models(models, what)
  for number, model in enumerate(models):
    checks.check_finite(model, f"{what}: model {number}")
  count = len(models)
  shares = np.full(count, 1 / count) if weights is None else np.asarray(weights)
  if shares.shape != (count,) or not np.isclose(shares.sum(), 1.0):
    raise ValueError(
      f"{what}: weights {shares.tolist()}, expected {count} that sum to one"
    )
  return models, shares


def batches(x: Data, size: int | None) -> list[Data]:
  """Cut inputs into parts of `size`; one part when left out."""
  if size is None:  # also of inputs without one axis N, such as graphs
    return [jax.tree.map(jnp.asarray, x)]
  count = len(jax.tree.leaves(x)[0])
  return [
    jax.tree.map(lambda v, k=k: jnp.asarray(v[k : k + size]), x)
    for k in range(0, count, size)
  ]


Moments = tuple[np.ndarray, np.ndarray]  # mean and deviation [batch, out]


def measure(
  apply: Apply, params: Params, parts: Sequence[Data], maps: tuple[Map, ...]
) -> list[Moments]:
  """Return the mean and the deviation of the outputs of each map."""
  keys = tuple((at.leaf, at.taken) for at in maps)
  apply = closures.fixed(apply)
  total: Any = None
  for x in parts:
    sums = _sums(apply, keys, params, x)
    host = jax.tree.map(lambda v: np.asarray(v, np.float64), sums)
    total = host if total is None else jax.tree.map(np.add, total, host)
  result = []
  for count, first, second in total:
    mean = first / count
    result.append((mean, np.sqrt(np.maximum(second / count - mean**2, 0.0))))
  return result


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sums(apply: Apply, keys: Any, params: Params, x: Data) -> Any:
  maps = layers.find(apply, params, x, "repair")
  chosen = {(at.leaf, at.taken): at for at in maps}
  found = layers.outputs(apply, params, x, [chosen[key] for key in keys])
  return [
    (jnp.asarray(float(y.shape[1])), y.sum(1), (y**2).sum(1)) for y in found
  ]


def _flat(leaves: Any, bias: str | None) -> np.ndarray | float:
  return 0.0 if bias is None else np.asarray(leaves[bias], np.float64).ravel()


def _goal(
  moments: Sequence[Moments], offsets: Any, shares: Any, spread: str
) -> Moments:
  """Return the mean and deviation that a repaired map should have."""
  rows = zip(moments, offsets, shares)
  mean = sum(w * (m.ravel() + b) for (m, _), b, w in rows)
  power = 1 if spread == "deviation" else 2
  wide = sum(w * s.ravel() ** power for (_, s), w in zip(moments, shares))
  return np.asarray(mean), np.asarray(wide) ** (1 / power)


def _repaired(
  params: Params,
  at: Map,
  bias: str | None,
  now: Moments,
  mean: np.ndarray,
  deviation: np.ndarray,
) -> Params:
  """Scale a map, and move its bias where there is one."""
  size = now[1].ravel()
  still = size <= 1e-6 * max(float(size.max(initial=0.0)), 1e-30)
  scale = np.where(still, 1.0, deviation / np.where(still, 1.0, size))

  def leaf(path: str, value: Any) -> Any:
    if path == at.path:
      whole = layers.matrix(at, value)
      rows = scale.reshape(whole.shape[0], 1, -1)
      wide = trees.widened(whole)
      wide = wide * jnp.asarray(rows, wide.dtype)
      return layers.put(at, value, wide)
    if path == bias:
      offset = mean - scale * now[0].ravel()
      array = jnp.asarray(value)
      return jnp.asarray(offset.reshape(array.shape), array.dtype)
    return value

  return trees.map_named(leaf, params)
