"""Images made from a teacher alone: its labels, and its BatchNorm statistics.

>>> from weightspace import models
>>> model = models.build("vgg", widths=(2,), depths=(1,), norm="batch")
>>> x = jnp.ones((2, 4, 4, 1))
>>> params = model.init(jax.random.key(0), x)
>>> stats = models.population(model, params, [x])
>>> data = {"x": jnp.zeros((2, 4, 4, 1)), "y": jnp.array([3, 5])}
>>> synthesise(model, params, stats, data, steps=2).shape
(2, 4, 4, 1)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace import losses, trees
from weightspace.jaxpr import convolutions
from weightspace.models import Model
from weightspace.types import Apply, Data, Key, Params


def statistics_gap(
  moments: Callable[..., Any],
  params: Params,
  stats: Any,
  x: jax.Array,
  *,
  variance: float = 1.0,
  factors: dict[str, float] | None = None,
) -> jax.Array:
  """Return how far a batch's statistics are from those of a population.

  sum_l f_l (|mean_l - mean| + variance |var_l - var|), over BatchNorm layers l.

  Args:
    moments: that of a model of `models` with BatchNorm, `model.moments`.
    params: of one model.
    stats: its statistics, from `models.population`.
    x: [B, ...].
    variance: the weight of variances.
    factors: f_l by path of the layer, 1 where none is given; the paper's code
      takes 10 for the first layer.

  Returns:
    [].

  Raises:
    ValueError: for a model without BatchNorm, or a factor of no layer.

  Du et al. 2024, https://arxiv.org/abs/2409.17612, after Yin et al. 2020,
  https://arxiv.org/abs/1912.08795.
  """
  layers = {
    path.rpartition("/")[0] for path in trees.names(stats) if "/" in path
  }
  if not layers:
    raise ValueError("statistics_gap: no BatchNorm statistics, expected some")
  for path in factors or {}:
    if path not in layers:
      raise ValueError(
        f"statistics_gap: no BatchNorm at {path!r}, expected one of"
        f" {sorted(layers)}"
      )
  measured = trees.named(moments(params, stats, x))
  total = jnp.zeros(())
  for path, value in trees.named(stats).items():
    layer, _, kind = path.rpartition("/")
    weight = (factors or {}).get(layer, 1.0)
    weight *= variance if kind == "var" else 1.0
    total += weight * _length(measured[path] - value)
  return total


def _length(x: jax.Array) -> jax.Array:
  """Return |x|, with gradient 0 where x is 0."""
  square = jnp.sum(x**2)
  return jnp.where(
    square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0
  )


def synthesise(
  model: Model,
  params: Params,
  stats: Any,
  data: Data,
  *,
  steps: int = 1000,
  learning_rate: float = 0.25,
  weight: float = 0.01,
  variance: float = 11.0,
  factors: dict[str, float] | None = None,
  jitter: int = 0,
  key: Key | None = None,
) -> jax.Array:
  """Return images that a teacher labels as wanted, with its statistics.

  Adam (0.5, 0.9), its rate falling along a cosine, on the mean cross-entropy
  plus `weight` times `statistics_gap`.

  Args:
    model: of `models`, with BatchNorm.
    params: the teacher, or one moved by `directed_ascent` for this batch.
    stats: the teacher's statistics.
    data: {"x": where the images begin [B, ...], "y": labels [B]}.
    steps: of Adam.
    learning_rate: at first.
    weight: of the statistics.
    variance: of variances within them; 11 in the script of the paper's code.
    factors: as in `statistics_gap`.
    jitter: images are rolled by up to so many pixels in each step.
    key: draws the jitter.

  Returns:
    [B, ...]: the last images, as in the paper's code.

  Raises:
    ValueError: for steps below 1, jitter without a key, NaN, or a model
      without BatchNorm.

  Du et al. 2024, https://arxiv.org/abs/2409.17612, and its code.
  """
  if steps < 1 or jitter < 0 or (jitter and key is None):
    raise ValueError(
      f"synthesise: {steps} steps and jitter {jitter}, expected at least 1, and"
      " a key for a jitter above 0"
    )
  for what, tree in {"params": params, "data": data}.items():
    trees.check_finite(tree, f"synthesise: {what}")
  statistics_gap(  # refuses what does not fit, before work
    model.moments, params, stats, data["x"], factors=factors
  )
  plan = Plan(
    model.apply,
    model.moments,
    steps,
    learning_rate,
    weight,
    variance,
    tuple(sorted((factors or {}).items())),
    jitter,
  )
  keys = jax.random.split(jax.random.key(0) if key is None else key, steps)
  return _descend(plan, params, stats, data, keys)


class Plan(NamedTuple):
  """The settings of a synthesis that are no arrays."""

  apply: Apply
  moments: Callable[..., Any]
  steps: int
  learning_rate: float
  weight: float
  variance: float
  factors: tuple[tuple[str, float], ...]
  jitter: int


@functools.partial(jax.jit, static_argnums=0)
def _descend(
  plan: Plan, params: Params, stats: Any, data: Data, keys: Key
) -> jax.Array:
  rate = optax.cosine_decay_schedule(plan.learning_rate, plan.steps)
  tx = optax.adam(rate, b1=0.5, b2=0.9)
  slope = convolutions.canonical(
    jax.grad(functools.partial(_objective, plan), argnums=3)
  )

  def step(state: Any, key: Key) -> tuple[Any, None]:
    x, moments = state
    shift = jax.random.randint(key, (2,), -plan.jitter, plan.jitter + 1)
    g = slope(params, stats, data["y"], _rolled(x, shift))
    updates, moments = tx.update(_rolled(g, -shift), moments)
    return (optax.apply_updates(x, updates), moments), None

  x = jnp.asarray(data["x"], jnp.float32)
  return jax.lax.scan(step, (x, tx.init(x)), keys)[0][0]


def _objective(
  plan: Plan, params: Params, stats: Any, y: jax.Array, x: jax.Array
) -> jax.Array:
  right = losses.cross_entropy(plan.apply(params, x, stats), y).mean()
  settings: Any = {"variance": plan.variance, "factors": dict(plan.factors)}
  gap = statistics_gap(plan.moments, params, stats, x, **settings)
  return right + plan.weight * gap


def _rolled(x: jax.Array, shift: jax.Array) -> jax.Array:
  return jnp.roll(x, shift, (1, 2)) if x.ndim == 4 else x
