"""The algebra of Stacks: what `jax.tree` and `optax.tree` do not have.

A Stack is the pytree of one model with a leading model axis M on every leaf, so
`vmap`, `jit`, `scan` and sharding work on populations with no code of ours.

>>> pair = stack([{"w": jnp.array([0.0, 1.0])}, {"w": jnp.array([2.0, 5.0])}])
>>> size(pair), names(pair), unstack(pair)[1]["w"].tolist()
(2, ['w'], [2.0, 5.0])
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.hosts.concrete import any_nan, wide
from weightspace.types import Params, Stack


def names(tree: Params) -> list[str]:
  """Return the path of each leaf, in leaf order, as `layer/kernel`.

  >>> names({"a": {"w": 1.0, "b": 2.0}})
  ['a/b', 'a/w']
  """
  return list(_paths(jax.tree.structure(tree)))


@functools.lru_cache(maxsize=256)
def _paths(structure: Any) -> tuple[str, ...]:
  numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
  paths = jax.tree_util.tree_flatten_with_path(numbered)[0]
  return tuple(
    jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths
  )


def named(tree: Params) -> dict[str, Any]:
  """Return the leaves by path, in leaf order.

  Raises:
    ValueError: when two leaves have one path, as `{"a/b": .., "a": {"b": ..}}`.
  """
  paths = names(tree)
  result = dict(zip(paths, jax.tree.leaves(tree)))
  if len(result) < len(paths):
    twice = next(path for path in paths if paths.count(path) > 1)
    raise ValueError(f"tree: two leaves at {twice!r}, expected distinct paths")
  return result


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
  return _inexact(_kind(leaf)[1])


@functools.cache
def _inexact(dtype: Any) -> bool:
  return bool(jnp.issubdtype(dtype, jnp.inexact))


def accumulator(dtype: Any) -> Any:
  """Return the dtype that sums of `dtype` are kept in: float32 or wider."""
  if not jnp.issubdtype(dtype, jnp.floating):
    return dtype
  return jnp.float32 if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def widened(tree: Any) -> Any:
  """Return a tree with its floating leaves in float32 or wider.

  Points between models are not rounded to the few bits that models are kept in:
  what is looked for there may be smaller.

  >>> widened({"w": jnp.ones(1, jnp.bfloat16), "n": 3})["w"].dtype
  dtype('float32')
  """

  def leaf(x: Any) -> Any:
    dtype = _kind(x)[1]
    least = accumulator(dtype)
    return x if least == dtype else jnp.asarray(x).astype(least)

  return jax.tree.map(leaf, tree)


def concrete(*trees: Any) -> bool:
  """Tell whether values can be looked at: no leaf is a tracer or a shape."""
  shapes = jax.core.Tracer, jax.ShapeDtypeStruct
  return not any(isinstance(leaf, shapes) for leaf in jax.tree.leaves(trees))


def check_same(like: Params, tree: Params, what: str) -> None:
  """Raise a ValueError at the first path where `tree` is not shaped `like`.

  Structure, shapes and dtypes are compared; `what` names the tree in the error.
  """
  wanted, got = named(like), named(tree)
  for path, leaf in wanted.items():
    if path not in got:
      raise ValueError(f"{what}: {path!r} is missing")
    try:
      kinds = _kind(leaf), _kind(got[path])
    except TypeError:
      check_arrays(like, what)
      check_arrays(tree, what)
      raise
    if kinds[0] != kinds[1]:
      expected, found = (f"{shape} {dtype}" for shape, dtype in kinds)
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


def _kind(leaf: Any) -> tuple[Any, Any]:
  # Arrays are asked first: the general way takes longer than a small merge.
  if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
    return leaf.shape, leaf.dtype
  if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
    if leaf.dtype.itemsize <= 4:  # jax has wider ones only where told to
      return leaf.shape, leaf.dtype
  return np.shape(leaf), jnp.result_type(leaf)


def spread(prefix: Any, tree: Params, what: str) -> Any:
  """Give each leaf of `tree` its leaf of a prefix tree.

  A list of trees of the structure of `tree`, one per model, is first stacked.

  Raises:
    ValueError: at the first path that has no leaf, or is not in `tree`.

  >>> spread({"a": 1.0}, {"a": {"w": 0, "b": 0}}, "rates")
  {'a': {'b': 1.0, 'w': 1.0}}
  """
  if isinstance(prefix, list | tuple) and prefix:
    whole: Any = jax.tree.structure(tree)
    if all(jax.tree.structure(one) == whole for one in prefix):
      prefix = jax.tree.map(lambda *xs: _stacked(what, *xs), *prefix)
  given, wanted = names(prefix), names(tree)

  def covers(upper: str, path: str) -> bool:
    return upper in ("", path) or path.startswith(f"{upper}/")

  for path in wanted:
    if not any(covers(upper, path) for upper in given):
      raise ValueError(f"{what}: nothing for {path!r}, expected one for each")
  for upper in given:
    if not any(covers(upper, path) for path in wanted):
      raise ValueError(f"{what}: {upper!r} is unexpected")
  return jax.tree.broadcast(prefix, tree)


def _stacked(what: str, *leaves: Any) -> jax.Array:
  """Stack leaves of one shape."""
  shapes = [np.shape(leaf) for leaf in leaves]
  for index, shape in enumerate(shapes):
    if shape != shapes[0]:
      raise ValueError(
        f"{what}: of model {index} has a leaf {shape}, expected {shapes[0]} as"
        " of model 0"
      )
  return jnp.stack([jnp.asarray(leaf) for leaf in leaves])


def check_arrays(tree: Params, what: str) -> None:
  """Raise a ValueError at the first leaf that is no array, such as a function.

  >>> check_arrays({"act": lambda x: x}, "stack")
  Traceback (most recent call last):
  ...
  ValueError: stack: 'act' is a function, expected an array ...
  """
  for path, leaf in named(tree).items():
    try:
      _kind(leaf)
    except (TypeError, ValueError):
      raise ValueError(
        f"{what}: {path!r} is a {type(leaf).__name__}, expected an array"
        " (functions and settings among the leaves are taken out first, as"
        " equinox.partition(model, equinox.is_array) does, and put back inside"
        " the loss)"
      ) from None


def check_finite(tree: Params, what: str, stacked: bool = False) -> None:
  """Raise a ValueError at the first NaN; pass over traced values.

  With `stacked`, the error also names the model on the leading axis.
  """
  leaves = named(tree)
  try:
    floats = {path: leaf for path, leaf in leaves.items() if inexact(leaf)}
  except TypeError:  # what is no array is named, at no cost to arrays
    check_arrays(tree, what)
    raise
  if not floats or not concrete(tree):
    return
  for path, bad in zip(floats, any_nan(list(floats.values()))):
    if bad:
      where = np.argwhere(np.isnan(np.asarray(floats[path], np.complex64)))[0]
      model = f" of model {where[0]}" if stacked else ""
      raise ValueError(f"{what}: NaN in {path!r}{model}, expected numbers")


def keeps_bits(models: Sequence[Params], base: Params | None = None) -> bool:
  """Tell whether models are to be computed with in 64 bits, for their leaves.

  They are where `wide` leaves stand at the same paths of all trees; otherwise
  JAX's own rule holds, and they are shortened.

  Raises:
    ValueError: naming an integer that would be wrapped.
  """
  trees = {f"model {index}": model for index, model in enumerate(models)}
  if base is not None:
    trees["base"] = base
  if not any(wide(x) for t in trees.values() for x in jax.tree.leaves(t)):
    return False
  found = [
    {path for path, x in named(tree).items() if wide(x)}
    for tree in trees.values()
  ]
  if all(paths == found[0] for paths in found):
    return True
  for what, tree in trees.items():
    check_fits(tree, what)
  return False


def check_fits(tree: Params, what: str) -> None:
  """Raise a ValueError at the first integer that JAX would wrap.

  Its integers have 32 bits unless `jax_enable_x64` is on.
  """
  for path, leaf in named(tree).items():
    if not wide(leaf) or leaf.dtype.kind not in "iu" or not leaf.size:
      continue
    limits = np.iinfo(f"{leaf.dtype.kind}4")
    for value in (leaf.min(), leaf.max()):
      if not limits.min <= value <= limits.max:
        raise ValueError(
          f"{what}: {path!r} holds {value}, expected at most"
          f" {limits.bits} bits, or jax_enable_x64"
        )


def as_models(models: Iterable[Params], what: str) -> list[Params]:
  """Return the models as a list, checked to be of one structure.

  Raises:
    ValueError: when they are no sequence, or none, or at the first path where
      one differs from model 0.
  """
  if isinstance(models, Mapping) or not isinstance(models, Iterable):
    raise ValueError(
      f"{what}: models are a {type(models).__name__}, expected a list of trees"
    )
  models = list(models)
  if not models:
    raise ValueError(f"{what}: no models, expected at least one")
  for index, model in enumerate(models):
    check_same(models[0], model, f"model {index}")
  return models


def stack(models: Iterable[Params]) -> Stack:
  """Put models on a leading axis: leaf m of the result is `models[m]`.

  Args:
    models: M >= 1 pytrees of one structure, shapes and dtypes.

  Returns:
    A pytree whose leaves have shape [M, ...], of JAX's dtypes: float64 is
    rounded unless `jax_enable_x64` is on.

  Raises:
    ValueError: at the first path that differs from model 0, holds a NaN or an
      integer that JAX would wrap, or when there is no model, or a single tree
      in place of a list.

  >>> stack([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}])["w"].shape
  (2, 2)
  """
  models = as_models(models, "stack")
  for index, model in enumerate(models):
    check_fits(model, f"model {index}")
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
      listed = isinstance(stack, list | tuple)
      raise ValueError(
        f"stack: {path!r} has {np.shape(leaf)[0]} models, expected {count} as"
        f" in {first!r}" + ("; ws.stack stacks a list of models" * listed)
      )
  if not count:
    raise ValueError("stack: no models, expected at least one")
  return int(count)


def one_model(stack: Stack) -> Params:
  """Return the shapes of one model of a Stack.

  >>> one_model({"w": jnp.zeros((3, 2))})["w"].shape
  (2,)
  """

  def shape(x: Any) -> jax.ShapeDtypeStruct:
    wide = isinstance(x, jax.ShapeDtypeStruct)  # may have 64 bits
    dtype = x.dtype if wide else jnp.result_type(x)
    return jax.ShapeDtypeStruct(x.shape[1:], dtype)

  return jax.tree.map(shape, stack)


def unstack(stack: Stack) -> list[Params]:
  """Return the M models of a Stack: the inverse of `stack`.

  >>> [m["w"].item() for m in unstack({"w": jnp.array([3.0, 4.0])})]
  [3.0, 4.0]
  """
  models = range(size(stack))
  return [jax.tree.map(lambda x, m=m: x[m], stack) for m in models]


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
    array = np.asarray(leaf)
    digest.update(f"{path} {array.shape} {array.dtype}\n".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()[:16]
