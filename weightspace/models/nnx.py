"""An nnx module as `apply(params, x)` and a plain nested dict of parameters.

nnx keeps arrays inside objects; weight-space transforms want a tree.  The
adapter takes the object apart once, and puts a copy together inside `apply`.

>>> from flax import nnx
>>> apply, params = from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
>>> apply(params, jnp.ones((5, 3))).shape, sorted(params)
((5, 2), ['bias', 'kernel'])
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Apply, Params


def from_nnx(module: Any) -> tuple[Apply, Params]:
  """Return `(apply, params)` of an `nnx.Module`, which is left unchanged.

  `apply(params, *args, **kwargs)` calls the module with its `nnx.Param`s
  replaced by `params`; it is pure, so it works under jit, grad and vmap.
  Everything else the module holds (BatchNorm averages, random streams, train or
  eval mode) is as it was when adapted, at every call: set `module.train()` or
  `module.eval()` first, and adapt again for other statistics.

  Args:
    module: an instance of `nnx.Module`; shared variables stay shared.

  Returns:
    apply, and params: nested dicts with string keys, an index in a list of
    layers being "0", "1", ...

  Raises:
    ValueError: when `module` is not an `nnx.Module`, or, from `apply`, when
      `params` lacks a path, has another, or has another shape there.

  flax nnx: https://flax.readthedocs.io/en/latest/nnx_basics.html (split and
  merge).
  """
  from flax import nnx  # slow to import; wanted here only

  if not isinstance(module, nnx.Module):
    raise ValueError(
      f"from_nnx: {type(module).__name__}, expected an nnx.Module instance"
    )
  graph, state, *rest = nnx.split(module, nnx.Param, ...)
  structure = jax.tree.structure(state)
  keys = jax.tree.map(lambda _: 0, nnx.to_pure_dict(state))
  params = _text_keys(nnx.to_pure_dict(state))
  shapes = {path: x.shape for path, x in trees.named(params).items()}

  def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
    got = {path: jnp.shape(x) for path, x in trees.named(params).items()}
    for path in shapes | got:
      if shapes.get(path) != got.get(path):
        raise ValueError(
          f"params: {path!r} is {got.get(path, 'missing')}, expected"
          f" {shapes.get(path, 'no such path')}"
        )
    filled = jax.tree.unflatten(structure, jax.tree.leaves(_own(keys, params)))
    others = jax.tree.map(jnp.asarray, rest)  # copies: a call may change them
    return nnx.merge(graph, filled, *others)(*args, **kwargs)

  return apply, params


def _text_keys(tree: Any) -> Any:
  if not isinstance(tree, dict):
    return tree
  return {str(key): _text_keys(value) for key, value in tree.items()}


def _own(keys: Any, tree: Any) -> Any:
  """Give the module's own keys back: 10 comes before 2 as text only."""
  if not isinstance(keys, dict):
    return tree
  return {key: _own(inner, tree[str(key)]) for key, inner in keys.items()}
