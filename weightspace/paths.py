"""Paths between models, the loss along them, and barriers.

A path is a pytree struct with `path(t) -> Params`.  A line or a polyline is a
path whose points are mixes of a few models, so its losses come from one
`evaluate_mixes` call that shares the first layer.

>>> path = line({"w": jnp.array(0.0)}, {"w": jnp.array(2.0)})
>>> path(0.25)["w"].item()
0.5
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, mixes, trees
from weightspace.types import Data, Loss, Params, Path, Stack


@flax.struct.dataclass
class Polyline:
  """Straight segments through M >= 2 models; t in [0, 1] is spread evenly."""

  points: Stack

  def weights(self, t: jax.Array | float) -> jax.Array:
    """Return the coefficients [M] of the models at `t`.

    Outside [0, 1] the first and the last segment go on straight.
    """
    last = trees.size(self.points) - 1
    place = jnp.asarray(t, float) * last
    first = jnp.clip(jnp.floor(place), 0, last - 1)
    share = place - first
    at = jnp.arange(last + 1)
    after = jnp.where(at == first + 1, share, 0.0)
    return jnp.where(at == first, 1.0 - share, after)

  def __call__(self, t: jax.Array | float) -> Params:
    return means.weighted_sum(self.points, self.weights(t))


class Barrier(NamedTuple):
  """Losses along a path and its barrier in the conventions of the field.

  With L_A, L_B the end losses and d(t) = L(t) - (L_A + L_B) / 2:
  """

  chord: float  # max_t L(t) - [(1-t) L_A + t L_B] >= 0; Entezari et al. 2022
  mean: float  # max_t d(t); Frankle et al. 2020 (on error), Git Re-Basin
  half: float  # L(1/2) - (L_A + L_B) / 2, nearest grid point
  connectivity: float  # -d(t) at max |d|; Yang et al. 2021: < 0 is a barrier
  at: float  # t where the chord is exceeded most
  ts: np.ndarray  # [T]
  losses: np.ndarray  # [T]


def line(a: Params, b: Params) -> Polyline:
  """Return the path (1-t) a + t b.

  Raises:
    ValueError: naming the first leaf where the models differ in shape or dtype.

  >>> line({"w": 1.0}, {"w": 3.0})(0.5)["w"].item()
  2.0
  """
  return Polyline(trees.stack([a, b]))


def along(path: Path, ts: Any, loss: Loss, data: Data) -> jax.Array:
  """Return the loss at each point of a path.

  Args:
    path: any `path(t) -> Params`; mixes of models share their first layer.
    ts: [T] places; a line goes on straight outside [0, 1].
    loss: `loss(params, data)`, one number or one per example (averaged).
    data: what the loss is given, in one call.

  Returns:
    [T] float32.

  >>> def loss(p, x): return (p["w"] - x) ** 2
  >>> path = line({"w": jnp.array(0.0)}, {"w": jnp.array(2.0)})
  >>> along(path, jnp.array([0.0, 0.5, 1.0]), loss, jnp.array(1.0)).tolist()
  [1.0, 0.0, 1.0]
  """
  ts = jnp.asarray(ts, float)
  if ts.ndim != 1:
    raise ValueError(f"along: ts has shape {ts.shape}, expected [T]")
  if isinstance(path, Polyline):
    weights = jax.vmap(path.weights)(ts)
    return mixes.evaluate_mixes(path.points, weights, loss, data)
  if callable(path) and jax.tree.leaves(path) == [path]:
    path = jax.tree_util.Partial(path)  # a plain function is no argument of jit
  return _along(path, ts, data, loss)


@jax.jit(static_argnames="loss")
def _along(path: Path, ts: jax.Array, data: Data, loss: Loss) -> jax.Array:
  return jax.lax.map(lambda t: jnp.mean(loss(path(t), data)), ts)


def summarise(ts: np.ndarray, losses: np.ndarray) -> Barrier:
  """Return the barrier of losses [T] at places ts [T], both ends included.

  >>> summarise(np.array([0.0, 0.5, 1.0]), np.array([1.0, 4.0, 3.0])).chord
  2.0
  """
  ts, losses = np.asarray(ts, float), np.asarray(losses, float)
  first, last = losses[0], losses[-1]
  above = losses - ((1 - ts) * first + ts * last)
  deviation = losses - (first + last) / 2
  worst = int(np.argmax(above))
  return Barrier(
    chord=float(above[worst]),
    mean=float(deviation.max()),
    half=float(deviation[np.argmin(np.abs(ts - 0.5))]),
    connectivity=float(-deviation[np.argmax(np.abs(deviation))]),
    at=float(ts[worst]),
    ts=ts,
    losses=losses,
  )


def barrier(
  loss: Loss, data: Data, a: Params, b: Params, points: int = 25
) -> Barrier:
  """Return the loss barrier on the line from `a` to `b`.

  The maximum over a grid underestimates the supremum; pass error instead of
  loss for the instability of Frankle et al.

  Args:
    loss: `loss(params, data)`, one number or one per example.
    data: the data set.
    a: the model at t = 0.
    b: the model at t = 1.
    points: T >= 2 places, both ends included.

  Returns:
    A Barrier: `.chord`, `.mean`, `.half`, `.connectivity`, `.at`, `.losses`.

  Raises:
    ValueError: for fewer than two points, or models that differ in structure.

  >>> def loss(p, x): return (p["w"] ** 2 - x) ** 2
  >>> a, b = {"w": jnp.array(-1.0)}, {"w": jnp.array(1.0)}
  >>> barrier(loss, jnp.array(1.0), a, b).chord
  1.0

  Entezari et al. 2022, https://arxiv.org/abs/2110.06296 (chord); Frankle et al.
  2020, https://arxiv.org/abs/1912.05671, and Ainsworth et al. 2023, Def. 2.2,
  https://arxiv.org/abs/2209.04836 (mean); Yang et al. 2021,
  https://arxiv.org/abs/2107.11228 (connectivity).  25 points: the Git Re-Basin
  scripts.
  """
  if points < 2:
    raise ValueError(f"barrier: points is {points}, expected at least 2")
  ts = np.linspace(0.0, 1.0, points)
  return summarise(ts, np.asarray(along(line(a, b), ts, loss, data)))
