"""How a population is trained: one member's step, and ways to run many.

The step of one member is written once; a strategy says how steps follow each
other and how members lie side by side.  Batches and noise are drawn from
(key, seed, epoch) before a strategy sees them, so all strategies train the same
members.

>>> Plan(max, None, None, ()).loop
'scan'
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import hypers, processes, trees
from weightspace.strategies import AXIS
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
  return Training(params, hypers.optimizer(plan.tx, hyper).init(params), folds)


@functools.partial(jax.jit, static_argnums=0)
def begin_all(plan: Plan, stack: Stack, hyper: dict[str, Any]) -> Training:
  """Return the state [M, ...] before the first step."""
  return jax.vmap(functools.partial(begin, plan))(stack, hyper)


def step(
  plan: Plan, state: Training, batch: Data, key: Key, hyper: dict[str, Any]
) -> tuple[Training, jax.Array]:
  """Take one step of one member; return its new state and its loss []."""
  if plan.prepare is not None:
    batch = plan.prepare(key, batch, **hypers.given(plan.prepare, hyper, 2))
  extra = hypers.given(plan.loss, hyper, 2)
  value, gradient = jax.value_and_grad(
    lambda params: jnp.mean(plan.loss(params, batch, **extra))
  )(state.params)
  updates, optimized = hypers.optimizer(plan.tx, hyper).update(
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
  """Take the steps that `indices` lists: of one member, or of all.

  Returns:
    The new state and the losses: [S], or [M, S] unless sequential.
  """

  def member(
    state: Training, data: Data, indices: Any, keys: Key, hyper: Any
  ) -> tuple[Training, jax.Array]:
    def body(state: Training, item: Any) -> tuple[Training, jax.Array]:
      batch = jax.tree.map(lambda x: x[item[0]], data)
      return step(plan, state, batch, item[1], hyper)

    # A step by itself must not become a loop: see `choose`.
    unroll = len(keys) if plan.loop == "step" else 1
    return jax.lax.scan(body, state, (indices, keys), unroll=unroll)

  if plan.members == "sequential":
    return member(state, data, indices, keys, hyper)
  axes = (0, *(None if x else 0 for x in (plan.shared_data, plan.same_order)))
  axes += (0, 0)
  run = jax.vmap(member, axes)
  if plan.members == "sharded":
    specs = tuple(jax.P() if a is None else jax.P(AXIS) for a in axes)
    layout = dict(mesh=plan.mesh, in_specs=specs, out_specs=jax.P(AXIS))
    run = jax.shard_map(run, **layout, check_vma=False)
  return run(state, data, indices, keys, hyper)


def spread(plan: Plan, state: Training) -> Any:
  """Lay a state [M, ...] out as the strategy wants it, in memory of its own.

  `advance` gives the memory of its input away, so nothing may be shared with
  the caller's arrays, nor between parts of the state.
  """
  if plan.members == "sequential":
    return [
      jax.tree.map(lambda x, m=m: jnp.copy(x[m]), state)
      for m in range(trees.size(state.params))
    ]
  state = jax.tree.map(jnp.copy, state)
  if plan.members == "sharded":
    state = processes.place(plan.mesh, state, jax.P(AXIS))
  return state


def place(plan: Plan, data: Data) -> Data:
  """Put the data where the members are."""
  if plan.members != "sharded":
    return data
  spec = jax.P() if plan.shared_data else jax.P(AXIS)
  return processes.place(plan.mesh, data, spec)


def joined(plan: Plan, states: Any) -> Training:
  """Return the state [M, ...], where it lies."""
  if plan.members == "sequential":
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  return states


def gather(plan: Plan, states: Any) -> Training:
  """Undo `spread`: return the state [M, ...], in memory of its own."""
  state = joined(plan, states)
  if plan.members == "sharded" and processes.several():
    return processes.whole(plan.mesh, state)
  return state if state is not states else jax.tree.map(jnp.copy, states)


def epoch(
  plan: Plan, states: Any, data: Data, indices: Any, keys: Key, hyper: Any
) -> tuple[Any, np.ndarray]:
  """Run one epoch of all members; return their states and losses [S, M]."""
  if plan.members != "sequential":
    given = indices, keys, hyper
    if plan.members == "sharded":
      given = _given(plan, *given)
    states, losses = _steps(plan, states, data, *given)
    return states, np.asarray(processes.whole(plan.mesh, losses)).T
  data_of = None if plan.shared_data else data
  own = keys, hyper, data_of, None if plan.same_order else indices
  results = []
  for state, (k, h, d, i) in zip(states, _members(len(states), own)):
    d = data if plan.shared_data else d
    i = indices if plan.same_order else i
    results.append(_steps(plan, state, d, i, k, h))
  states = [state for state, _ in results]
  return states, np.stack([loss for _, loss in results], axis=1)


def _given(plan: Plan, indices: Any, keys: Any, hyper: Any) -> Any:
  """Put what an epoch is given where the members are."""
  if not processes.several():
    return indices, keys, hyper
  put = functools.partial(processes.place, plan.mesh)
  orders = jax.P() if plan.same_order else jax.P(AXIS)
  return put(indices, orders), *put((keys, hyper), jax.P(AXIS))


@functools.partial(jax.jit, static_argnums=0)
def _members(count: int, tree: Any) -> list[Any]:
  return [jax.tree.map(lambda x, m=m: x[m], tree) for m in range(count)]


def _steps(
  plan: Plan, state: Training, data: Data, indices: Any, keys: Key, hyper: Any
) -> tuple[Training, jax.Array]:
  """Run the steps of one epoch, in one program or in one each."""
  if plan.loop == "scan":
    return advance(plan, state, data, indices, keys, hyper)
  losses = []
  for i in range(keys.shape[-1]):
    part = indices[..., i : i + 1, :], keys[..., i : i + 1]
    state, loss = advance(plan, state, data, *part, hyper)
    losses.append(loss)
  return state, jnp.concatenate(losses, -1)


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
