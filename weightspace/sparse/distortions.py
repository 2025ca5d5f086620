"""Distortion curves: what pruning one layer alone does to the outputs.

>>> curves(lambda p, x: x @ p["w"], {"w": jnp.array([[1.0], [2.0]])},
...   jnp.eye(2), [0.5])["w"].tolist()
[0.5]
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.numerics import top_k
from weightspace.sparse import selection
from weightspace.types import Apply, Data, Params

OVER = ("mean", "max")
NOISE = 1e-12  # of squared outputs: what rounding in float32 leaves


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
    only: patterns of paths; None for the kernels, leaves of two axes or more.
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
    pruned = np.floor(shares * np.size(leaf) + selection.EDGE).astype(np.int32)
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
