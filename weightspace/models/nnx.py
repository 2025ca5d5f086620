"""An nnx module as `apply(params, x)` and a plain nested dict of parameters.

nnx keeps arrays inside objects; weight-space transforms want a tree.  The
adapter takes the object apart once, and puts a copy together inside `apply`.

>>> from flax import nnx
>>> apply, params = from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
>>> apply(params, jnp.ones((5, 3))).shape, sorted(params)
((5, 2), ['bias', 'kernel'])
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.models import batchnorm, foreign_norms
from weightspace.types import Params


def from_nnx(module: Any, *, statistics: bool = False) -> Any:
  """Return `(apply, params)` of an `nnx.Module`, which is left unchanged.

  `apply(params, *args, **kwargs)` calls the module with its `nnx.Param`s
  replaced by `params`; it is pure, so it works under jit, grad and vmap.
  Everything else the module holds (BatchNorm averages, random streams, train or
  eval mode) is as it was when adapted, at every call: set `module.train()` or
  `module.eval()` first, and adapt again for other statistics.  On a path
  between two models these are the statistics of one of them: with `statistics`
  they are an argument, and each model has its own.

  Args:
    module: an instance of `nnx.Module`; shared variables stay shared.
    statistics: return `(apply, params, stats)`, with `apply(params, x, stats)`
      that normalises by these BatchNorm averages: as `probe.profile` with
      `interpolated(stats_a, stats_b)` wants it.

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
  kinds = (nnx.Param, nnx.BatchStat, ...)
  parts: Any = nnx.split(module, *kinds)
  graph, state, averages, *rest = parts
  fill, params = _filler(nnx, state, "params")
  fill_averages, stats = _filler(nnx, averages, "stats")

  def merged(params: Params, stats: Params) -> Any:
    others = jax.tree.map(jnp.asarray, rest)  # copies: a call may change them
    return nnx.merge(graph, fill(params), fill_averages(stats), *others)

  def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
    return merged(params, stats)(*args, **kwargs)

  def apply_with(
    params: Params, x: Any, stats: Any = stats, **kwargs: Any
  ) -> Any:
    return merged(params, stats)(x, **kwargs)

  return (apply_with, params, stats) if statistics else (apply, params)


def _filler(nnx: Any, state: Any, what: str) -> tuple[Any, Params]:
  """Return the function that fills a state with a tree, and its tree."""
  structure = jax.tree.structure(state)
  keys = jax.tree.map(lambda _: 0, nnx.to_pure_dict(state))
  plain = _text_keys(nnx.to_pure_dict(state))
  shapes = {path: jnp.shape(x) for path, x in trees.named(plain).items()}

  def fill(tree: Params) -> Any:
    got = {path: jnp.shape(x) for path, x in trees.named(tree).items()}
    for path in shapes | got:
      if shapes.get(path) != got.get(path):
        raise ValueError(
          f"{what}: {path!r} is {got.get(path, 'missing')}, expected"
          f" {shapes.get(path, 'no such path')}"
        )
    leaves = jax.tree.leaves(_own(keys, tree))
    return jax.tree.unflatten(structure, map(jnp.asarray, leaves))

  return fill, plain


def nnx_population(
  module: Any, batches: Sequence[Any], passes: int | None = None
) -> Any:
  """Return a copy of an `nnx.Module` with BatchNorm averages measured anew.

  As `models.population`: pass k normalises by the averages of pass k - 1, by
  default as many passes as there are layers, so the result does not depend on
  how the inputs are split into batches.

  Args:
    module: an instance of `nnx.Module`; left as it is.
    batches: inputs, each [B, ...] or a tree of such arrays.
    passes: fewer for an approximation.

  Raises:
    ValueError: for no batch, or a module without BatchNorm.

  >>> from flax import nnx
  >>> layer = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
  >>> x = jnp.array([[1.0], [2.0], [6.0]])
  >>> nnx_population(layer, [x[:1], x[1:]]).mean[...].tolist()
  [3.0]

  Izmailov et al. 2018, https://arxiv.org/abs/1803.05407; by pooled moments:
  ours.
  """
  from flax import nnx

  result = nnx.clone(module)
  layers = [
    m for _, m in nnx.iter_graph(result) if isinstance(m, nnx.BatchNorm)
  ]
  if not len(batches) or not layers:
    what = "BatchNorm in the module" if len(batches) else "batches"
    raise ValueError(f"nnx_population: no {what}, expected at least one")
  for done in range(len(layers) if passes is None else passes):
    found = _measured(nnx, result, batches, bool(done))
    for layer in layers:
      for name in ("mean", "var"):
        variable = getattr(layer, name)
        variable[...] = found[id(layer)][name].astype(variable[...].dtype)
  return result


def _norms(nnx: Any, module: Any) -> list[Any]:
  nodes = (node for _, node in nnx.iter_graph(module))
  return [node for node in nodes if isinstance(node, nnx.BatchNorm)]


def _measured(
  nnx: Any, module: Any, batches: Sequence[Any], known: bool
) -> dict[int, Any]:
  """Return the moments of what each BatchNorm layer gets, by its number."""
  total: dict[int, Any] = {}
  layers = [
    m for _, m in nnx.iter_graph(module) if isinstance(m, nnx.BatchNorm)
  ]

  class Measuring(nnx.BatchNorm):
    """Leaves the moments of what it gets."""

    def __call__(self, x: Any, *_: Any, **kwargs: Any) -> Any:
      own = foreign_norms.moments(x, self.axis)[0]
      before = total.get(id(self))
      total[id(self)] = own if before is None else batchnorm.join(before, own)
      kwargs["use_running_average"] = known
      return super().__call__(x, **kwargs)

  kinds = [type(layer) for layer in layers]
  for layer in layers:  # of a copy that is nobody else's
    layer.__class__ = Measuring
  for x in batches:
    module(x)
  for layer, kind in zip(layers, kinds):
    layer.__class__ = kind
  return total


def _text_keys(tree: Any) -> Any:
  if not isinstance(tree, dict):
    return tree
  return {str(key): _text_keys(value) for key, value in tree.items()}


def _own(keys: Any, tree: Any) -> Any:
  """Give the module's own keys back: 10 comes before 2 as text only."""
  if not isinstance(keys, dict):
    return tree
  return {key: _own(inner, tree[str(key)]) for key, inner in keys.items()}
