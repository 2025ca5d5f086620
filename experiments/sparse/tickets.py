"""A study of grokking: does the mask of a network that generalised learn fast?

Sums modulo p from one-hot pairs, in full batches; masks are rewound to where
training began.

>>> sorted(STUDIES)
['tickets']
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import modular, text
from experiments.run import runs
from weightspace import losses, sparse
from weightspace.types import Data, Params, Stack

GOAL, MEMORISED = 0.95, 0.99  # of test and of training accuracy


class Training(NamedTuple):
  """What one network leaves behind; a loop carries it on."""

  steps: jax.Array  # done
  reached: jax.Array  # the step at which test accuracy was GOAL; 0: not yet
  params: Params
  state: Any  # of the optimiser
  memory: Params  # where training accuracy first was MEMORISED
  memorised: jax.Array


def tickets(run: runs.Run) -> text.Lines:
  """Train dense, and tickets of several origins, to 95 % test accuracy."""
  config, model = run.config, run.model()
  keys = jax.random.split(run.key, config.seeds)
  pairs = [modular.sums(config.modulus, config.share, key) for key in keys]
  data = tuple(
    jax.tree.map(lambda *xs: jnp.stack(xs), *part) for part in zip(*pairs)
  )
  start = text.starts(model, data[0]["x"][0], run.key, config.seeds)
  full = jax.tree.map(lambda x: jnp.ones(x.shape, bool), start)
  dense = _trained(run, model, start, full, data, config.later)
  ticket = _mask(dense.params, config.kept)
  masks = {
    "generalised": ticket,
    "memorised": _mask(dense.memory, config.kept),
    "random": jax.vmap(sparse.shuffled)(keys, ticket),
  }
  found = {"dense": dense}
  for name, mask in masks.items():
    found[name] = _trained(run, model, start, mask, data, 1.0)
  small = jax.vmap(_as_small)(start, ticket)
  found["dense, small"] = _trained(run, model, small, full, data, 1.0)
  ends = {name: _end(x, config.steps) for name, x in found.items()}
  for name, steps in ends.items():
    values = {
      "steps to 95 %": steps,
      "log steps over dense": np.log(steps / ends["dense"]),
      "reached (%)": 100.0 * (np.asarray(found[name].reached) > 0),
    }
    yield from text.lines(name, values)


def _mask(stack: Stack, kept: float) -> Stack:
  """Return the mask of global magnitude of each seed's kernels."""
  return jax.vmap(lambda params: sparse.magnitude_mask(params, kept))(stack)


def _as_small(params: Params, mask: Params) -> Params:
  """Return the whole start at the norm of its ticket, leaf by leaf."""

  def leaf(x: jax.Array, keep: jax.Array) -> jax.Array:
    norm = jnp.linalg.norm(x)
    ticket = jnp.linalg.norm(jnp.where(keep, x, 0))
    return x * jnp.where(norm > 0, ticket / jnp.maximum(norm, 1e-12), 1.0)

  return jax.tree.map(leaf, params, mask)


def _end(training: Training, steps: int) -> np.ndarray:
  """Return the steps to 95 %, [S]; all of them where it was not reached."""
  reached = np.asarray(training.reached, np.float64)
  return np.where(reached > 0, reached, float(steps))


def _trained(
  run: runs.Run,
  model: Any,
  start: Stack,
  masks: Stack,
  data: tuple[Data, Data],
  later: float,
) -> Training:
  """Train each seed inside of its mask, until `later` times its step of 95 %.

  Weights outside of the mask start and stay at 0.
  """
  config = run.config
  part = config.train
  adam = optax.adamw(part.learning_rate, b2=0.98, weight_decay=part.decay)
  loss = losses.of(model.apply, losses.cross_entropy)
  right = losses.of(model.apply, losses.accuracy)

  def one(given: Any) -> Training:
    params, mask, (train, test) = given
    tx = sparse.train_only(adam, mask)

    def step(carry: Any, _: Any) -> Any:
      params, state = carry
      slope = jax.grad(lambda p: loss(p, train).mean())(params)
      updates, state = tx.update(slope, state, params)
      return (optax.apply_updates(params, updates), state), None

    def chunk(now: Training) -> Training:
      begun = now.params, now.state
      (params, state), _ = jax.lax.scan(step, begun, length=part.every)
      steps = now.steps + part.every
      knows = right(params, train).mean() >= MEMORISED
      good = right(params, test).mean() >= GOAL
      keep = functools.partial(jnp.where, now.memorised)
      return Training(
        steps,
        jnp.where((now.reached == 0) & good, steps, now.reached),
        params,
        state,
        jax.tree.map(keep, now.memory, params),
        now.memorised | knows,
      )

    def goes_on(now: Training) -> jax.Array:
      done = (now.reached > 0) & (now.steps >= later * now.reached)
      return ~done & (now.steps < config.steps)

    params = sparse.apply(params, mask)
    zero = jnp.zeros((), jnp.int32)
    begun = Training(zero, zero, params, tx.init(params), params, zero > 0)
    return jax.lax.while_loop(goes_on, chunk, begun)

  run_all = jax.jit(lambda given: jax.lax.map(one, given))
  return run_all((start, masks, data))


STUDIES = {"tickets": tickets}
