"""The algebra of Stacks: what `jax.tree` and `optax.tree` do not have.

A Stack is the pytree of one model with a leading model axis M on every leaf, so
`vmap`, `jit`, `scan` and sharding work on populations with no code of ours.  A
reduction over M is written over the slices (`contract`), since XLA on the CPU
does not vectorise a short leading reduction.

>>> pair = stack([{"w": jnp.array([0.0, 1.0])}, {"w": jnp.array([2.0, 5.0])}])
>>> weighted_mean(pair)["w"].tolist()
[1.0, 3.0]
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Params, Stack, Weights

UNROLL = 64  # models; beyond it one tensordot keeps the program small


def names(tree: Params) -> list[str]:
  """Return the path of each leaf, in leaf order, as `layer/kernel`.

  >>> names({"a": {"w": 1.0, "b": 2.0}})
  ['a/b', 'a/w']
  """
  paths = jax.tree_util.tree_flatten_with_path(tree)[0]
  return [
    jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths
  ]


def named(tree: Params) -> dict[str, Any]:
  """Return the leaves by path, in leaf order."""
  return dict(zip(names(tree), jax.tree.leaves(tree)))


def map_named(function: Callable[..., Any], tree: Params, *rest: Params) -> Any:
  """Map `function(path, leaf, *rest_leaves)` over trees of one structure."""
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: function(
      jax.tree_util.keystr(path, simple=True, separator="/"), *leaves
    ),
    tree,
    *rest,
  )


def inexact(leaf: Any) -> bool:
  """Tell whether a leaf takes part in arithmetic (float, complex, float8).

  Integer, boolean and PRNG-key leaves do not: they are copied.
  """
  return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def accumulator(dtype: Any) -> Any:
  """Return the dtype that sums of `dtype` are kept in: float32 or wider."""
  narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
  return jnp.float32 if narrow else jnp.dtype(dtype)


def concrete(*trees: Any) -> bool:
  """Tell whether values can be looked at: no leaf is a tracer."""
  leaves = jax.tree.leaves(trees)
  return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def check_same(like: Params, tree: Params, what: str) -> None:
  """Raise a ValueError at the first path where `tree` is not shaped `like`.

  Structure, shapes and dtypes are compared; `what` names the tree in the error.
  """
  wanted, got = named(like), named(tree)
  for path, leaf in wanted.items():
    if path not in got:
      raise ValueError(f"{what}: {path!r} is missing")
    expected = f"{np.shape(leaf)} {jnp.result_type(leaf)}"
    found = f"{np.shape(got[path])} {jnp.result_type(got[path])}"
    if expected != found:
      raise ValueError(f"{what}: {path!r} is {found}, expected {expected}")
  for path in got:
    if path not in wanted:
      raise ValueError(f"{what}: {path!r} is unexpected")
  structure: Any = jax.tree.structure(like)
  if structure != jax.tree.structure(tree):
    raise ValueError(
      f"{what}: same paths, but the containers differ: expected {structure},"
      f" got {jax.tree.structure(tree)}"
    )


@jax.jit
def _has_nan(leaves: list[jax.Array]) -> jax.Array:
  return jnp.stack([jnp.isnan(leaf).any() for leaf in leaves])


def check_finite(tree: Params, what: str, stacked: bool = False) -> None:
  """Raise a ValueError at the first NaN; pass over traced values.

  With `stacked`, the error also names the model on the leading axis.
  """
  floats = {p: leaf for p, leaf in named(tree).items() if inexact(leaf)}
  if not floats or not concrete(tree):
    return
  for path, bad in zip(floats, np.asarray(_has_nan(list(floats.values())))):
    if bad:
      where = np.argwhere(np.isnan(np.asarray(floats[path], np.complex64)))[0]
      model = f" of model {where[0]}" if stacked else ""
      raise ValueError(f"{what}: NaN in {path!r}{model}, expected numbers")


def stack(models: Sequence[Params]) -> Stack:
  """Put models on a leading axis: leaf m of the result is `models[m]`.

  Args:
    models: M >= 1 pytrees of one structure, shapes and dtypes.

  Returns:
    A pytree whose leaves have shape [M, ...].

  Raises:
    ValueError: at the first path that differs from model 0 or holds a NaN, or
      when there is no model.

  >>> stack([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}])["w"].shape
  (2, 2)
  """
  models = list(models)
  if not models:
    raise ValueError("stack: no models, expected at least one")
  for index, model in enumerate(models):
    check_same(models[0], model, f"model {index}")
  result = jax.tree.map(
    lambda *xs: jnp.stack([jnp.asarray(x) for x in xs]), *models
  )
  check_finite(result, "stack", stacked=True)
  return result


def size(stack: Stack) -> int:
  """Return M, the number of models on the leading axis.

  Raises:
    ValueError: when there is no leaf, no model, or leaves disagree on M.
  """
  leaves = named(stack)
  if not leaves:
    raise ValueError("stack: no leaves, expected arrays [M, ...]")
  count, first = None, ""
  for path, leaf in leaves.items():
    if np.ndim(leaf) == 0:
      raise ValueError(f"stack: {path!r} is a scalar, expected [M, ...]")
    if count is None:
      count, first = np.shape(leaf)[0], path
    if np.shape(leaf)[0] != count:
      raise ValueError(
        f"stack: {path!r} has {np.shape(leaf)[0]} models, expected {count} as"
        f" in {first!r}"
      )
  if not count:
    raise ValueError("stack: no models, expected at least one")
  return int(count)


def unstack(stack: Stack) -> list[Params]:
  """Return the M models of a Stack: the inverse of `stack`.

  >>> [m["w"].item() for m in unstack({"w": jnp.array([3.0, 4.0])})]
  [3.0, 4.0]
  """
  models = range(size(stack))
  return [jax.tree.map(lambda x, m=m: x[m], stack) for m in models]


def contract(x: jax.Array, weights: jax.Array) -> jax.Array:
  """Return sum_m weights[m] x[m] in float32: the one sum over models.

  Args:
    x: [M, ...].
    weights: [M], or the shape of `x`.

  Returns:
    [...], in the accumulator dtype of `x`.
  """
  dtype = accumulator(x.dtype)
  weights = jnp.asarray(weights, dtype)
  if len(x) > UNROLL and weights.ndim == 1:
    precision = jax.lax.Precision.HIGHEST
    return jnp.tensordot(weights, x.astype(dtype), 1, precision=precision)
  total = weights[0] * x[0].astype(dtype)
  for m in range(1, len(x)):
    total = total + weights[m] * x[m].astype(dtype)
  return total


def spread_weights(stack: Stack, weights: Weights | None) -> Stack:
  """Give every leaf its own weights, from [M], a prefix tree, or a Stack.

  Raises:
    ValueError: when an array is neither [M] nor shaped as its leaf.
  """
  count = size(stack)
  if weights is None:
    weights = jnp.ones(count)
  if isinstance(weights, list | tuple) and all(map(np.isscalar, weights)):
    weights = jnp.asarray(weights, jnp.float32)
  spread = jax.tree.broadcast(weights, stack)

  def check(path: str, x: Any, w: Any) -> jax.Array:
    if np.shape(w) != (count,) and np.shape(w) != np.shape(x):
      raise ValueError(
        f"weights: {path!r} has shape {np.shape(w)}, expected ({count},) or"
        f" {np.shape(x)}"
      )
    return jnp.asarray(w)

  result = map_named(check, stack, spread)
  check_finite(result, "weights")
  return result


def weighted_sum(stack: Stack, weights: Weights) -> Params:
  """Return sum_m w_m theta_m, leaf by leaf, with the weights as they are.

  Args:
    stack: leaves [M, ...].
    weights: [M], a prefix tree of [M] arrays (one per layer or leaf), or a
      whole Stack (one per parameter).

  Returns:
    Params: summed in float32, each leaf in its input dtype.  Integer leaves are
    those of model 0.

  Raises:
    ValueError: naming the first path whose weights do not fit.

  >>> weighted_sum({"w": jnp.array([1.0, 2.0])}, jnp.array([1.0, -1.0]))
  {'w': Array(-1., dtype=float32)}
  """

  def leaf(x: jax.Array, w: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    return contract(x, w).astype(x.dtype) if inexact(x) else x[0]

  return jax.tree.map(leaf, stack, spread_weights(stack, weights))


def weighted_mean(stack: Stack, weights: Weights | None = None) -> Params:
  """Return sum_m w_m theta_m / sum_m w_m: the one primitive of averaging.

  Most methods only choose the weights: [M] for soups and running averages, one
  [M] per layer for learned soups, a whole Stack for Fisher merging.

  Args:
    stack: leaves [M, ...].
    weights: [M], a prefix tree of [M] arrays, or a whole Stack; None for all
      equal.

  Returns:
    Params: accumulated in float32, cast once to the input dtype.  Integer
    leaves are those of model 0.

  Raises:
    ValueError: for weights of another shape, with a NaN, or (on concrete
      values) that sum to zero, naming the first path.

  >>> models = {"w": jnp.array([[0.0], [4.0]])}
  >>> weighted_mean(models, jnp.array([3.0, 1.0]))["w"].tolist()
  [1.0]

  Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482.
  """
  spread = spread_weights(stack, weights)

  def leaf(path: str, x: jax.Array, w: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if not inexact(x):
      return x[0]
    w = w.astype(accumulator(x.dtype))
    total = contract(w, jnp.ones(len(w)))
    if concrete(total) and not np.all(np.asarray(total)):
      raise ValueError(
        f"weights: those of {path!r} sum to zero, expected a non-zero sum"
      )
    if w.ndim == 1:
      return contract(x, w / total).astype(x.dtype)
    return (contract(x, w) / total).astype(x.dtype)

  return map_named(leaf, stack, spread)


def fingerprint(tree: Params) -> str:
  """Return a short hash of paths, shapes, dtypes and bytes of a tree.

  Equal trees have equal fingerprints on every machine; it is what `Member`
  keeps of the parameters that a training started from.

  >>> fingerprint({"w": jnp.zeros(2)}) == fingerprint({"w": jnp.zeros(2)})
  True
  """
  digest = hashlib.sha256()
  for path, leaf in sorted(named(tree).items()):
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    digest.update(f"{path} {array.shape} {array.dtype}\n".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()[:16]
