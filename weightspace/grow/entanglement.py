"""Architectures searched in one set of weights: a mixture of slices.

The options of an axis are leading slices of one weight, so their mixture is one
weight too, and a layer that mixes K options costs what the largest does.

>>> from weightspace.symmetry import Axes
>>> axes = Axes({"w": "2 a"}, {"a": 3}, {"w:0": "input"})
>>> mixed = entangle({"w": jnp.ones((2, 3))}, axes, {"a": (1, 3)}, [0.25, 0.75])
>>> mixed["w"][0].tolist()
[1.0, 0.75, 0.75]
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.symmetry import Axes, checks, moving
from weightspace.symmetry.axes import free, parse
from weightspace.types import Data, Key, Loss, Params

Options = Mapping[str, Sequence[int]]  # {name: leading units of each option}
Mixing = Callable[[jax.Array, Key], jax.Array]  # (logits [K], key) -> [K]


def entangle(
  params: Params, axes: Axes, options: Options, weights: Any
) -> Params:
  """Return the mixture of leading slices, each padded with zeros, as one model.

  W = sum_k w_k pad(W[:o_k, :i_k]); for weights of each axis the sum runs over
  all combinations, with products of their weights.  A map that is linear in W
  is then the same mixture of the maps of the slices.  A norm is not: its scale
  and bias are mixed, its statistics are those of the full width.

  Args:
    params: of the largest model.
    axes: from `trace_axes`.
    options: {name: (k, ...)}, leading units of that name.
    weights: [K], option k taking its k-th size of every name at once; or
      {name: [K]}, one for each axis, or a list of them in the order of the
      options.  Non-negative; a sum of 1 leaves the units that all options have
      as they are.

  Returns:
    Params shaped as `params`; leaves without a name of the options stay.

  Raises:
    ValueError: for a name that is unknown or fixed, sizes beyond the axis or
      below 1, weights that are negative, NaN or not one for each option; at the
      first leaf that does not fit.

  >>> from weightspace.symmetry import Axes
  >>> params, axes = {"b": jnp.ones(2)}, Axes({"b": "a"}, {"a": 2}, {})
  >>> entangle(params, axes, {"a": (1, 2)}, {"a": [0.5, 0.5]})["b"].tolist()
  [1.0, 0.5]

  Sukthanker et al. 2023, "TangleNAS", https://arxiv.org/abs/2312.10440; that
  norms are not mixed exactly is so in their code too.
  """
  axes = checks.fitted(axes, params, "entangle")
  groups = _groups(axes, options, weights)
  patterns = trees.named(axes.tree)

  def leaf(path: str, x: Any) -> Any:
    words = parse(patterns[path])
    names = {name for word in words for name in checks.names(word)}
    if names.isdisjoint(options) or not trees.inexact(x):
      return x
    change = functools.partial(_mixed, groups)
    return moving.by_parts(jnp.asarray(x), words, axes.sizes, change)

  return trees.map_named(leaf, params)


def _mixed(groups: Sequence[Any], part: Any, labels: Any) -> Any:
  """Multiply an array by what its entries keep under each group of options."""
  dtype, result = trees.accumulator(part.dtype), part
  for weights, sizes in groups:
    places = [axis for axis, name in enumerate(labels) if name in sizes]
    if not places:
      continue
    terms: list[Any] = [jnp.asarray(weights, dtype), [0]]
    for axis in places:
      kept = np.arange(part.shape[axis])[None] < sizes[labels[axis]][:, None]
      terms += [jnp.asarray(kept, dtype), [0, axis + 1]]
    share = jnp.einsum(*terms, [a + 1 for a in places], precision="highest")
    lengths = [n if a in places else 1 for a, n in enumerate(part.shape)]
    result = result.astype(dtype) * share.reshape(lengths)
  return result.astype(part.dtype)


def _groups(axes: Axes, options: Options, weights: Any) -> list[Any]:
  """Return (weights, {name: sizes}) of what is chosen together."""
  sizes = {name: np.asarray(given) for name, given in options.items()}
  if not sizes:
    raise ValueError("entangle: no options, expected {name: (k, ...)}")
  for name, given in sizes.items():
    if name not in free(axes):
      raise ValueError(f"entangle: {name!r} is no name that can be sliced")
    most = axes.sizes[name]
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
      raise ValueError(f"entangle: options of {name!r}, expected whole numbers")
    if not given.size or given.min() < 1 or given.max() > most:
      raise ValueError(
        f"entangle: options {given.tolist()} of {name!r}, expected 1 to {most}"
      )
  rows = list(weights) if isinstance(weights, list | tuple) else []
  if rows and len(rows) == len(sizes) and all(np.ndim(r) == 1 for r in rows):
    weights = dict(zip(sizes, rows))
  if isinstance(weights, Mapping):
    if set(weights) != set(sizes):
      raise ValueError(
        f"entangle: weights of {sorted(weights)}, expected {sorted(sizes)}"
      )
    return [
      (_checked(weights[n], len(s), repr(n)), {n: s}) for n, s in sizes.items()
    ]
  counts = {len(given) for given in sizes.values()}
  if len(counts) != 1:
    raise ValueError(
      f"entangle: {sorted(counts)} options, expected as many of each name, or"
      " weights of each"
    )
  return [(_checked(weights, counts.pop(), "all names"), sizes)]


def _checked(weights: Any, count: int, what: str) -> Any:
  """Return weights [count], refused where they are concrete and wrong."""
  if np.shape(weights) != (count,):
    raise ValueError(
      f"entangle: weights of {what} have shape {np.shape(weights)}, expected"
      f" ({count},)"
    )
  if trees.concrete(weights) and not (np.asarray(weights) >= 0).all():
    raise ValueError(
      f"entangle: weights of {what} are {np.asarray(weights)}, expected"
      " numbers of at least 0"
    )
  return weights


def darts(logits: jax.Array, key: Key | None = None) -> jax.Array:
  """Return sparsemax(logits): the nearest point of the simplex.

  Args:
    logits: [K].
    key: not looked at; there so that `drnas` may stand in its place.

  >>> darts(jnp.array([1.0, 0.5, -1.0])).tolist()
  [0.75, 0.25, 0.0]

  Martins and Astudillo 2016, https://arxiv.org/abs/1602.02068; TangleNAS's code
  takes it for DARTS with entangled weights.
  """
  return optax.projections.projection_simplex(jnp.asarray(logits))


def drnas(logits: jax.Array, key: Key) -> jax.Array:
  """Return a draw from Dirichlet(elu(logits) + 1), differentiable in them.

  Args:
    logits: [K].
    key: of the draw.

  >>> drnas(jnp.zeros(3), jax.random.key(0)).sum().round(4).item()
  1.0

  Chen et al. 2021, "DrNAS", https://arxiv.org/abs/2006.10355, as in TangleNAS's
  code.
  """
  return jax.random.dirichlet(key, jax.nn.elu(jnp.asarray(logits)) + 1.0)


def search(
  loss: Callable[[Params, Any, Data], jax.Array], mixing: Mixing
) -> Loss:
  """Return one loss that trains weights and architecture, each on its own data.

  L(theta, stop(w); train) + L(stop(theta), w; valid), w = mixing(logits, key):
  the first-order gradients of both levels in one step.

  Args:
    loss: loss(params, weights, batch), of an entangled model.
    mixing: `darts`, `drnas`, or another of their shape.

  Returns:
    Loss over {"params", "logits": {name: [K]}} (or logits [K]) and batches
    {"train", "valid", "key"}.

  Sukthanker et al. 2023, https://arxiv.org/abs/2312.10440, which takes the two
  steps in turn; at once is ours, one step of the optimiser apart.
  """

  def both(tree: Any, batch: Data) -> jax.Array:
    leaves, structure = jax.tree.flatten(tree["logits"])
    keys = jax.random.split(batch["key"], len(leaves))
    mixed = [mixing(leaf, key) for leaf, key in zip(leaves, keys)]
    weights = jax.tree.unflatten(structure, mixed)
    params = tree["params"]
    stop = jax.lax.stop_gradient
    inner = loss(params, stop(weights), batch["train"])
    return inner.mean() + loss(stop(params), weights, batch["valid"]).mean()

  return both


def chosen(options: Options, logits: Any) -> dict[str, int]:
  """Return the sizes of the largest logit: the architecture that was found.

  >>> chosen({"a": (1, 2)}, {"a": jnp.array([0.0, 1.0])})
  {'a': 2}
  """
  if not isinstance(logits, Mapping):
    logits = dict.fromkeys(options, logits)
  return {
    n: int(given[int(jnp.argmax(logits[n]))]) for n, given in options.items()
  }
