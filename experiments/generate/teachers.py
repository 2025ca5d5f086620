"""Teachers of consistency training: the student itself, or one that lags.

On a single point the loss is known in closed form; on eight Gaussians in the
plane, networks are trained from noise to data in one step, and samples are
compared with the data by their energy distance.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.generate import bed
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import generate
from weightspace.types import Apply, Key, Params

LOW, HIGH, DATA = 0.02, 8.0, 0.5  # noise levels, and the spread of the data


def gaussians(key: Key, count: int) -> jax.Array:
  """Return points [count, 2] of eight Gaussians on a circle of radius 1."""
  which, noise = jax.random.split(key)
  angle = jax.random.randint(which, (count,), 0, 8) * (jnp.pi / 4)
  centers = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
  return centers + 0.05 * jax.random.normal(noise, (count, 2))


def consistent(apply: Apply, params: Params, x: jax.Array, sigma: Any) -> Any:
  """Return f(x, sigma), the network between skips that make f(x, LOW) = x."""
  over = sigma - LOW
  keep = DATA**2 / (over**2 + DATA**2)
  new = DATA * over / jnp.sqrt(sigma**2 + DATA**2)
  inside = x / jnp.sqrt(sigma**2 + DATA**2)
  level = jnp.log(sigma) / 4
  waves = [f(k * level) for k in (1.0, 2.0, 4.0) for f in (jnp.sin, jnp.cos)]
  given = jnp.concatenate([inside, level, *waves], 1)
  return keep * x + new * apply(params, given)


def law() -> float:
  """Return the largest error of the loss on one point, against closed form.

  With f(x, s) = r x + (1 - r) theta and r = LOW / s, noise cancels: the gap of
  two levels is (r' - r) xi + (1 - r') theta - (1 - r) theta_teacher.
  """

  def f(theta: float) -> Any:
    return lambda x, s: LOW / s * x + (1 - LOW / s) * theta

  def metric(a: jax.Array, b: jax.Array) -> jax.Array:
    return ((a - b) ** 2)[:, 0]

  levels = generate.karras_levels(18, LOW, HIGH)
  r = LOW / np.asarray(levels, np.float64)
  worst = 0.0
  for xi in (0.0, 2.0):
    for teacher in (1.0, 0.9):
      gaps = np.diff(r) * xi + (1 - r[1:]) - (1 - r[:-1]) * teacher
      for i, gap in enumerate(gaps):
        loss = generate.consistency_loss(
          f(1.0),
          f(teacher),
          jnp.full((4, 1), xi),
          jax.random.key(i),
          levels[i : i + 2],
          metric,
        )
        worst = max(worst, abs(float(loss) - gap**2))
  return worst


def study(run: runs.Run) -> Lines:
  """Train each seed with each teacher; log the distance of samples to data."""
  config = run.config
  model = ws.models.build(
    "mlp", hidden=config.hidden, classes=2, activation="gelu"
  )
  error = law()
  for seed, key in enumerate(bed.keys(run)):
    fresh, other, noise = jax.random.split(jax.random.fold_in(key, 1), 3)
    data = gaussians(fresh, config.samples)
    floor = energy(gaussians(other, config.samples), data)
    for rate in config.teachers:
      params = train(model, key, rate, config)
      z = HIGH * jax.random.normal(noise, (config.samples, 2))
      made = consistent(model.apply, params, z, jnp.full((len(z), 1), HIGH))
      yield {
        "seed": seed,
        "method": f"teacher's rate {rate:g}",
        "energy distance": float(energy(made, data)),
        "of fresh data": float(floor),
        "error of the law": error,
      }


def train(model: Any, key: Key, rate: float, config: Any) -> Params:
  """Return a network trained with a teacher that is an EMA of it.

  The levels double in number at even intervals, as in the paper; each number of
  them is a program of its own.
  """
  params = model.init(key, jnp.zeros((1, 9)))
  tx = optax.adam(config.learning_rate)
  fold = ws.average.ema(rate)
  state = params, fold.init(params), tx.init(params)
  step, ends = 0, config.levels
  while step < config.steps:
    count = generate.level_count(step, config.steps, *ends)
    stop = step
    while (
      stop < config.steps
      and generate.level_count(stop, config.steps, *ends) == count
    ):
      stop += 1
    levels = generate.karras_levels(count, LOW, HIGH)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
      jnp.arange(step, stop)
    )
    settings = model.apply, tx, rate, config.batch_size
    state = _stretch(settings, state, levels, keys)
    step = stop
  return state[0]


@functools.partial(jax.jit, static_argnums=0)
def _stretch(settings: Any, state: Any, levels: jax.Array, keys: Key) -> Any:
  apply, tx, rate, batch = settings
  fold = ws.average.ema(rate)
  shares = generate.lognormal_shares(levels)
  weights = 1.0 / jnp.diff(levels)
  metric = functools.partial(generate.pseudo_huber, c=0.00054 * 2**0.5)

  def step(state: Any, key: Key) -> tuple[Any, None]:
    params, lagging, moments = state
    draw, noise = jax.random.split(key)
    x = gaussians(draw, batch)
    teacher = fold.value(lagging)

    def loss(params: Params) -> jax.Array:
      return generate.consistency_loss(
        functools.partial(consistent, apply, params),
        functools.partial(consistent, apply, teacher),
        x,
        noise,
        levels,
        metric,
        shares=shares,
        weights=weights,
      )

    updates, moments = tx.update(jax.grad(loss)(params), moments, params)
    params = optax.apply_updates(params, updates)
    return (params, fold.update(lagging, params), moments), None

  return jax.lax.scan(step, state, keys)[0]


@jax.jit
def energy(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return 2 E|x - y| - E|x - x'| - E|y - y'|, samples' own pairs left out.

  Szekely and Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018: a maximum
  mean discrepancy with the kernel -|x - y|.
  """

  def mean(x: jax.Array, y: jax.Array, same: bool) -> jax.Array:
    gaps = jnp.sqrt(jnp.sum((x[:, None] - y[None]) ** 2, -1) + 1e-12)
    count = len(x) * (len(y) - same)
    return gaps.sum() / count

  return 2 * mean(a, b, False) - mean(a, a, True) - mean(b, b, True)
