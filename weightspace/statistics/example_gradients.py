"""Squared gradients of single examples, summed over a batch.

Every linear map that is used once per example is seen by what goes in and by
the gradient of what comes out, all other parameters by their own gradients.

>>> state = {"params": jnp.zeros((1, 2)), "sums": jnp.zeros((1, 2)),
...          "examples": jnp.zeros((), int)}
>>> added = add_batch(state, {"x": jnp.array([[2.0]])}, jax.random.key(0),
...                   lambda w, x: x @ w, How())
>>> added["sums"].round(4).tolist()
[[1.0, 1.0]]
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import linear_maps, weight_products
from weightspace.jaxpr.weight_products import Map
from weightspace.losses import logits
from weightspace.statistics import squares, streams
from weightspace.types import Apply, Data, Key, Params


class How(NamedTuple):
  """What is squared and how it is summed; hashable."""

  kind: str = "exact"
  samples: int = 1
  tokens: str = "mean"  # of a sequence: its mean over tokens, or their sum
  ignore: int = logits.IGNORE  # the label of a token that does not count


def covered(maps: list[Map]) -> list[Map]:
  """Return the maps of the parameters that are used once per example."""
  uses: dict[Any, int] = {}
  for at in maps:
    uses[at.leaf, at.taken] = uses.get((at.leaf, at.taken), 0) + 1
  shared = {leaf for (leaf, _), count in uses.items() if count > 1}
  return [at for at in maps if at.leaf not in shared]


@functools.partial(jax.jit, static_argnames=("apply", "how"))
def add_batch(state: Any, batch: Data, key: Key, apply: Apply, how: How) -> Any:
  """Return the sums and the number of examples with those of a batch."""
  count = len(jax.tree.leaves(batch["x"])[0])
  places = state["examples"] + jnp.arange(count)
  params = trees.widened(state["params"])
  maps = covered(linear_maps.find(apply, params, streams.example(batch["x"])))

  def gradients(one: Data, place: jax.Array) -> Any:
    own = jax.random.fold_in(key, place)
    return _gradients(apply, params, maps, one, own, how)

  found = _squares(maps, *jax.vmap(gradients)(batch, places))
  totals, structure = jax.tree.flatten(state["sums"])
  sums = [
    total + found[str(n)].astype(total.dtype) if str(n) in found else total
    for n, total in enumerate(totals)
  ]
  return {
    "sums": jax.tree.unflatten(structure, sums),
    "examples": state["examples"] + count,
  }


def _gradients(
  apply: Apply,
  params: Params,
  maps: list[Map],
  one: Data,
  key: Key,
  how: How,
) -> Any:
  """Return what goes into each map of an example and the gradients behind it.

  And of the parameters that no map has, by number, the squared gradients.
  """
  leaves, structure = jax.tree.flatten(params)
  mapped = {at.leaf for at in maps}
  others = {
    str(n): leaf
    for n, leaf in enumerate(leaves)
    if n not in mapped and jnp.issubdtype(leaf.dtype, jnp.floating)
  }
  x = jax.tree.map(lambda a: a[None], one["x"])
  extras = [
    jnp.zeros(shape.shape, trees.accumulator(shape.dtype))
    for shape in _outputs(apply, params, x, maps)
  ]

  def outputs(extras: Any, others: Any) -> Any:
    inputs = []

    def visit(number: int, at: Map, a: jax.Array, b: jax.Array) -> jax.Array:
      inputs.append(at.features(a))
      return b + extras[number].astype(b.dtype)

    full = [others.get(str(n), leaf) for n, leaf in enumerate(leaves)]
    tree = jax.tree.unflatten(structure, full)
    out = linear_maps.run(apply, tree, x, maps, visit)
    return logits.wide(out[0]), inputs

  out, pull, inputs = jax.vjp(outputs, extras, others, has_aux=True)
  rows = _cotangents(out, one.get("y"), key, how)
  given, rest = jax.vmap(pull)(rows)
  given = [jax.vmap(at.results)(g) for at, g in zip(maps, given)]
  return inputs, given, jax.tree.map(lambda g: (g**2).sum(0), rest)


def _squares(
  maps: list[Map], inputs: list[Any], given: list[Any], rest: dict[str, Any]
) -> dict[str, jax.Array]:
  """Return the summed squares of a batch, by the number of the parameter."""
  found = {n: g.sum(0) for n, g in rest.items()}
  for leaf in {at.leaf for at in maps}:
    parts = [
      (at, _expanded(at, squares.summed(x.astype(g.dtype), g)))
      for at, x, g in zip(maps, inputs, given)
      if at.leaf == leaf
    ]
    found[str(leaf)] = weight_products.joined(parts[0][0], parts)
  return found


def _outputs(
  apply: Apply, params: Params, x: Any, maps: list[Map]
) -> list[Any]:
  """Return the shapes of what comes out of each map."""
  shapes: list[Any] = []

  def visit(number: int, at: Map, a: jax.Array, b: jax.Array) -> jax.Array:
    shapes.append(jax.ShapeDtypeStruct(jnp.shape(b), b.dtype))
    return b

  jax.eval_shape(
    lambda p, x: linear_maps.run(apply, p, x, maps, visit), params, x
  )
  return shapes


def _expanded(at: Map, value: jax.Array) -> jax.Array:
  """Return [batch, in, out] as the leaf, indexed axes of length one."""
  shaped = weight_products.as_leaf(at, value)
  for axis in sorted(axis for axis, _ in at.taken):
    shaped = jnp.expand_dims(shaped, axis)
  return shaped


def _cotangents(z: jax.Array, labels: Any, key: Key, how: How) -> jax.Array:
  """Return rows whose squared gradients sum to one example's expectation.

  d log p(y) / dz is one-hot(y) - p.  Labels of different positions are
  independent and each has mean zero, so positions add up one by one.
  """
  rows = _all_cotangents(z, labels, key, how)
  kept = (
    jnp.ones(z.shape[:-1], bool) if labels is None else labels != how.ignore
  )
  count = jnp.maximum(kept.sum(), 1) if how.tokens == "mean" else 1
  share = kept[..., None] / jnp.sqrt(jnp.asarray(count, z.dtype))
  return (rows * share[None]).astype(z.dtype)


def _all_cotangents(z: jax.Array, labels: Any, key: Key, how: How) -> jax.Array:
  shares = jax.nn.softmax(z)
  classes, lead = z.shape[-1], z.shape[:-1]
  if how.kind == "empirical":
    return (jax.nn.one_hot(labels, classes, dtype=z.dtype) - shares)[None]
  if how.kind == "sampled":
    drawn = jax.random.categorical(key, z, shape=(how.samples, *lead))
    rows = jax.nn.one_hot(drawn, classes, dtype=z.dtype) - shares[None]
    return rows / math.sqrt(how.samples)
  flat = shares.reshape(-1, classes)
  rows = jnp.sqrt(flat)[:, :, None] * (
    jnp.eye(classes, dtype=z.dtype)[None] - flat[:, None, :]
  )
  apart = jnp.eye(len(flat), dtype=z.dtype)[:, None, :, None]
  return (apart * rows[:, :, None, :]).reshape(-1, *lead, classes)
