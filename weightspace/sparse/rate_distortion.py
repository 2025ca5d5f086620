"""How much to prune of each layer: distortion curves, and their best split.

A layer pruned alone moves the outputs by some distortion; if distortions add
up, the least sum at a given number of pruned weights is a knapsack, which a
dynamic programme over layers solves.

>>> curves = {"a": [0.0, 1.0, 4.0], "b": [0.0, 0.1, 9.0]}
>>> allocate(curves, {"a": 4, "b": 4}, 0.5)
{'a': 1, 'b': 1}
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import top_k, trees
from weightspace.sparse import selection
from weightspace.types import Apply, Data, Params

OVER = ("mean", "max")
BINS = 2**14  # of counts, after each layer
NOISE = 1e-12  # of squared outputs: what rounding in float32 leaves
EDGE = 1e-6  # keeps 0.3 * 10 from being counted as 2


def curves(
  apply: Apply,
  params: Params,
  data: Data,
  amounts: Any = 101,
  *,
  only: str | Sequence[str] | None = None,
  over: str = "mean",
  together: int = 1,
) -> dict[str, np.ndarray]:
  """Return the output distortion of each leaf pruned alone, by amount.

  delta(a) = mean over examples and outputs of (f(w) - f(w with the floor(a n)
  smallest |w| of one leaf at 0))^2.

  Args:
    apply: apply(params, x) -> outputs [N, ...]; logits, say.
    params: of one model.
    data: {"x": [N, ...]}, or x itself.
    amounts: shares [D] in [0, 1], or D for that many, equally spaced.
    only: patterns of paths; None for leaves of two axes or more.
    over: "mean" of all examples, or the "max" over examples of the mean over
      outputs (the worst case, which does not add up over layers).
    together: how many amounts are computed at once.

  Returns:
    {path: [D] float32}; all amounts of a leaf are one compiled call.

  Raises:
    ValueError: for amounts out of range, no data, outputs that are not finite,
      or a leaf that no amount of pruning makes felt, naming it.

  >>> curves(lambda p, x: x @ p["w"], {"w": jnp.array([[1.0], [2.0]])},
  ...   jnp.eye(2), 3)["w"].tolist()
  [0.0, 0.5, 2.5]

  Xu et al. 2023, "Efficient joint optimization of layer-adaptive weight pruning
  in deep neural networks", https://arxiv.org/abs/2308.10438; "max" is what its
  code's commands use.
  """
  if over not in OVER:
    raise ValueError(f"curves: over is {over!r}, expected one of {OVER}")
  shares = _amounts(amounts)
  x = data["x"] if isinstance(data, Mapping) else data
  if not all(len(leaf) for leaf in jax.tree.leaves(x)):
    raise ValueError("curves: no examples, expected at least one")
  leaves = selection.pruned(params, only, "curves")
  trees.check_finite(params, "curves: params")
  size = float(jnp.mean(apply(params, x).astype(jnp.float32) ** 2))
  result = {}
  for path, leaf in leaves.items():
    pruned = np.floor(shares * np.size(leaf) + EDGE).astype(np.int32)
    one = _distortions(apply, path, over, together)
    found = np.asarray(one(params, x, pruned))
    _check_curve(path, found, NOISE * size if np.asarray(leaf).any() else -1.0)
    result[path] = found
  return result


def _amounts(amounts: Any) -> np.ndarray:
  shares = np.asarray(amounts, float)
  if not shares.ndim:
    if shares < 2 or shares != int(shares):
      raise ValueError(
        f"curves: amounts is {amounts}, expected shares [D], or a number of"
        " them from 2 on"
      )
    return np.linspace(0.0, 1.0, int(shares))
  if shares.ndim != 1 or not len(shares):
    raise ValueError(f"curves: amounts {shares.shape}, expected shares [D]")
  if not ((shares >= 0) & (shares <= 1)).all():
    raise ValueError("curves: an amount is outside of [0, 1], expected shares")
  return shares


def _check_curve(path: str, curve: np.ndarray, noise: float) -> None:
  if not np.isfinite(curve).all():
    raise ValueError(
      f"curves: distortion of {path!r} is not finite, expected numbers"
    )
  if len(curve) and curve.max() <= noise:
    raise ValueError(
      f"curves: pruning {path!r} does not change the outputs, expected a leaf"
      " that reaches them (name others by `only`)"
    )


@functools.lru_cache(maxsize=256)
def _distortions(apply: Apply, path: str, over: str, together: int) -> Any:
  """Return the compiled curve of one leaf: (params, x, counts [D]) -> [D]."""

  @jax.jit
  def run(params: Params, x: Any, pruned: jax.Array) -> jax.Array:
    leaf = jnp.asarray(trees.named(params)[path])
    words = top_k.words(jnp.abs(leaf)).reshape(-1)
    # Ranks are sorted out once; a mask is then one comparison.
    order = jnp.argsort(~words, stable=True)
    rank = (
      jnp.zeros(leaf.size, jnp.int32)
      .at[order]
      .set(jnp.arange(leaf.size, dtype=jnp.int32))
    )
    target = apply(params, x).astype(jnp.float32)

    def one(count: jax.Array) -> jax.Array:
      keep = (rank < leaf.size - count).reshape(leaf.shape)
      cut = jnp.where(keep, leaf, jnp.zeros_like(leaf))
      changed = trees.map_named(lambda p, w: cut if p == path else w, params)
      error = (target - apply(changed, x).astype(jnp.float32)) ** 2
      each = error.reshape(len(error), -1).mean(1)
      value = each.mean() if over == "mean" else each.max()
      return jnp.where(count > 0, value, 0.0)

    return jax.lax.map(one, pruned, batch_size=together)

  return run


class States(NamedTuple):
  """Numbers of pruned entries that some layers can reach, cheapest ways only.

  `gone` and `cost` rise together; `ways` has, for each layer so far, where a
  state came from and by which amount.
  """

  gone: np.ndarray
  cost: np.ndarray
  ways: tuple[tuple[np.ndarray, np.ndarray], ...]


def allocate(
  curves: Mapping[str, Any],
  sizes: Mapping[str, int],
  target: float,
  *,
  least: Mapping[str, int] | None = None,
  bins: int = BINS,
) -> dict[str, int]:
  """Return the amount of each leaf that gives the least sum of distortions.

  min over indices i_l of sum_l curves_l[i_l], with sum_l floor(n_l i_l / (D -
  1)) >= target: a dynamic programme over leaves whose states are numbers of
  pruned entries.

  Args:
    curves: {path: [D]}, distortions at D equally spaced amounts of [0, 1].
    sizes: {path: n}, entries of each leaf.
    target: how many entries are pruned at least; below 1, the share of all.
    least: smallest index by path, from an earlier round; 0 for the others.
    bins: into how many bins of counts the states after a leaf are put once
      there are more, the cheapest of each being kept.  Exact up to then.

  Returns:
    {path: index}; the amount is index / (D - 1), see `by_layer`.

  Raises:
    ValueError: for curves of different grids, of other paths than sizes or
      with a NaN, or a target out of range, or `least` of an unknown path.

  >>> curves = {"a": [0.0, 1.0, 2.0], "b": [0.0, 5.0, 5.0]}
  >>> allocate(curves, {"a": 10, "b": 2}, target=11)
  {'a': 2, 'b': 1}

  Xu et al. 2023, https://arxiv.org/abs/2308.10438.  The programme is theirs but
  for a slip of the code, which forgets the first layer's cost where nothing is
  left of the second; bins of counts are ours.
  """
  grids, start = _grids(curves, sizes), dict(least or {})
  for path in start:
    if path not in grids:
      raise ValueError(f"allocate: least: {path!r} is no path of the curves")
  rest = sum(int(sizes[path]) for path in grids)
  wanted = _wanted(target, rest)
  states = States(np.zeros(1, np.int64), np.zeros(1), ())
  for path, curve in grids.items():
    rest -= int(sizes[path])
    shares = np.arange(len(curve)) / (len(curve) - 1)
    pruned = np.floor(shares * int(sizes[path]) + EDGE).astype(np.int64)
    curve = np.where(np.arange(len(curve)) < start.get(path, 0), np.inf, curve)
    states = _extended(states, pruned, curve, wanted - rest)
    states = _thinned(_front(states, wanted), bins)
  return dict(zip(grids, _way(states)))


def _grids(
  curves: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
  """Return the curves as float64, checked."""
  grids = {path: np.asarray(curve, float) for path, curve in curves.items()}
  if not grids:
    raise ValueError("allocate: no curves, expected one for each leaf")
  if set(grids) != set(sizes):
    path = min(set(grids) ^ set(sizes))
    raise ValueError(
      f"allocate: {path!r} is in one of curves and sizes, expected in both"
    )
  first, grid = next(iter(grids.items()))
  for path, curve in grids.items():
    if curve.ndim != 1 or len(curve) < 2 or len(curve) != len(grid):
      raise ValueError(
        f"allocate: the curve of {path!r} is {curve.shape}, expected [D] with D"
        f" of 2 or more, and {grid.shape} as of {first!r}"
      )
    if np.isnan(curve).any():
      raise ValueError(f"allocate: NaN in the curve of {path!r}")
  return grids


def _wanted(target: float, total: int) -> int:
  """Return how many entries are to be pruned."""
  share = isinstance(target, float) and target <= 1
  if not 0 <= target <= total or (share and target == 1):
    raise ValueError(
      f"allocate: target is {target}, expected a share in [0, 1) or a number of"
      f" entries up to {total}"
    )
  return math.ceil((target * total if target < 1 else target) - EDGE)


def _extended(
  states: States, pruned: np.ndarray, curve: np.ndarray, least: int
) -> States:
  """Return the states with one more layer, at least `least` pruned."""
  count = (states.gone[:, None] + pruned).ravel()
  cost = (states.cost[:, None] + curve).ravel()
  fit = np.flatnonzero((count >= least) & (cost < np.inf))
  if not len(fit):
    raise ValueError("allocate: no finite sum reaches the target")
  way = np.divmod(fit, len(pruned))
  return States(count[fit], cost[fit], (*states.ways, way))


def _front(states: States, wanted: int) -> States:
  """Keep the states that no other beats, in count up to wanted and in cost."""
  order = np.lexsort((states.cost, -np.minimum(states.gone, wanted)))
  cost = states.cost[order]
  better = np.concatenate([[True], cost[1:] < np.minimum.accumulate(cost)[:-1]])
  return _taken(states, order[better][::-1])


def _thinned(states: States, bins: int) -> States:
  """Keep the cheapest state of each bin of counts, and the last of all."""
  if len(states.gone) <= bins:
    return states
  low, high = states.gone[0], states.gone[-1]
  place = (states.gone - low) * bins // (high - low + 1)
  first = np.flatnonzero(np.diff(place, prepend=-1))
  return _taken(states, np.union1d(first, len(place) - 1))


def _taken(states: States, chosen: np.ndarray) -> States:
  *before, (previous, amount) = states.ways
  way = previous[chosen], amount[chosen]
  return States(states.gone[chosen], states.cost[chosen], (*before, way))


def _way(states: States) -> list[int]:
  """Return the amounts, layer by layer, of the cheapest state."""
  place, amounts = int(np.argmin(states.cost)), []
  for previous, amount in reversed(states.ways):
    amounts.append(int(amount[place]))
    place = int(previous[place])
  return amounts[::-1]
