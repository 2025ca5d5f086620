"""Gram matrices of the inputs of every linear map: what RegMean merges by.

One pass over any model: `linear_maps` finds the maps in the model's own jaxpr.
A Gram matrix is kept in an array whose shape says which axes of the parameter
it is about, so the statistics are a plain tree of arrays.

>>> stats = gram(lambda w, x: x @ w, jnp.ones((2, 3)), jnp.eye(2))
>>> stats.shape, matrix(stats, (2, 3))[0].tolist()
((2, 1, 2, 1), [[0.5, 0.0], [0.0, 0.5]])
"""

import functools
import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import closures, weight_products
from weightspace.jaxpr.weight_products import Map
from weightspace.statistics import map_inputs, streams
from weightspace.types import Apply, Data, Fold, Params

PRECISION = jax.lax.Precision.HIGHEST


def gram(
  apply: Apply,
  params: Params,
  data: Data,
  *,
  only: Collection[str] | None = None,
) -> Params:
  """Return the Gram matrix of the inputs of every linear map, as a tree.

  G = X'X / tokens, X the inputs [tokens, in] of a map over all examples:
  rows for a dense layer, patches for a convolution, positions for a projection
  of attention.  Parameters that are no linear map, or are used in another way
  as well (embeddings, tied or not), have none.

  Args:
    apply: `apply(params, x) -> outputs`.
    params: of one model.
    data: {"x": [N, ...]}, a pair (x, y), an array x, or an iterable of these.
    only: paths of the parameters to look at; None for all.

  Returns:
    A tree like the parameters.  For a parameter of shape [a, b, ...] the leaf
    is [a, b, ..., a, b, ...] with 1 in place of axes of the output (both times)
    and of batch axes, as of scanned layers and experts (the second time); see
    `matrix`.  It is empty, [0], for a parameter that has none.

  Raises:
    ValueError: when no linear map is found, for no examples, or NaN.

  >>> params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
  >>> stats = gram(lambda p, x: x @ p["w"] + p["b"][None], params, jnp.eye(2))
  >>> {path: leaf.shape for path, leaf in stats.items()}
  {'b': (0,), 'w': (2, 1, 2, 1)}

  Jin et al. 2023, "Dataless knowledge fusion by merging weights of language
  models", https://arxiv.org/abs/2212.09849; convolutions by patches, experts
  and scanned layers are ours.
  """
  trees.check_finite(params, "gram: params")
  return streams.fold_all(gram_fold(apply, params, only=only), data, "gram")


def gram_fold(
  apply: Apply, params: Params, *, only: Collection[str] | None = None
) -> Fold:
  """Return the fold over batches {"x"} whose value is `gram`.

  Its state is a dict of arrays, to be saved, restored and gone on with; `merge`
  joins two parts of the data.

  >>> fold = gram_fold(lambda w, x: x @ w, jnp.ones((1, 1)))
  >>> a, b = {"x": jnp.ones((1, 1))}, {"x": jnp.full((1, 1), 3.0)}
  >>> parts = [fold.update(fold.init(a), batch) for batch in (a, b)]
  >>> fold.value(fold.merge(*parts)).item()
  5.0
  """

  chosen = None if only is None else frozenset(only)

  def init(batch: Data) -> Any:
    maps = map_inputs.checked("gram", apply, params, batch["x"], chosen)
    shapes = {at.leaf: weight_products.gram_shape(at) for at in maps}
    leaves, structure = jax.tree.flatten(params)
    sums = [jnp.zeros(shapes.get(n, (0,))) for n in range(len(leaves))]
    tokens = [jnp.zeros(()) for _ in leaves]
    return {
      "params": params,
      "sums": jax.tree.unflatten(structure, sums),
      "tokens": jax.tree.unflatten(structure, tokens),
    }

  def update(state: Any, batch: Data) -> Any:
    now = closures.fixed(apply)
    for x in streams.chunks(
      batch["x"], map_inputs.most(now, params, batch["x"])
    ):
      state = dict(state, **_add(state, x, now, chosen))
    return state

  def value(state: Any) -> Params:
    return jax.tree.map(
      lambda total, tokens: total / jnp.maximum(tokens, 1.0),
      state["sums"],
      state["tokens"],
    )

  def merge(a: Any, b: Any) -> Any:
    names = ("sums", "tokens")
    return dict(a, **{name: streams.add(a[name], b[name]) for name in names})

  return Fold(init, update, value, merge)


@functools.partial(jax.jit, static_argnames=("apply", "only"))
def _add(state: Any, x: Any, apply: Apply, only: frozenset[str] | None) -> Any:
  """Return the sums and numbers of tokens with those of a part of a batch."""
  params = state["params"]
  maps = map_inputs.checked("gram", apply, params, x, only)
  parts: dict[int, list[tuple[Map, jax.Array]]] = {}
  counts: dict[int, dict[Any, int]] = {}
  for at, rows in map_inputs.seen(apply, params, x, maps):
    product = jnp.einsum("bti,btj->bij", rows, rows, precision=PRECISION)
    found = weight_products.as_gram(at, product)
    parts.setdefault(at.leaf, []).append((at, found))
    own = counts.setdefault(at.leaf, {})
    own[at.taken] = own.get(at.taken, 0) + rows.shape[1]
  structure = jax.tree.structure(params)
  sums, tokens = (jax.tree.leaves(state[name]) for name in ("sums", "tokens"))
  for n, part in parts.items():
    sums[n] = sums[n] + weight_products.joined(part[0][0], part)
    tokens[n] = tokens[n] + max(counts[n].values())
  return {
    "sums": jax.tree.unflatten(structure, sums),
    "tokens": jax.tree.unflatten(structure, tokens),
  }


def matrix(leaf: jax.Array, shape: tuple[int, ...]) -> jax.Array | None:
  """Return a leaf of `gram` as [batch, in, in]; None where there is none.

  Args:
    leaf: of `gram`.
    shape: of the parameter.

  Raises:
    ValueError: when the leaf is that of a parameter of another shape.

  >>> matrix(jnp.ones((2, 1, 2, 1)), (2, 3)).shape
  (1, 2, 2)
  """
  if leaf.shape == (0,):
    return None
  batch, inputs, outputs = axes(leaf.shape, shape)
  size = math.prod(shape[axis] for axis in inputs)
  order = [*batch, *inputs, *outputs]
  order += range(len(shape), 2 * len(shape))
  return leaf.transpose(order).reshape(-1, size, size)


def axes(
  gram_shape: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[list[int], list[int], list[int]]:
  """Return a parameter's batch, input and output axes, from its Gram's shape.

  >>> axes((6, 2, 1, 1, 2, 1), (6, 2, 3))
  ([0], [1], [2])
  """
  count = len(shape)
  first, second = gram_shape[:count], gram_shape[count:]
  fits = len(gram_shape) == 2 * count and all(
    (a, b) in ((n, n), (n, 1), (1, 1)) for a, b, n in zip(first, second, shape)
  )
  if not fits:
    raise ValueError(f"gram: {gram_shape}, expected that of a leaf {shape}")
  inputs = [axis for axis, n in enumerate(second) if n > 1]
  outputs = [a for a, n in enumerate(first) if n == 1 and shape[a] > 1]
  batch = [a for a in range(count) if a not in inputs + outputs]
  return batch, inputs, outputs
