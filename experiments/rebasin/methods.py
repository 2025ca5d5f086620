"""The ways that the re-basin experiments align and merge models, by name.

>>> sorted(ALIGN)[:3]
['activations', 'many', 'naive']
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import weightspace as ws
from experiments.rebasin import training
from weightspace.symmetry.axes import blocks
from weightspace.types import Params


class Setting(NamedTuple):
  """What a method is given."""

  axes: Any
  apply: Any
  models: list[Params]
  x: jax.Array  # training inputs, for statistics
  key: jax.Array
  loss: Any = None
  data: Any = None  # to train on
  model: Any = None  # for its BatchNorm statistics
  straight: Any = None  # `steps` and `rate` of straight-through


def naive(s: Setting) -> list[Any]:
  """Leave all models as they are."""
  return [ws.match.identity(s.axes, s.models[0])] * len(s.models)


def shuffled(s: Setting) -> list[Any]:
  """Permute all models but the first at random: the control."""
  one = ws.match.identity(s.axes, s.models[0])
  keys = jax.random.split(s.key, len(s.models))
  drawn = [ws.match.random(s.axes, s.models[0], key) for key in keys[1:]]
  return [one, *drawn]


def weights(s: Setting) -> list[Any]:
  """Match each model to the first by its weights."""
  one = ws.match.identity(s.axes, s.models[0])
  pairs = ws.match.match_pairs(s.axes, s.models[0], s.models[1:], s.key)
  return [one, *(pair.perm for pair in pairs)]


def activations(s: Setting) -> list[Any]:
  """Match each model to the first by its activations."""
  first, *rest = s.models
  match = ws.match.match_activations
  found = [match(s.axes, s.apply, first, m, s.x).perm for m in rest]
  return [ws.match.identity(s.axes, first), *found]


def many(s: Setting) -> list[Any]:
  """Match all models to one another at once."""
  return ws.match.match_many(s.axes, s.models, s.key)


def merge_many(s: Setting) -> list[Any]:
  """Match each model in turn to the sum of the others (Git Re-Basin)."""
  return ws.match.match_many(s.axes, s.models, s.key, method="merge_many")


def straight_through(s: Setting) -> list[Any]:
  """Match each model to the first by the loss of their mean."""
  first, *rest = s.models
  size = min(500, len(s.data["y"]))
  found = [
    ws.match.straight_through(
      s.axes,
      s.loss,
      [first, m],
      s.data,
      key=s.key,
      steps=s.straight.steps,
      batch_size=size,
      optimizer=optax.sgd(s.straight.rate, momentum=0.9),
    ).perms[1]
    for m in rest
  ]
  return [ws.match.identity(s.axes, first), *found]


def without_heads(s: Setting) -> list[Any]:
  """Match by weights, with heads and what they hold left in place."""
  return weights(_pinned(s))


def activations_without_heads(s: Setting) -> list[Any]:
  """Match by activations, with heads and what they hold left in place."""
  return activations(_pinned(s))


def _pinned(s: Setting) -> Setting:
  held = {block for name in s.axes.sizes for block in blocks(name)}
  fixed = {
    name: "left in place"
    for name in s.axes.sizes
    if blocks(name) or name in held
  }
  axes = s.axes._replace(pins=s.axes.pins | fixed)
  return s._replace(axes=axes)


ALIGN: dict[str, Callable[[Setting], list[Any]]] = {
  "naive": naive,
  "random": shuffled,
  "weights": weights,
  "activations": activations,
  "many": many,
  "MergeMany": merge_many,
  "straight-through": straight_through,
  "without heads": without_heads,
  "activations, without heads": activations_without_heads,
}


def plain_mean(s: Setting) -> Params:
  """Average."""
  return ws.weighted_mean(ws.stack(s.models))


def repaired(s: Setting) -> Params:
  """Average, and restore the statistics of the hidden layers."""
  return ws.match.repair(s.apply, s.models, s.x)


def solved(s: Setting) -> Params:
  """Fit each layer by least squares."""
  return ws.match.least_squares(s.apply, s.models, s.x)


def reset(s: Setting) -> Params:
  """Average, and find the statistics of BatchNorm anew."""
  return training.with_statistics(s.model, plain_mean(s)["params"], s.x)


MERGE: dict[str, Callable[[Setting], Params]] = {
  "mean": plain_mean,
  "REPAIR": repaired,
  "least squares": solved,
  "reset": reset,
}
