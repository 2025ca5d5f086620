"""Studies of policies: what tuning for a reward costs, and what mixing returns.

The policy is a character model, its answer the next character.  Rewards are
fixed functions of the distribution over it, so everything is exact.

>>> sorted(STUDIES)
['diversity', 'tax']
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import progress, runs
from weightspace.types import Key, Loss, Params, Stack


def policies(run: runs.Run) -> tuple[list[Any], Any, Loss, Stack]:
  """Return text by split, the model, its loss, and trained starts [S, ...]."""
  config = run.config
  parts, model, loss = text.language(run)
  sets = [text.windows(part, config.length) for part in parts]
  limits = (config.examples, config.validation, config.test)
  sets = [
    jax.tree.map(lambda x, n=n: jnp.asarray(x[:n]), s)
    for s, n in zip(sets, limits)
  ]
  start = text.starts(model, sets[0]["x"], run.key, config.seeds)
  tx = optax.adam(config.rate)
  kept, _ = text.trajectory(
    run, loss, start, tx, sets[0], key=run.key, part=config.base
  )
  return sets, model, loss, kept[-1]


def tuned(
  run: runs.Run, name: str, loss: Any, start: Stack, data: Any, **more: Any
) -> Stack:
  """Return models fine-tuned on a loss from their starts."""
  config = run.config
  key = jax.random.fold_in(run.key, len(name))
  tx = optax.adam(config.fine.rate)
  part = config.fine
  return text.trajectory(
    run, loss, start, tx, data, key=key, part=part, **more
  )[0][-1]


def tax(run: runs.Run) -> text.Lines:
  """Pay back the tax of a reward: one ratio, or one for each part (AMA)."""
  config = run.config
  (train, val, test), model, loss, starts = policies(run)
  vocab = model.apply(ws.unstack(starts)[0], train["x"][:1]).shape[-1]
  liked = np.random.default_rng(config.seed).random(vocab) < 0.2
  prize = jnp.asarray(liked, jnp.float32)

  def reward(params: Any, batch: Any) -> jax.Array:
    shares = jax.nn.softmax(model.apply(params, batch["x"]))
    return (shares * prize[None, None]).sum(-1).mean(-1)

  def chase(params: Any, batch: Any) -> jax.Array:
    return -reward(params, batch) * config.pull

  after = tuned(run, "reward", chase, starts, train)

  @jax.jit
  def both(params: Any, batch: Any) -> jax.Array:
    return jnp.stack(
      [reward(params, batch).mean(), -loss(params, batch).mean()]
    )

  answers = functools.partial(_likelihood, model)
  with progress.bar("ratios", config.seeds) as advance:
    for seed, pair in enumerate(zip(ws.unstack(starts), ws.unstack(after))):
      key = jax.random.fold_in(run.key, seed)
      drawn = jax.random.categorical(key, model.apply(pair[1], val["x"]))
      own = {"x": val["x"], "y": drawn}
      for name, params in _between(run, *pair, answers, own):
        found = np.asarray(both(params, test), np.float64)
        yield {
          "seed": seed,
          "method": name,
          "reward (%)": 100 * found[0],
          "log-likelihood": found[1],
        }
      advance(seed + 1)


def _likelihood(model: Any, params: Any, batch: Any) -> jax.Array:
  """Return the mean log-likelihood of each text, [N]."""
  logs = jax.nn.log_softmax(model.apply(params, batch["x"]))
  own = jnp.take_along_axis(logs, batch["y"][..., None], -1)
  return own[..., 0].mean(-1)


def _between(
  run: runs.Run, before: Params, policy: Params, score: Any, data: Any
) -> Iterator[tuple[str, Params]]:
  """Yield the mixes of a policy and its start: one ratio, or AMA's by part."""
  config = run.config
  for ratio in np.linspace(0.0, 1.0, config.ratios):
    mixed = jax.tree.map(
      lambda b, p, a=ratio: (1 - a) * b + a * p, before, policy
    )
    yield f"one ratio, {ratio:.2f}", mixed
  for mean in config.means:
    made = ws.merge.adaptive_average(
      before, policy, score, data, mean=mean, parts=config.parts,
      steps=config.steps,
    )  # fmt: skip
    yield f"AMA, {mean:.2f}", made.params


def diversity(run: runs.Run) -> text.Lines:
  """Interpolate a policy tuned for quality and one tuned for diversity too.

  Quality is minus the divergence from a guided teacher: the start's logits
  sharpened against those without context.  Diversity is the entropy of the
  next character.
  """
  config = run.config
  (train, _, test), model, _, starts = policies(run)
  vocab = model.apply(ws.unstack(starts)[0], train["x"][:1]).shape[-1]
  seen = np.bincount(np.asarray(train["y"]).ravel(), minlength=vocab) + 1.0
  plain = jnp.log(jnp.asarray(seen / seen.sum(), jnp.float32))

  def quality(params: Any, batch: Any) -> jax.Array:
    teacher = jax.tree.map(lambda x: x[batch["seed"][0]], starts)
    guided = config.guidance * model.apply(teacher, batch["x"])
    guided = guided + (1 - config.guidance) * plain[None, None]
    logs = jax.nn.log_softmax(model.apply(params, batch["x"]))
    gap = logs - jax.nn.log_softmax(guided)
    return -(jnp.exp(logs) * gap).sum(-1).mean(-1)

  def entropy(params: Any, batch: Any) -> jax.Array:
    return ws.losses.entropy(model.apply(params, batch["x"]))

  def loss(params: Any, batch: Any, weight: Any) -> jax.Array:
    return -quality(params, batch) - weight * entropy(params, batch)

  pairs = _pairs(run, loss, starts, train)
  for seed in range(config.seeds):
    pair = jax.tree.map(lambda x, s=seed: x[2 * s : 2 * s + 2], pairs)
    shown = jax.tree.map(lambda x: x[0], _with_seeds(test, np.array([seed])))
    made = ws.merge.line_front(
      pair, [quality, entropy], [shown, shown], count=config.points
    )
    yield from _bent(seed, "interpolated", made)
    # The control: as far from the same model, in a random direction.
    key = jax.random.fold_in(run.key, 2**20 + seed)
    made = ws.merge.line_front(
      _aside(pair, key), [quality, entropy], [shown, shown],
      count=config.points,
    )  # fmt: skip
    yield from _bent(seed, "random direction", made)


def _pairs(run: runs.Run, loss: Any, starts: Stack, data: Any) -> Stack:
  """Return two models for each seed, without and with weight on diversity."""
  config = run.config
  weights = jnp.tile(jnp.array([0.0, config.weight]), config.seeds)
  return tuned(
    run,
    "quality",
    loss,
    text.repeat(starts, 2),
    _with_seeds(data, np.repeat(np.arange(config.seeds), 2)),
    hyper={"weight": weights},
    shared_data=False,
  )


def _aside(pair: Stack, key: Key) -> Stack:
  """Return the first of two models, and it moved at random as far as the other.

  Each leaf moves by the distance between the two.
  """
  leaves, shape = jax.tree.flatten(pair)
  moved = []
  for x, own in zip(leaves, jax.random.split(key, len(leaves))):
    way = jax.random.normal(own, x.shape[1:])
    far = jnp.linalg.norm(x[1] - x[0]) / jnp.linalg.norm(way)
    moved.append(jnp.stack([x[0], x[0] + far * way]))
  return jax.tree.unflatten(shape, moved)


def _bent(seed: int, name: str, made: ws.merge.Front) -> text.Lines:
  """Yield the points of a front, and how far its inside is off the chord."""
  bent = ws.merge.above_chord(made.values)
  for place, (share, value) in enumerate(zip(made.weights[:, 1], made.values)):
    line = {"quality": value[0], "diversity": value[1], "above": bent[place]}
    if name == "interpolated":
      yield {"seed": seed, "method": "front", "at": f"{share:.2f}"} | line
  yield {
    "seed": seed,
    "method": name,
    "above the chord": float(bent[1:-1].max()),
    "least interior": float(bent[1:-1].min()),
  }


def _with_seeds(data: Any, seeds: np.ndarray) -> Any:
  """Return the data of each member, [M, N, ...], with its seed beside them."""
  many = jax.tree.map(lambda x: jnp.stack([x] * len(seeds)), data)
  count = len(data["x"])
  return many | {"seed": jnp.asarray(np.repeat(seeds[:, None], count, 1))}


STUDIES = {"tax": tax, "diversity": diversity}
