"""Studies of SALSA: policies held to one reference, or to a soup of two.

On a bandit all is exact.  On a character model the next character is the
action, and the policy is trained.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import text
from experiments.run import runs
from weightspace import average
from weightspace.types import Data, Params


def bandit(run: runs.Run) -> text.Lines:
  """Hold the best policy of a bandit to one reference, or to their soup.

  References are logits with noise of their own around one truth, and reward is
  that truth with noise: models of one task, and a reward model.  All is exact.
  The control is the same references with a reward of another truth: whatever is
  nearer to the uniform policy gains there too.
  """
  config = run.config
  for seed in range(config.seeds):
    keys = jax.random.split(jax.random.fold_in(run.key, seed), 4)
    truth, *rest = jax.random.normal(keys[0], (4, config.bandits, config.arms))
    first, second = (truth + config.noise * x for x in rest[:2])
    reward = truth + config.noise * rest[2]
    other = jax.random.normal(keys[1], truth.shape)
    other = other + config.noise * jax.random.normal(keys[2], truth.shape)
    soup = (first + second) / 2
    held = {"one": first, "other": second, "soup": soup}
    for suffix, earned in (("", reward), (", unrelated reward", other)):
      for name, reference in held.items():
        policy = average.tilt(reference, earned, config.beta)
        gain = (jnp.exp(policy) * earned).sum(-1).mean()
        away = average.divergence(policy, reference).mean()
        yield {
          "seed": seed,
          "method": f"{name}{suffix}",
          "reward": float(gain),
          "KL to its reference": float(away),
        }


def policy(run: runs.Run) -> text.Lines:
  """Reward a character model, held to one fine-tuned model or to a soup.

  The next character is the action; its expected reward and the divergence are
  exact sums over characters, along given text.
  """
  parts, model, loss = text.language(run)
  config, seeds = run.config, run.config.seeds
  train, *rest = (text.windows(part, config.length) for part in parts)
  val, test = (
    jax.tree.map(lambda x: jnp.asarray(x[: config.prompts]), part)
    for part in rest
  )
  one, two, third = _fine_tuned(run, model, loss, train)
  logits = jax.jit(lambda s, x: jax.lax.map(lambda p: model.apply(p, x), s))

  def reward(x: jax.Array) -> jax.Array:
    held = logits(third, x)
    if config.reward == "model":
      return jax.nn.log_softmax(held)
    return jnp.broadcast_to(_table(held.shape[-1], config), held.shape)

  def objective(params: Params, batch: Data) -> jax.Array:
    found = average.regularised(
      model.apply(params, batch["x"]),
      batch["reference"],
      batch["reward"],
      config.beta,
    )
    return -found.mean(-1)

  data = {"x": jnp.repeat(val["x"][None], seeds, 0), "reward": reward(val["x"])}
  key, earned = jax.random.fold_in(run.key, 2), reward(test["x"])
  for name, held in {"one model": one, "soup": text.mean([one, two])}.items():
    tuned = text.trajectory(
      run, objective, one, optax.adam(config.slow),
      data | {"reference": logits(held, val["x"])}, key=key, part=config.align,
      shared_data=False,
    )[0][-1]  # fmt: skip
    acted, anchor = logits(tuned, test["x"]), logits(held, test["x"])
    cost = text.scores(loss, tuned, test)
    found = _policy(acted, anchor, earned) | {"test loss": cost}
    yield from text.lines(f"held to {name}", found)


def _fine_tuned(run: runs.Run, model: Any, loss: Any, train: Data) -> list[Any]:
  """Return three Stacks of models fine-tuned apart, from one base a seed."""
  config, count = run.config, run.config.examples
  first, more = (
    jax.tree.map(lambda x, n=n: x[n : n + count], train) for n in (0, count)
  )
  start = text.starts(model, first["x"], run.key, config.seeds)
  tx, key = optax.adam(config.rate), jax.random.fold_in(run.key, 1)
  (*_, base), _ = text.trajectory(
    run, loss, start, tx, first, key=run.key, part=config.base
  )
  grown, _ = text.trajectory(
    run, loss, text.repeat(base, 3), tx, more, key=key, part=config.fine
  )
  size = 3 * config.seeds
  return [text.pick(grown[-1], range(place, size, 3)) for place in range(3)]


def _policy(
  acted: jax.Array, anchor: jax.Array, reward: jax.Array
) -> dict[str, np.ndarray]:
  """Return mean reward and divergence of policies, from logits [M, N, T, V]."""
  gained = (jax.nn.softmax(acted) * reward).sum(-1).mean((1, 2))
  away = average.divergence(acted, anchor).mean((1, 2))
  found = {"reward": gained, "KL to its reference": away}
  return {name: np.asarray(x, float) for name, x in found.items()}


def _table(kinds: int, config: Any) -> jax.Array:
  """Return a fixed reward for each character: one, for a share of them."""
  random = np.random.default_rng(0)
  return jnp.asarray(random.random(kinds) < config.rewarded, jnp.float32)
