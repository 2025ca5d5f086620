"""Accuracy told from weights alone, over members of a zoo that were left out.

Features that no reordering of units changes, norms and spectra alone, and a
network whose layers commute with reorderings; on held-out members of the widths
that were learned from, and on members of a wider one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

import weightspace as ws
from experiments.generate import bed
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import generate, models, symmetry
from weightspace.types import Key, Stack

ALL, NORMS, LAYERS = "all features", "norms and spectra", "equivariant layers"
SPECTRAL = ("log deviation", "log spectral", "stable rank", "singular values")


class Width(NamedTuple):
  """The members of one width, and what is known of them."""

  axes: symmetry.Axes
  stack: Stack  # [M, ...]
  accuracy: np.ndarray  # [M], percent
  features: np.ndarray  # [M, F]
  names: list[str]


def study(run: runs.Run) -> Lines:
  """Train members of all widths of each seed; log rank correlations."""
  config = run.config
  for seed, key in enumerate(bed.keys(run)):
    keys = jax.random.split(key, len(config.widths))
    zoo = [members(run, k, w) for k, w in zip(keys, config.widths)]
    learned, new = zoo[:-1], zoo[-1]
    kept = config.members * 2 // 3
    for method, told in predictions(run, learned, new, kept, key).items():
      held = np.concatenate([told[i][kept:] for i in range(len(learned))])
      truth = np.concatenate([w.accuracy[kept:] for w in learned])
      yield {
        "seed": seed,
        "method": method,
        "rank correlation, held out": _rank(held, truth),
        "rank correlation, wider": _rank(told[-1], new.accuracy),
      }


def _rank(a: np.ndarray, b: np.ndarray) -> float:
  return float(scipy.stats.spearmanr(a, b).statistic)


def members(run: runs.Run, key: Key, width: int) -> Width:
  """Train members whose rates, decays and noise in labels were drawn."""
  config, splits = run.config, run.data()
  model = models.build("mlp", hidden=(width,), classes=10)
  draw, begin, pick, fit = jax.random.split(key, 4)
  hyper = {
    name: 10 ** jax.random.uniform(k, (config.members,), minval=a, maxval=b)
    for k, (name, (a, b)) in zip(
      jax.random.split(draw, len(config.powers)), config.powers.items()
    )
  }
  stack = bed.starts(
    model, splits.train["x"], list(jax.random.split(begin, config.members))
  )

  def tx(learning_rate: Any, weight_decay: Any) -> Any:
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(decay, optax.sgd(learning_rate, 0.9))

  def prepare(key: Key, batch: Any, flipped: Any) -> Any:
    which, what = jax.random.split(key)
    y = batch["y"]
    wrong = jax.random.randint(what, y.shape, 0, 10, y.dtype)
    noisy = jax.random.uniform(which, y.shape) < flipped
    return batch | {"y": jnp.where(noisy, wrong, y)}

  fitted = ws.train.fit_population(
    ws.losses.of(model.apply, ws.losses.cross_entropy),
    stack,
    tx,
    bed.subset(pick, splits.train, config.examples),
    key=fit,
    epochs=config.epochs,
    batch_size=config.batch_size,
    hyper=hyper,
    prepare=prepare,
  )
  one = jax.tree.map(lambda x: x[0], fitted.params)
  axes = symmetry.trace_axes(model.apply, one, splits.train["x"][:1])
  return Width(
    axes,
    fitted.params,
    bed.accuracies(model.apply, fitted.params, splits.test),
    np.asarray(jax.jit(lambda s: generate.features(axes, s))(fitted.params)),
    generate.feature_names(axes, one),
  )


def predictions(
  run: runs.Run, learned: list[Width], new: Width, kept: int, key: Key
) -> dict[str, list[np.ndarray]]:
  """Return {method: [predictions of each width]}, learned from the first."""
  y = np.concatenate([w.accuracy[:kept] for w in learned])
  few = [any(word in name for word in SPECTRAL) for name in new.names]
  told: dict[str, list[np.ndarray]] = {}
  for method, columns in {ALL: [True] * len(few), NORMS: few}.items():
    x = np.concatenate([w.features[:kept][:, columns] for w in learned])
    predictor = generate.fit_predictor(jnp.asarray(x), jnp.asarray(y))
    told[method] = [
      np.asarray(predictor(jnp.asarray(w.features[:, columns])))
      for w in (*learned, new)
    ]
  told[LAYERS] = _by_layers(run, learned, new, kept, key)
  return told


def _by_layers(
  run: runs.Run, learned: list[Width], new: Width, kept: int, key: Key
) -> list[np.ndarray]:
  """Train a network that takes models, whatever the order of their units."""
  config = run.config.layers
  begin = [network(w, config.channels) for w in (*learned, new)]
  weights = begin[0][0](key)
  mean, spread = (
    f(np.concatenate([w.accuracy[:kept] for w in learned]))
    for f in (np.mean, np.std)
  )
  data = [
    (
      jax.tree.map(lambda x: x[:kept], w.stack),
      (w.accuracy[:kept] - mean) / spread,
    )
    for w in learned
  ]
  tx = optax.adam(
    optax.cosine_decay_schedule(config.learning_rate, config.steps)
  )

  def loss(weights: Any, data: Any) -> jax.Array:
    errors = [
      (jax.vmap(apply, (None, 0))(weights, stack) - y) ** 2
      for (_, apply), (stack, y) in zip(begin, data)
    ]
    return jnp.concatenate(errors).mean()

  @jax.jit
  def fit(weights: Any, data: Any) -> Any:
    def step(state: Any, _: Any) -> tuple[Any, None]:
      weights, moments = state
      slope = jax.grad(loss)(weights, data)
      updates, moments = tx.update(slope, moments)
      return (optax.apply_updates(weights, updates), moments), None

    state = weights, tx.init(weights)
    return jax.lax.scan(step, state, None, config.steps)[0][0]

  weights = fit(weights, data)
  return [
    np.asarray(jax.vmap(apply, (None, 0))(weights, w.stack)) * spread + mean
    for (_, apply), w in zip(begin, (*learned, new))
  ]


def network(width: Width, channels: int) -> tuple[Any, Any]:
  """Return init(key) and apply(weights, params) -> [] for one width.

  The weights are those of every width: they know names of axes, not sizes.
  """
  one = jax.tree.map(lambda x: x[0], width.stack)
  given = generate.channels(width.axes, one)
  inner = dict.fromkeys(given, channels)
  first = generate.equivariant(width.axes, given, channels)
  last = generate.invariant(width.axes, inner, channels)

  def init(key: Key) -> Any:
    keys = jax.random.split(key, 3)
    out = jax.random.normal(keys[2], (channels,)) / channels**0.5
    return {
      "first": first.init(keys[0]),
      "last": last.init(keys[1]),
      "out": out,
    }

  def apply(weights: Any, params: Any) -> jax.Array:
    features = generate.read(width.axes, params)
    features = first.apply(weights["first"], features)
    features = jax.tree.map(jax.nn.gelu, features)
    numbers = last.apply(weights["last"], features)[""]
    return jax.nn.gelu(numbers) @ weights["out"]

  return init, apply
