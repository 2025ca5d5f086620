"""Layers on weights that commute with every reordering of units.

A network whose input is a model should not care in which order the model's
units stand.  `equivariant` is the general linear layer with that property, for
whatever axes a model was found to have: a matrix over channels for each orbit
of pairs of entries.  `invariant` ends such a network.

>>> from weightspace.generate.unit_pieces import channels, read
>>> axes = Axes({"b": "h", "w": "2 h"}, {"h": 3}, {})
>>> params = {"b": jnp.zeros(3), "w": jnp.zeros((2, 3))}
>>> layer = equivariant(axes, channels(axes, params), 4)
>>> weights = layer.init(jax.random.key(0))
>>> {k: v.shape for k, v in layer.apply(weights, read(axes, params)).items()}
{'b:0': (3, 4), 'w:0': (3, 4)}
"""

import math
import string
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace.generate.orbit_patterns import (
  Kind,
  Part,
  fillings,
  reductions,
)
from weightspace.generate.unit_pieces import (
  Features,
  unit_axes,
)
from weightspace.symmetry.axes import Axes
from weightspace.types import Key

HIGHEST = jax.lax.Precision.HIGHEST
Names = dict[str, tuple[str, ...]]  # {piece: names of its unit axes}


class Layer(NamedTuple):
  """`init(key) -> weights` and `apply(weights, features) -> features`."""

  init: Callable[[Key], Any]
  apply: Callable[[Any, Features], Features]


def equivariant(
  axes: Axes, given: dict[str, int], wanted: int | dict[str, int]
) -> Layer:
  """Return the general linear layer that commutes with reordering units.

  Args:
    axes: from `symmetry.trace_axes`.
    given: channels of each piece of the input, from `channels` for a model.
    wanted: channels of each piece of the output, or one number for all.

  Returns:
    Layer; a bias is among its patterns.

  Raises:
    ValueError: for pieces that are not those of the axes, or no channels.

  Navon et al. 2023, https://arxiv.org/abs/2301.12780, and Zhou et al. 2023,
  https://arxiv.org/abs/2302.14040, for layers of MLPs and convolutions; the
  patterns of any traced model, with units in blocks, are ours.
  """
  labels = unit_axes(axes)
  wide = dict.fromkeys(labels, wanted) if isinstance(wanted, int) else wanted
  _check(labels, given, "equivariant: given")
  _check(labels, wide, "equivariant: wanted")
  return _layer(labels, given, labels, wide)


def invariant(axes: Axes, given: dict[str, int], wanted: int) -> Layer:
  """Return the linear layer whose one output "" no reordering changes.

  Args:
    axes: from `symmetry.trace_axes`.
    given: channels of each piece of the input.
    wanted: channels of the output, {"": [channels]}.

  Returns:
    Layer; the means that it sees are those of single pieces, with axes of one
    name joined or apart.

  Raises:
    ValueError: as `equivariant`.

  >>> axes = Axes({"w": "h"}, {"h": 3}, {})
  >>> layer = invariant(axes, {"w:0": 1}, 1)
  >>> weights = {"/0": jnp.array([[3.0], [0.5]])}  # of the mean, and a bias
  >>> layer.apply(weights, {"w:0": jnp.array([[1.0], [2.0], [3.0]])})[""]
  Array([6.5], dtype=float32)
  """
  labels = unit_axes(axes)
  _check(labels, given, "invariant: given")
  _check({"": ()}, {"": wanted}, "invariant: wanted")
  return _layer(labels, given, {"": ()}, {"": wanted})


def _check(labels: Names, sizes: dict[str, int], what: str) -> None:
  for piece in [*labels, *sizes]:
    if piece not in labels or sizes.get(piece, 0) < 1:
      raise ValueError(
        f"{what} {piece!r} has {sizes.get(piece)} channels, expected at least 1"
        f" for each of {list(labels)}"
      )


def _layer(
  sources: Names,
  given: dict[str, int],
  targets: Names,
  wanted: dict[str, int],
) -> Layer:
  pools: dict[Kind, list[tuple[str, str]]] = {(): []}
  for piece, labels in sources.items():
    for kind, spec in reductions(labels):
      pools.setdefault(kind, []).append((piece, spec))
  widths = {k: sum(given[piece] for piece, _ in v) for k, v in pools.items()}
  widths[()] += 1  # a constant, for the bias
  terms = {
    f"{piece}/{number}": (piece, kind, *filling)
    for piece, labels in targets.items()
    for number, (kind, filling) in enumerate(
      (kind, filling) for kind in pools for filling in fillings(labels, kind)
    )
  }

  def init(key: Key) -> dict[str, jax.Array]:
    fan = dict.fromkeys(targets, 0)
    for piece, kind, *_ in terms.values():
      fan[piece] += widths[kind]
    return {
      name: jax.random.normal(k, (widths[kind], wanted[piece]))
      / math.sqrt(fan[piece])
      for k, (name, (piece, kind, *_)) in zip(
        jax.random.split(key, len(terms)), terms.items()
      )
    }

  def apply(weights: dict[str, jax.Array], features: Features) -> Features:
    means = {
      kind: [_mean(features[piece], spec) for piece, spec in members]
      for kind, members in pools.items()
    }
    means[()].append(jnp.ones(1))
    joined = {kind: jnp.concatenate(x, -1) for kind, x in means.items()}
    sizes = _sizes(sources, features)
    totals: dict[str, Any] = dict.fromkeys(targets, 0.0)
    for name, (piece, kind, parts, chosen) in terms.items():
      y = jnp.matmul(joined[kind], weights[name], precision=HIGHEST)
      totals[piece] = totals[piece] + _fill(y, parts, chosen, sizes)
    return totals

  return Layer(init, apply)


def _sizes(sources: Names, features: Features) -> dict[str, int]:
  """Return the number of units of each label."""
  return {
    label: features[piece].shape[axis]
    for piece, labels in sources.items()
    for axis, label in enumerate(labels)
  }


def _mean(x: jax.Array, spec: str) -> jax.Array:
  given, kept = spec.split("->")
  sizes = dict(zip(given, x.shape))
  lost = math.prod(n for letter, n in sizes.items() if letter not in kept)
  return jnp.einsum(spec, x, precision=HIGHEST) / lost


def _fill(
  y: jax.Array,
  parts: tuple[Part, ...],
  chosen: tuple[int, ...],
  sizes: dict[str, int],
) -> jax.Array:
  """Spread y [*chosen parts, C] over all axes of a piece, [*axes, C]."""
  axes = {a: part for part in parts for a in part.places}
  first = [string.ascii_lowercase[part.places[0]] for part in parts]
  terms, factors = ["".join(first[i] for i in chosen) + "Y"], [y]
  for i, part in enumerate(parts):
    size = sizes[part.label]
    if i not in chosen:
      terms.append(first[i])
      factors.append(jnp.ones(size))
    for axis in part.places[1:]:
      terms.append(first[i] + string.ascii_lowercase[axis])
      factors.append(jnp.eye(size))
  result = "".join(string.ascii_lowercase[a] for a in range(len(axes))) + "Y"
  return jnp.einsum(f"{','.join(terms)}->{result}", *factors, precision=HIGHEST)
