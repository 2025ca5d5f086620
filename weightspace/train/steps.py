"""How a population is trained: one member's step, and ways to run many.

The step of one member is written once; a strategy says how steps follow each
other and how members lie side by side.  Batches and noise are drawn from
(key, seed, epoch) before a strategy sees them, so all strategies train the same
members.

>>> Plan(max, None, None, ()).loop
'scan'
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace.hosts import multihost
from weightspace.jaxpr import convolutions
from weightspace.train import hyperparameters
from weightspace.train.placement import AXIS
from weightspace.types import Data, Fold, Key, Loss, Params, Stack


class Plan(NamedTuple):
  """What is fixed while a program is compiled; hashable."""

  loss: Loss
  tx: Any
  prepare: Callable[..., Data] | None
  folds: tuple[tuple[str, Fold], ...]
  shared_data: bool = True
  same_order: bool = False
  mesh: Any = None
  loop: str = "scan"
  members: str = "sequential"


class Training(NamedTuple):
  """What changes from step to step: of one member, or [M, ...] of all."""

  params: Params
  optimizer: Any
  folds: dict[str, Any]


def begin(plan: Plan, params: Params, hyper: dict[str, Any]) -> Training:
  """Return the state of one member before its first step."""
  folds = {name: fold.init(params) for name, fold in plan.folds}
  return Training(
    params, hyperparameters.optimizer(plan.tx, hyper).init(params), folds
  )


@functools.partial(jax.jit, static_argnums=0)
def begin_all(plan: Plan, stack: Stack, hyper: dict[str, Any]) -> Training:
  """Return the state [M, ...] before the first step."""
  return jax.vmap(functools.partial(begin, plan))(stack, hyper)


def step(
  plan: Plan, state: Training, batch: Data, key: Key, hyper: dict[str, Any]
) -> tuple[Training, jax.Array]:
  """Take one step of one member; return its new state and its loss []."""
  if plan.prepare is not None:
    batch = plan.prepare(
      key, batch, **hyperparameters.given(plan.prepare, hyper, 2)
    )
  extra = hyperparameters.given(plan.loss, hyper, 2)
  value, gradient = jax.value_and_grad(
    lambda params: jnp.mean(plan.loss(params, batch, **extra))
  )(state.params)
  updates, optimized = hyperparameters.optimizer(plan.tx, hyper).update(
    gradient, state.optimizer, state.params, value=value
  )
  params = optax.apply_updates(state.params, updates)
  folds = {
    name: fold.update(state.folds[name], params) for name, fold in plan.folds
  }
  return Training(params, optimized, folds), value


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance(
  plan: Plan,
  state: Training,
  data: Data,
  indices: jax.Array,
  keys: Key,
  hyper: dict[str, Any],
) -> tuple[Training, jax.Array]:
  """Take the steps that `indices` lists; return states, losses [M, S]."""
  one = convolutions.canonical(functools.partial(step, plan))

  def member(
    state: Training, data: Data, indices: Any, keys: Key, hyper: Any
  ) -> tuple[Training, jax.Array]:
    def body(state: Training, item: Any) -> tuple[Training, jax.Array]:
      batch = jax.tree.map(lambda x: x[item[0]], data)
      return one(state, batch, item[1], hyper)

    return jax.lax.scan(body, state, (indices, keys))

  own = _own(plan)
  run = LAYOUTS[plan.members](member, own)
  if plan.mesh is not None:
    specs = tuple(jax.P(AXIS) if mine else jax.P() for mine in own)
    layout = dict(mesh=plan.mesh, in_specs=specs, out_specs=jax.P(AXIS))
    run = jax.shard_map(run, **layout, check_vma=False)
  return run(state, data, indices, keys, hyper)


def _own(plan: Plan) -> tuple[bool, ...]:
  """Tell which arguments of `advance` have an axis M."""
  return True, not plan.shared_data, not plan.same_order, True, True


def side_by_side(member: Callable[..., Any], own: Sequence[bool]) -> Any:
  """Return a function of members at once; `own` tells what has an axis M."""
  return jax.vmap(member, tuple(0 if mine else None for mine in own))


def in_turn(member: Callable[..., Any], own: Sequence[bool]) -> Any:
  """Return a function of members one after the other: as `side_by_side`."""

  def run(*args: Any) -> Any:
    def one(mine: list[Any]) -> Any:
      rest = iter(mine)
      return member(*(next(rest) if o else a for o, a in zip(own, args)))

    return jax.lax.map(one, [a for o, a in zip(own, args) if o])

  return run


LAYOUTS = {"sequential": in_turn, "vmap": side_by_side}


def spread(plan: Plan, state: Training) -> Training:
  """Lay a state [M, ...] out as the strategy wants it, in memory of its own.

  `advance` gives the memory of its input away, so nothing may be shared with
  the caller's arrays, nor between parts of the state.
  """
  state = jax.tree.map(jnp.copy, state)
  if plan.mesh is None:
    return state
  return multihost.place(plan.mesh, state, jax.P(AXIS))


def place(plan: Plan, data: Data) -> Data:
  """Put the data where the members are."""
  if plan.mesh is None:
    return data
  spec = jax.P() if plan.shared_data else jax.P(AXIS)
  return multihost.place(plan.mesh, data, spec)


def gather(plan: Plan, state: Training) -> Training:
  """Undo `spread`: return the state [M, ...], in memory of its own."""
  if plan.mesh is not None and multihost.several():
    return multihost.whole(plan.mesh, state)
  return jax.tree.map(jnp.copy, state)


def epoch(
  plan: Plan, state: Training, data: Data, indices: Any, keys: Key, hyper: Any
) -> tuple[Training, np.ndarray]:
  """Run one epoch of all members; return their states and losses [S, M]."""
  if plan.mesh is not None and multihost.several():
    put = functools.partial(multihost.place, plan.mesh)
    indices = put(indices, jax.P() if plan.same_order else jax.P(AXIS))
    keys, hyper = put((keys, hyper), jax.P(AXIS))
  steps = keys.shape[-1]
  size = steps if plan.loop == "scan" else 1
  losses = []
  for i in range(0, steps, size):
    part = indices[..., i : i + size, :], keys[..., i : i + size]
    state, loss = advance(plan, state, data, *part, hyper)
    losses.append(loss)
  found = multihost.whole(plan.mesh, jnp.concatenate(losses, -1))
  return state, np.asarray(found).T


def program(
  plan: Plan, stack: Stack, data: Data, hyper: Any, batch_size: int
) -> Any:
  """Return the jaxpr of the first step of one member."""

  def first(stack: Stack, data: Data, hyper: Any, key: Key) -> Any:
    rows = data if plan.shared_data else jax.tree.map(lambda x: x[0], data)
    batch = jax.tree.map(lambda x: x[:batch_size], rows)
    params, hyper = jax.tree.map(lambda x: x[0], (stack, hyper))
    return step(plan, begin(plan, params, hyper), batch, key, hyper)

  return jax.make_jaxpr(first)(stack, data, hyper, jax.random.key(0))
