"""How curves are trained: a step of one curve, and many curves at once.

All points of a curve [K, ...] are carried; the ends have no gradient and are
put back after each step, so any optimiser leaves them as they were.

>>> begin({"w": jnp.array(0.0)}, {"w": jnp.array(3.0)}, bends=2)["w"].tolist()
[0.0, 1.0, 2.0, 3.0]
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import trees
from weightspace.jaxpr import convolutions
from weightspace.losses import objectives
from weightspace.paths.bezier import Bezier, Polyline
from weightspace.train import placement
from weightspace.train import steps as population
from weightspace.types import Data, Key, Loss, Params, Stack

KINDS: dict[str, Any] = {"bezier": Bezier, "polyline": Polyline}


class Settings(NamedTuple):
  """What is fixed while a curve's program is compiled; hashable."""

  loss: Loss
  kind: str
  tx: Any
  batch_size: int | None
  strata: int
  weight_decay: float


class State(NamedTuple):
  """What changes from step to step: all points, whose ends stay put."""

  points: Stack
  optimizer: Any


def schedule(learning_rate: float, steps: int) -> optax.Schedule:
  """Return the rate of Garipov et al.: whole, falling, then a hundredth.

  Constant for the first half, linear to 1 % at 90 %, constant from there.

  >>> rate = schedule(1.0, 100)
  >>> [round(float(rate(step)), 3) for step in (0, 50, 70, 90, 99)]
  [1.0, 1.0, 0.505, 0.01, 0.01]
  """

  def rate(count: Any) -> Any:
    share = (count / max(steps, 1) - 0.5) / 0.4
    return learning_rate * (1.0 - 0.99 * jnp.clip(share, 0.0, 1.0))

  return rate


@functools.lru_cache(maxsize=64)  # equal settings find their compiled program
def sgd(learning_rate: float, steps: int) -> Any:
  """Return SGD with momentum 0.9 and the schedule."""
  return optax.sgd(schedule(learning_rate, steps), momentum=0.9)


def begin(a: Params, b: Params, bends: int) -> Stack:
  """Return all points, evenly on the segment; the ends exact."""
  shares = jnp.linspace(0.0, 1.0, bends + 2)

  def leaf(x: jax.Array, y: jax.Array) -> jax.Array:
    x, y = jnp.asarray(x), jnp.asarray(y)
    if not trees.inexact(x):
      return jnp.stack([x] * len(shares))
    return jnp.stack(
      [x, *((1 - s) * x + s * y for s in shares[1:-1]), y]
    ).astype(x.dtype)

  return jax.tree.map(leaf, a, b)


def step(
  made: Settings, state: State, data: Data, key: Key
) -> tuple[State, jax.Array]:
  """Take one step of one curve; return its new state and its loss []."""
  own, rest = jax.random.split(key)
  shifts = jax.random.uniform(own, (made.strata,))
  ts = (jnp.arange(made.strata) + shifts) / made.strata
  if made.batch_size is not None:
    total = len(jax.tree.leaves(data)[0])
    picks = jax.random.randint(rest, (made.batch_size,), 0, total)
    data = jax.tree.map(lambda x: x[picks], data)
  chosen = objectives.inexact_leaves(state.points, "fit_curve")
  leaves, structure = jax.tree.flatten(state.points)

  def objective(free: list[jax.Array], t: jax.Array) -> jax.Array:
    whole = list(leaves)
    for n, x in zip(chosen, free):
      # The ends get no gradient, so their momentum stays zero as well.
      ends = [jax.lax.stop_gradient(x[i : i + 1]) for i in (0, len(x) - 1)]
      whole[n] = jnp.concatenate([ends[0], x[1:-1], ends[1]])
    point = KINDS[made.kind](jax.tree.unflatten(structure, whole))(t)
    value = objectives.mean(made.loss, point, data)
    if made.weight_decay:
      squares = [
        (trees.widened(x) ** 2).sum()
        for n, x in enumerate(jax.tree.leaves(point))
        if n in chosen
      ]
      value = value + 0.5 * made.weight_decay * sum(squares)
    return value

  free = [leaves[n] for n in chosen]
  one = jax.value_and_grad(objective)
  found = [one(free, t) for t in ts]
  value = sum(v for v, _ in found) / len(found)
  slope = jax.tree.map(lambda *g: sum(g) / len(g), *(g for _, g in found))
  updates, optimizer = made.tx.update(slope, state.optimizer, free)
  moved = optax.apply_updates(free, updates)
  for n, x, old in zip(chosen, moved, free):
    leaves[n] = jnp.concatenate([old[:1], x[1:-1], old[-1:]])
  points = jax.tree.unflatten(structure, leaves)
  return State(points, optimizer), jnp.asarray(value)


def train(
  made: Settings, points: Stack, data: Data, keys: Key, steps: int
) -> tuple[Stack, np.ndarray]:
  """Return the trained points [M, K, ...] and the losses [M, steps]."""
  keys = jax.vmap(lambda key: jax.random.split(key, steps))(keys)
  members = placement.choose("auto")[1]
  points, losses = _many(made, points, data, keys, members)
  return points, np.asarray(losses)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _many(
  made: Settings, points: Stack, data: Data, keys: Key, members: str
) -> tuple[Stack, jax.Array]:
  """Take steps [M, S]; return the points and the losses [M, S]."""
  one = convolutions.canonical(functools.partial(step, made))

  def curve(points: Stack, keys: Key) -> tuple[Stack, jax.Array]:
    chosen = objectives.inexact_leaves(points, "fit_curve")
    leaves = jax.tree.leaves(points)
    state = State(points, made.tx.init([leaves[n] for n in chosen]))
    state, losses = jax.lax.scan(lambda s, k: one(s, data, k), state, keys)
    return state.points, losses

  return population.LAYOUTS[members](curve, (True, True))(points, keys)
