"""Adapters that begin at the principal directions of what a layer sees.

The covariance of each layer's inputs is exact: `statistics.gram` and
`statistics.moments` fold it over any number of batches.

>>> found = eva({"w": jnp.diag(jnp.array([4.0, 1.0]))}, None, rank=1, rho=1.0)
>>> jnp.abs(found["w"].a).tolist()
[[1.0], [0.0]]
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.parametrize.low_rank import Adapter
from weightspace.types import Params


def eva(
  gram: Params,
  mean: Any,
  rank: int,
  rho: float = 2.0,
  *,
  params: Params | None = None,
  alpha: float | None = None,
) -> dict[str, Adapter]:
  """Return adapters of the inputs' principal directions, with b = 0.

  a = the first r_l eigenvectors of G_l - m_l m_l'; the ranks r_l are dealt out
  by `explained_ranks`.  Layers that get none have no adapter.

  Args:
    gram: a tree or {path: ...}: of each layer X'X / tokens, [in, in] or [batch,
      in, in], or as `statistics.gram` returns it, whose empty leaves are passed
      over.
    mean: of the inputs by path, [in] or [batch, in], or as `statistics.moments`
      returns them; None does not centre the inputs.
    rank: r; rank times the number of layers is dealt out in all.
    rho: at least 1; no layer gets more than round(rho r).
    params: the model; without it b is [r, 0], to be filled.
    alpha: the scale of every layer is alpha / rank, whatever its own rank is;
      None for a scale of one.

  Returns:
    {path: Adapter}, for `with_changes`.

  Raises:
    ValueError: naming a layer whose mean is missing, that holds a NaN, or is no
      covariance; as `explained_ranks`.

  >>> gram = {"w": jnp.eye(3), "v": jnp.diag(jnp.array([9.0, 0.5, 0.5]))}
  >>> {path: one.a.shape for path, one in eva(gram, None, 2).items()}
  {'v': (3, 1), 'w': (3, 3)}

  Paischer et al. 2024, "One initialization to rule them all: fine-tuning via
  explained variance adaptation", https://arxiv.org/abs/2410.07170.  Its code
  centres the inputs and converges batch by batch; the exact covariance is ours.
  """
  trees.check_finite(gram, "eva: gram")
  covariances = {
    path: _centred(path, _matrix(path, jnp.asarray(leaf)), mean)
    for path, leaf in trees.named(gram).items()
    if jnp.size(leaf)
  }
  axes, ratios = {}, {}
  for path, covariance in covariances.items():
    values, vectors = jnp.linalg.eigh(covariance)
    values = jnp.maximum(values[..., ::-1], 0.0)  # largest first
    total = values.sum(-1, keepdims=True)
    share = values / jnp.where(total == 0, 1.0, total)
    ratios[path] = np.asarray(share.reshape(-1, share.shape[-1]).mean(0))
    axes[path] = vectors[..., ::-1]
  ranks = explained_ranks(ratios, rank, rho)
  shapes = {} if params is None else trees.named(params)
  adapters = {}
  for path, count in ranks.items():
    if count:
      a = axes[path][..., :count]
      b = jnp.zeros((*a.shape[:-2], count, _outputs(path, a, params, shapes)))
      adapters[path] = Adapter(a, b, 1.0 if alpha is None else alpha / rank)
  return adapters


def explained_ranks(
  ratios: Mapping[str, Any], rank: int, rho: float = 2.0
) -> dict[str, int]:
  """Return the rank of each layer, dealt out by explained variance.

  Of the first round(rho rank) ratios of every layer, the rank times layers
  largest each give their layer one; equal ratios go to the earlier layer.

  Args:
    ratios: {name: [k]}, shares of the variance, largest first.
    rank: in the mean over layers, at least 1.
    rho: at least 1, which deals out equal ranks.

  Returns:
    {name: rank}, whose sum is rank times the number of layers.

  Raises:
    ValueError: for a rank or rho below 1, no layers, ratios that are not
      decreasing or NaN, or layers that have too few.

  >>> explained_ranks({"a": [0.9, 0.1], "b": [0.5, 0.3]}, rank=1)
  {'a': 1, 'b': 1}

  https://arxiv.org/abs/2410.07170.
  """
  if rank < 1 or not rho >= 1:
    raise ValueError(
      f"explained_ranks: rank is {rank} and rho {rho}, expected at least 1"
    )
  if not ratios:
    raise ValueError("explained_ranks: no layers, expected at least one")
  most, budget = round(rho * rank), rank * len(ratios)
  offers = []
  for order, (name, shares) in enumerate(ratios.items()):
    shares = np.asarray(shares, np.float64)
    falling = shares.ndim == 1 and np.all(np.diff(shares) <= 1e-9)
    if not falling or np.isnan(shares).any():
      raise ValueError(
        f"explained_ranks: {name!r} is {shares}, expected ratios [k], largest"
        " first"
      )
    offers += [(-share, order, name) for share in shares[:most]]
  if len(offers) < budget:
    raise ValueError(
      f"explained_ranks: {len(offers)} directions in all, expected at least"
      f" {budget} for rank {rank} in {len(ratios)} layers"
    )
  ranks = dict.fromkeys(ratios, 0)
  for _, _, name in sorted(offers)[:budget]:
    ranks[name] += 1
  return ranks


def _matrix(path: str, leaf: jax.Array) -> jax.Array:
  """Return a Gram matrix as [in, in] or [batch, in, in].

  `statistics.gram` has the parameter's axes twice: inputs both times, batch
  axes the first time only, outputs never.
  """
  shape, half = leaf.shape, leaf.ndim // 2
  if leaf.ndim > 3 and leaf.ndim % 2 == 0:
    inputs = [axis for axis in range(half) if shape[half + axis] > 1]
    batch = [a for a in range(half) if a not in inputs and shape[a] > 1]
    rest = [a for a in range(half) if a not in inputs + batch]
    order = [*batch, *inputs, *rest, *range(half, 2 * half)]
    size = math.prod(shape[axis] for axis in inputs)
    leaf = leaf.transpose(order).reshape(-1, size, size)
    leaf = leaf[0] if len(leaf) == 1 else leaf
  if leaf.ndim not in (2, 3) or leaf.shape[-1] != leaf.shape[-2]:
    raise ValueError(
      f"eva: gram of {path!r} is {shape}, expected [in, in] or [batch, in, in]"
    )
  return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _centred(path: str, gram: jax.Array, mean: Any) -> jax.Array:
  if mean is None:
    return gram
  named = mean if isinstance(mean, Mapping) else trees.named(mean)
  given = named.get(path, trees.named(mean).get(path))
  given = given["mean"] if isinstance(given, Mapping) else given
  if given is None:
    raise ValueError(f"eva: no mean of {path!r}, expected one for each layer")
  m = jnp.asarray(given, gram.dtype)
  m = m[0] if m.ndim == 2 and gram.ndim == 2 and len(m) == 1 else m
  if m.shape != gram.shape[:-1]:
    raise ValueError(
      f"eva: the mean of {path!r} is {m.shape}, expected {gram.shape[:-1]}"
    )
  return gram - m[..., :, None] * m[..., None, :]


def _outputs(
  path: str, a: jax.Array, params: Any, shapes: Mapping[str, Any]
) -> int:
  """Return how many outputs a layer has; 0 where no model was given."""
  if params is None:
    return 0
  if path not in shapes:
    raise ValueError(f"eva: {path!r} is not in params")
  inputs = math.prod(a.shape[:-1])  # with the batch
  return int(np.size(shapes[path])) // inputs
