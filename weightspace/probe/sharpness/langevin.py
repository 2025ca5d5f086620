"""The local learning coefficient, by SGLD, with the chains' own diagnostics.

lambda = n beta (E_w L(w) - L(w*)) under the posterior at inverse temperature
beta near w*: half the number of directions that matter.  The estimate is only
as good as its chains: R-hat compares them, the slope of the loss says whether
they still drift, and a negative value that w* was no minimum.

>>> def loss(w, x): return 0.5 * (w**2).sum() + 0.0 * x
>>> found = learning_coefficient(
...   loss, jnp.zeros(4), jnp.zeros(100), jax.random.key(0), step_size=0.02,
...   draws=400, burn_in=100, localization=0.0)
>>> bool(abs(found.value - 2.0) < 4 * found.stderr), found.healthy  # half of 4
(True, True)
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.jaxpr import convolutions
from weightspace.losses import objectives
from weightspace.probe.curvature.operators import Part
from weightspace.probe.sharpness import sharpness
from weightspace.types import Data, Key, Loss, Params


class LearningCoefficient(NamedTuple):
  """The estimate and what its chains say of it."""

  value: float
  stderr: float  # over chains
  chains: np.ndarray  # [C], the estimate of each
  losses: np.ndarray  # [C, draws], L(w) - L(w*) of kept draws
  rhat: float  # near 1 where chains agree
  drift: float  # rise of the loss over the draws, in its deviations
  # Of several chains and draws: finite, R-hat < 1.1, no drift, not negative.
  healthy: bool


def learning_coefficient(
  loss: Loss,
  params: Params,
  data: Data,
  key: Key,
  *,
  step_size: float = 1e-3,
  chains: int = 4,
  draws: int = 200,
  burn_in: int = 100,
  localization: float = 1.0,
  batch_size: int | None = None,
  temperature: float | None = None,
) -> LearningCoefficient:
  """Estimate lambda = n beta (E L(w) - L(w*)) by SGLD around w*.

  w <- w - (eps/2) (n beta grad L_B(w) + gamma (w - w*)) + N(0, eps); the loss
  is compared with that of w* on the same batch, whose noise cancels.

  Args:
    loss: `loss(params, data)`, one per example [N] or one number.
    params: w*, a trained model.
    data: [N, ...].
    key: of noise and batches.
    step_size: eps.
    chains: C independent chains.
    draws: steps that count.
    burn_in: steps before them.
    localization: gamma, which holds the chain near w*.
    batch_size: examples of a step, drawn with replacement; None for all.
    temperature: 1 / beta; by default log N.

  Returns:
    LearningCoefficient; a chain that diverged makes it NaN and not healthy.  So
    does a single chain or draw, which nothing can be compared with.

  Raises:
    ValueError: for numbers out of range, data without an example axis, or a
      loss of one number that is not the mean over examples.

  >>> found = learning_coefficient(lambda w, x: 0.0 * w * x, jnp.ones(()),
  ...   jnp.ones(9), jax.random.key(0), draws=5)
  >>> found.value
  0.0

  Lau et al. 2023, https://arxiv.org/abs/2308.12108 (beta = 1 / log n); the
  comparison on equal batches is ours.
  """
  loss, part, params = sharpness.opened(
    loss, params, data, "learning_coefficient"
  )
  lengths = {np.shape(x)[:1] for x in jax.tree.leaves(data)}
  if len(lengths) != 1 or lengths == {()}:
    raise ValueError(
      f"learning_coefficient: data with leading axes {sorted(lengths)},"
      " expected [N, ...]"
    )
  (count,) = lengths.pop()
  warmth = math.log(max(count, 2)) if temperature is None else temperature
  what = "learning_coefficient"
  sharpness.check_numbers(
    what,
    above={"step_size": step_size, "temperature": warmth},
    least={"localization": localization},
    whole={"chains": (chains, 1), "draws": (draws, 1), "burn_in": (burn_in, 0)},
  )
  if batch_size is not None and not 1 <= batch_size <= count:
    raise ValueError(
      f"{what}: batch_size is {batch_size}, expected 1 to {count}"
    )
  if objectives.examples(loss, params, data, what) is None:
    objectives.check_mean(loss, params, data, what, batch_size)
  scale = count / warmth
  keys = jax.random.split(key, chains)
  settings = step_size, scale, localization
  rises = np.asarray(
    _sample(
      loss, part, batch_size, burn_in + draws, params, data, keys, settings
    )
  )
  return _judge(rises[:, burn_in:], scale)


def _judge(losses: np.ndarray, scale: float) -> LearningCoefficient:
  """Return the estimate of rises [C, draws], and the chains' diagnostics."""
  losses = np.asarray(losses, float)
  each = scale * losses.mean(1)
  count, draws = losses.shape
  error = each.std(ddof=1) / math.sqrt(count) if count > 1 else math.inf
  within = losses.var(1, ddof=1).mean() if draws > 1 else math.nan
  between = losses.mean(1).var(ddof=1) if count > 1 else 0.0
  rhat = 1.0 if count > 1 and draws > 1 else math.nan
  if within > 0 and count > 1:
    rhat = math.sqrt((draws - 1) / draws + between / within)
  places = np.linspace(-0.5, 0.5, draws)
  slope = (losses.mean(0) @ places) / max(places @ places, 1e-12)
  spread = math.sqrt(within) if within > 0 else 1.0
  value, drift = float(each.mean()), float(slope / spread)
  finite = math.isfinite(value)
  compared = count > 1 and draws > 1
  healthy = compared and finite and rhat < 1.1 and abs(drift) < 0.5
  return LearningCoefficient(
    value,
    float(error),
    each,
    losses,
    float(rhat) if finite else math.nan,
    drift,
    bool(healthy and value > -2 * error),
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sample(
  loss: Loss,
  part: Part,
  batch_size: int | None,
  steps: int,
  params: Params,
  data: Data,
  keys: Key,
  settings: Any,
) -> jax.Array:
  """Return L_B(w_t) - L_B(w*) of each step, [C, steps]."""
  step_size, scale, localization = settings
  centre = part.ravel(part.take(params))

  def mean(flat: jax.Array, batch: Data) -> jax.Array:
    return objectives.mean(loss, part.put(params, part.unravel(flat)), batch)

  rise = convolutions.canonical(jax.value_and_grad(mean))

  def step(flat: jax.Array, key: Key) -> tuple[jax.Array, jax.Array]:
    noisy, picked = jax.random.split(key)
    batch = data
    if batch_size is not None:
      total = len(jax.tree.leaves(data)[0])
      index = jax.random.randint(picked, (batch_size,), 0, total)
      batch = jax.tree.map(lambda x: x[index], data)
    value, slope = rise(flat, batch)
    pull = scale * slope + localization * (flat - centre)
    noise = jnp.sqrt(step_size) * jax.random.normal(noisy, flat.shape)
    moved = flat - 0.5 * step_size * pull + noise
    return moved, value - mean(centre, batch)

  def chain(key: Key) -> jax.Array:
    return jax.lax.scan(step, centre, jax.random.split(key, steps))[1]

  return jax.lax.map(chain, keys)
