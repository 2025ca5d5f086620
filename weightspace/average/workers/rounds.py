"""One round of replicas, compiled: steps of their own, then a meeting.

The same function runs all replicas under `vmap` on one device, and those of
each device under `shard_map`; only how they meet differs (`mixing.Talk`).

>>> Plan._fields[:3]
('loss', 'tx', 'method')
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace import trees
from weightspace.average.workers import mixing, servers
from weightspace.hosts import multihost
from weightspace.jaxpr import convolutions
from weightspace.train import placement
from weightspace.train import steps as population
from weightspace.train.placement import AXIS
from weightspace.types import Data, Key, Loss, Params, Stack


class Plan(NamedTuple):
  """What is fixed while a round is compiled; hashable."""

  loss: Loss
  tx: Any
  method: servers.Method
  steps: int
  batch_size: int
  names: tuple[str, ...]  # paths of all leaves
  structure: Any  # of the model
  chosen: tuple[str, ...]  # paths of the leaves that are trained
  shared_data: bool
  mesh: Any = None
  routes: mixing.Routes | None = None
  counted: bool = False  # data come with the number of examples of each


class Carry(NamedTuple):
  """What goes from round to round, [M, ...] each."""

  trained: dict[str, jax.Array]  # by path
  inner: Any
  outer: Any


def trained(plan: Plan, stack: Stack) -> dict[str, jax.Array]:
  """Return the leaves that are trained, by path."""
  leaves = trees.named(stack)
  return {path: leaves[path] for path in plan.chosen}


def begin(
  plan: Plan, stack: Stack, data: Data
) -> tuple[Carry, dict[str, jax.Array], Data]:
  """Return the state before the first round, the frozen leaves, the data.

  All are in memory of their own, laid out on the mesh where there is one.
  """
  leaves = trees.named(stack)
  begun = jax.tree.map(jnp.copy, trained(plan, stack))
  frozen = {p: x for p, x in leaves.items() if p not in plan.chosen}
  inner = jax.vmap(plan.tx.init)(begun)
  outer = jax.tree.map(jnp.copy, plan.method.init(begun))
  carry = Carry(begun, inner, outer)
  spec = jax.P() if plan.shared_data else jax.P(AXIS)
  return (
    _place(plan, carry, jax.P(AXIS)),
    _place(plan, frozen, jax.P(AXIS)),
    _place(plan, data, spec),
  )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance(
  plan: Plan,
  carry: Carry,
  frozen: dict[str, jax.Array],
  data: Data,
  words: jax.Array,
  present: jax.Array,
  share: jax.Array,
  matrix: jax.Array,
) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
  """Run one round; return the carry, the losses [M, H] and who is fine [M]."""
  limit = jnp.round(share * plan.steps).astype(jnp.int32)
  run = functools.partial(_round, plan)
  args = (carry, frozen, data, words, present, limit, matrix)
  if plan.mesh is None:
    return run(*args)
  own, same = jax.P(AXIS), jax.P()
  rows = same if plan.shared_data else own
  specs = (own, own, rows, same, same, same, same)
  layout = dict(mesh=plan.mesh, in_specs=specs, out_specs=own)
  return jax.shard_map(run, **layout, check_vma=False)(*args)


def _round(
  plan: Plan,
  carry: Carry,
  frozen: dict[str, jax.Array],
  data: Data,
  words: jax.Array,
  present: jax.Array,
  limit: jax.Array,
  matrix: jax.Array,
) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
  """Steps of the replicas here, then their meeting."""
  key = jax.random.wrap_key_data(words)
  replicas = jnp.arange(len(present))
  if plan.mesh is not None:
    count = len(jax.tree.leaves(carry.trained)[0])
    start = jax.lax.axis_index(AXIS) * count
    replicas = start + jnp.arange(count)
  present, limit = present[replicas], limit[replicas]
  limit = jnp.where(present, limit, 0)
  keys = jax.vmap(lambda replica: jax.random.fold_in(key, replica))(replicas)
  anchor = carry.trained
  given = anchor, carry.inner, frozen, data, keys, limit
  trained, inner, losses = _apart(plan, *given)
  fine = jnp.ones(len(present), bool)
  for x in jax.tree.leaves(trained):
    if trees.inexact(x):
      fine &= jnp.isfinite(x).all(tuple(range(1, x.ndim)))
  trained = servers.where(fine, trained, anchor)
  inner = servers.where(fine, inner, carry.inner)
  talk = mixing.on_device(matrix)
  if plan.mesh is not None:
    talk = mixing.on_mesh(plan.routes or mixing.Routes((), (), True))
  here = present & fine
  outer, trained = plan.method.update(
    carry.outer, trained, anchor, here.astype(jnp.float32), talk
  )
  return Carry(trained, inner, outer), (losses, fine)


def _apart(plan: Plan, *given: Any) -> tuple[Any, Any, jax.Array]:
  """Take the steps of all replicas here: `_steps` with a leading axis."""
  steps = functools.partial(_steps, plan)
  own = (True, True, True, not plan.shared_data, True, True)
  first = [
    jax.tree.map(lambda x: x[0], a) if o else a for a, o in zip(given, own)
  ]
  layout = placement.choose_small(convolutions.convolves(steps, *first))
  return population.LAYOUTS[layout](steps, own)(*given)


def _steps(
  plan: Plan,
  trained: dict[str, jax.Array],
  inner: Any,
  frozen: dict[str, jax.Array],
  data: Data,
  key: Key,
  limit: jax.Array,
) -> tuple[Any, Any, jax.Array]:
  """Take `limit` of H steps of one replica; return the losses [H]."""
  data, examples = data if plan.counted else (data, None)
  if examples is None:
    examples = len(jax.tree.leaves(data)[0])
  tx = optax.with_extra_args_support(plan.tx)

  @convolutions.canonical
  @jax.value_and_grad
  def slope(trained: Any, batch: Data) -> jax.Array:
    return jnp.mean(plan.loss(_model(plan, trained, frozen), batch))

  def body(carry: Any, step: jax.Array) -> Any:
    trained, inner = carry
    drawn = jax.random.fold_in(key, step)
    index = jax.random.randint(drawn, (plan.batch_size,), 0, examples)
    batch = jax.tree.map(lambda x: x[index], data)
    value, gradient = slope(trained, batch)
    updates, after = tx.update(gradient, inner, trained, value=value)
    moved = optax.apply_updates(trained, updates), after
    due = step < limit
    carry = jax.tree.map(lambda a, b: jnp.where(due, a, b), moved, carry)
    return carry, jnp.where(due, value, jnp.nan)

  start = trained, inner
  (trained, inner), losses = jax.lax.scan(body, start, jnp.arange(plan.steps))
  return trained, inner, losses


def whole(plan: Plan, tree: Any) -> Any:
  """Return arrays of the mesh with all replicas in every process."""
  if plan.mesh is None:
    return tree
  same = jax.NamedSharding(plan.mesh, jax.P())
  return jax.jit(lambda x: x, out_shardings=same)(tree)


def _model(plan: Plan, trained: Any, frozen: Any) -> Params:
  """Put a model together from its leaves by path."""
  leaves = [trained[n] if n in plan.chosen else frozen[n] for n in plan.names]
  return jax.tree.unflatten(plan.structure, leaves)


def _place(plan: Plan, tree: Any, spec: Any) -> Any:
  """Lay arrays out on the mesh, those of other processes too."""
  return tree if plan.mesh is None else multihost.place(plan.mesh, tree, spec)
