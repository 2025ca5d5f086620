"""Products with a parameter, as maps from its input axes to its output axes.

A dense layer or an attention projection is a dot, a convolution is a dot with
patches.  What goes in is given as rows [batch, tokens, in], what comes out as
[batch, tokens, out], whatever the layout of the model.

>>> params = {"window_strides": (1,), "padding": [(1, 1)],
...           "lhs_dilation": (1,), "rhs_dilation": (1,)}
>>> patches(jnp.array([[[1.0], [2.0]]]), [3], [2], params)[0, :, :, 0].tolist()
[[0.0, 1.0, 2.0], [1.0, 2.0, 0.0]]
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace.jaxpr import leaf_labels
from weightspace.jaxpr.leaf_labels import Label, Piece

BATCH, TOKEN, FEATURE = 0, 1, 2
Named = Sequence[tuple[str, tuple[int, ...]]]  # path and shape of each leaf


class Map(NamedTuple):
  """One use of a parameter as a linear map.

  `features(x)` and `outputs(y)` give what went in and what came out as [batch,
  tokens, in] and [batch, tokens, out], in the order of the parameter's axes.
  """

  path: str
  leaf: int  # the number of the parameter
  shape: tuple[int, ...]  # of the parameter
  batch: tuple[int, ...]  # its axes: apart from each other,
  inputs: tuple[int, ...]  # contracted with the input,
  outputs: tuple[int, ...]  # and those of the output
  taken: tuple[tuple[int, int], ...]  # axes that are taken at one place
  features: Callable[[jax.Array], jax.Array]
  results: Callable[[jax.Array], jax.Array]


def dot(
  named: Named, eqn: Any, label: Label, side: int, ranks: Any, x: jax.Array
) -> tuple[Map, jax.Array] | None:
  """Return a matrix product as a map with its input; None for another."""
  contracted, batched = eqn.params["dimension_numbers"]
  roles = {w: FEATURE for w in contracted[side]}
  roles |= {w: BATCH for w in batched[side]}
  pairs = dict(zip(contracted[1 - side], contracted[side]))
  pairs |= dict(zip(batched[1 - side], batched[side]))
  tokens = [axis for axis in range(ranks[0]) if axis not in pairs]
  free = [axis for axis in range(ranks[1]) if axis not in roles]

  def token(axis: int, sizes: Sequence[int]) -> list[tuple[int, Piece]]:
    return [(TOKEN, Piece(axis, sizes[axis], 1))]

  def features(x: jax.Array) -> jax.Array:
    axes = [
      [(roles[pairs[axis]], piece) for piece in label.axes[pairs[axis]]]
      if axis in pairs
      else token(axis, x.shape)
      for axis in range(x.ndim)
    ]
    return leaf_labels.arrange(x, axes)

  def results(y: jax.Array) -> jax.Array:
    axes: list[Any] = [
      [(BATCH, piece) for piece in label.axes[w]] for w in batched[side]
    ]
    mine = [[(FEATURE, piece) for piece in label.axes[w]] for w in free]
    start = len(axes) + (len(mine) if side == 0 else 0)
    others = [
      [(TOKEN, Piece(i, y.shape[start + i], 1))] for i in range(len(tokens))
    ]
    axes += mine + others if side == 0 else others + mine
    return leaf_labels.arrange(y, axes)

  words = {FEATURE: "in", BATCH: "batch", TOKEN: "out"}
  kinds = {w: words[roles.get(w, TOKEN)] for w in range(ranks[1])}
  made = _map(named, label, kinds, features, results)
  return made and (made, x)


def conv(
  named: Named, eqn: Any, label: Label, x: jax.Array
) -> tuple[Map, jax.Array] | None:
  """Return a convolution as a map with its input; None for another."""
  numbers = eqn.params["dimension_numbers"]
  out, *contracted = numbers.rhs_spec
  window = eqn.invars[1].aval.shape
  filters = [window[axis] for axis in numbers.rhs_spec[2:]]
  spatial = eqn.outvars[0].aval.shape
  spatial = [spatial[axis] for axis in numbers.out_spec[2:]]

  def token(place: int, size: int) -> list[tuple[int, Piece]]:
    return [(TOKEN, Piece(place, size, 1))]

  def features(x: jax.Array) -> jax.Array:
    cut = patches(
      x.transpose(_last(numbers.lhs_spec)), filters, spatial, eqn.params
    )
    axes = [token(i, n) for i, n in enumerate(cut.shape[: 1 + len(spatial)])]
    axes += [
      [(FEATURE, piece) for piece in label.axes[w]]
      for w in (*numbers.rhs_spec[2:], numbers.rhs_spec[1])
    ]
    return leaf_labels.arrange(cut, axes)

  def results(y: jax.Array) -> jax.Array:
    y = y.transpose(_last(numbers.out_spec))
    axes = [token(i, n) for i, n in enumerate(y.shape[:-1])]
    axes.append([(FEATURE, piece) for piece in label.axes[out]])
    return leaf_labels.arrange(y, axes)

  kinds = {w: "in" for w in contracted} | {out: "out"}
  made = _map(named, label, kinds, features, results)
  return made and (made, x)


def _last(spec: Sequence[int]) -> tuple[int, ...]:
  """Return the order that puts the channels of (batch, channel, ...) last."""
  return (spec[0], *spec[2:], spec[1])


def patches(
  x: jax.Array, filters: Sequence[int], spatial: Sequence[int], params: Any
) -> jax.Array:
  """Return what each place of a convolution sees, [N, *out, *filter, C].

  Args:
    x: [N, *in, C].
    filters: the extent of the filter along each axis.
    spatial: the extent of the output along each axis.
    params: those of the equation: strides, padding, dilations.
  """
  inner = [d - 1 for d in params["lhs_dilation"]]
  config = [(low, high, n) for (low, high), n in zip(params["padding"], inner)]
  x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
  strides, dilation = params["window_strides"], params["rhs_dilation"]
  slices = []
  for offset in itertools.product(*map(range, filters)):
    start = [o * d for o, d in zip(offset, dilation)]
    stop = [s + (n - 1) * k + 1 for s, n, k in zip(start, spatial, strides)]
    slices.append(
      jax.lax.slice(
        x,
        (0, *start, 0),
        (x.shape[0], *stop, x.shape[-1]),
        (1, *strides, 1),
      )
    )
  stacked = jnp.stack(slices, axis=-2)
  return stacked.reshape(*stacked.shape[:-2], *filters, x.shape[-1])


def _map(
  named: Named, label: Label, kinds: dict[int, str], features: Any, results: Any
) -> Map | None:
  """Return the Map where each axis of the parameter has one role."""
  roles: dict[int, set[str]] = {axis: {"batch"} for axis, _ in label.taken}
  for w, pieces in enumerate(label.axes):
    for piece in pieces:
      roles.setdefault(piece.axis, set()).add(kinds[w])
  if any(len(found) > 1 for found in roles.values()):
    return None
  axes = {
    kind: tuple(sorted(a for a, found in roles.items() if found == {kind}))
    for kind in ("batch", "in", "out")
  }
  path, shape = named[label.leaf]
  return Map(
    path,
    label.leaf,
    shape,
    axes["batch"],
    axes["in"],
    axes["out"],
    label.taken,
    features,
    results,
  )


def as_leaf(at: Map, value: jax.Array) -> jax.Array:
  """Return [batch, in, out] in the shape of the parameter.

  Axes that the map takes at one place are left out.
  """
  taken = {axis for axis, _ in at.taken}
  batch = [axis for axis in at.batch if axis not in taken]
  axes = [*batch, *at.inputs, *at.outputs]
  split = value.reshape([at.shape[axis] for axis in axes])
  order = sorted(range(len(axes)), key=axes.__getitem__)
  left = [n for axis, n in enumerate(at.shape) if axis not in taken]
  return split.transpose(order).reshape(left)


def gram_shape(at: Map) -> tuple[int, ...]:
  """Return the shape that a Gram matrix of a map's inputs is kept in.

  The parameter's axes twice: an input axis has its extent both times, a batch
  axis the first time only, and an output axis never.  So the array itself says
  which axes of the parameter it is about.
  """
  first = [
    n if a in at.batch + at.inputs else 1 for a, n in enumerate(at.shape)
  ]
  second = [n if a in at.inputs else 1 for a, n in enumerate(at.shape)]
  return (*first, *second)


def as_gram(at: Map, value: jax.Array) -> jax.Array:
  """Return [batch, in, in] in the shape of `gram_shape`.

  An axis that the map takes at one place has length one.
  """
  taken = {axis for axis, _ in at.taken}
  batch = [axis for axis in at.batch if axis not in taken]
  axes = [*batch, *at.inputs]
  sizes = [at.shape[axis] for axis in (*axes, *at.inputs)]
  order = sorted(range(len(axes)), key=axes.__getitem__)
  split = value.reshape(sizes)
  split = split.transpose([*order, *range(len(axes), len(sizes))])
  shape = list(gram_shape(at))
  for axis in taken:
    shape[axis] = 1
  return split.reshape(shape)


def joined(at: Map, parts: Sequence[tuple[Map, jax.Array]]) -> jax.Array:
  """Return the sum over a parameter's maps, those at one place put there.

  Args:
    at: any of the maps.
    parts: each map with its array, whose indexed axes have length one.
  """
  if not at.taken:
    return functools.reduce(jnp.add, [value for _, value in parts])
  (axis, _), *_ = at.taken
  places: dict[int, list[jax.Array]] = {}
  for part, value in parts:
    places.setdefault(part.taken[0][1], []).append(value)
  rows = [functools.reduce(jnp.add, places[i]) for i in sorted(places)]
  return jnp.concatenate(rows, axis)
