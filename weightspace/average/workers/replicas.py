"""Training by replicas that mix now and then: one interface for all methods.

Replicas are a Stack.  In a round each takes steps of its own, then a `Method`
lets them meet.  On one device they lie side by side under `vmap`; on a mesh
with an axis `population` they are sharded and meet by collectives, also where
the devices belong to several processes.  Batches and schedules follow from the
key alone, so all ways train the same replicas.

>>> import optax
>>> def loss(params, batch): return 0.5 * (params["w"] - batch) ** 2
>>> data = jnp.array([[0.0], [4.0]])  # replica 0 wants 0, replica 1 wants 4
>>> trained = replicate(
...   loss, {"w": jnp.ones(2)}, optax.sgd(0.5), data, servers.fedavg(),
...   key=jax.random.key(0), rounds=20, steps=2, batch_size=1)
>>> trained.params["w"].round(3).tolist()
[2.0, 2.0]
"""

import fnmatch
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.average.in_time import schedules
from weightspace.average.workers import matrices, mixing, servers, traffic
from weightspace.average.workers import rounds as compiled
from weightspace.jaxpr import closures
from weightspace.train.placement import AXIS
from weightspace.types import Data, Key, Loss, Stack


class Replicated(NamedTuple):
  """What training by replicas returns."""

  params: Stack  # [M, ...]
  losses: np.ndarray  # [R, H, M] before each step; NaN where none was taken
  sent: np.ndarray  # [R] bytes that all replicas together sent
  lost: list[tuple[int, int]]  # (round, replica) that were not finite


def replicate(
  loss: Loss,
  stack: Stack,
  tx: Any,
  data: Data,
  method: servers.Method,
  *,
  key: Key,
  rounds: int,
  steps: int,
  batch_size: int,
  schedule: schedules.Schedule | None = None,
  only: str | Sequence[str] | None = None,
  shared_data: bool = False,
  counts: Sequence[int] | None = None,
  mesh: Any = None,
  on_round: Callable[[int, Stack], None] | None = None,
) -> Replicated:
  """Train M replicas that meet after each round.

  A replica that is not finite after its steps counts as absent: it goes on from
  where the round began, and the others never see it.  The first time it is
  named in a warning; `lost` has them all.

  Args:
    loss: `loss(params, batch)`, [] or [B]; the mean is minimised.
    stack: leaves [M, ...]; methods with a server want equal starts.
    tx: the inner optax transformation; its state stays with the replica.
    data: arrays [M, N, ...], or [N, ...] with `shared_data`; or a list of M
      trees of arrays [N_m, ...], of replicas that have unequal numbers of
      examples.
    method: `diloco()`, `noloco()`, `fedavg()`, `fedau()`, `gossip()`,
      `alone()`, or your own `Method`.
    key: of the batches and of the random groups.
    rounds: R, how often replicas meet.
    steps: H, of each replica in a round.
    batch_size: B examples, drawn with replacement.
    schedule: who takes part, and how far; everyone in full by default.
    only: patterns of the paths that are trained and sent, as `head/*`; all
      other leaves stay as they are (FedPEFT).
    shared_data: whether all replicas draw from the same data.
    counts: [M] examples that each replica has of padded arrays [M, N, ...]; it
      draws from these alone.  `fedavg()` weighs replicas by them.
    mesh: with an axis `population` that divides M; its devices may belong to
      several processes, each of which passes the same arguments.
    on_round: called with the number of rounds done and the replicas.

  Returns:
    Replicated.  An all-reduce counts its operand once for each replica, a
    message between two counts once.

  Raises:
    ValueError: for bad input, before work: sizes, a schedule of another shape,
      a pattern that matches no path, NaN in a start, a mesh that does not fit,
      or a matrix that is not doubly stochastic.

  >>> import optax
  >>> def loss(params, batch): return 0.5 * (params["w"] - batch) ** 2
  >>> trained = replicate(
  ...   loss, {"w": jnp.zeros(2)}, optax.sgd(1.0), jnp.ones((1, 1)),
  ...   servers.diloco(1.0, 0.0), key=jax.random.key(0), rounds=1, steps=1,
  ...   batch_size=1, shared_data=True)
  >>> trained.params["w"].tolist(), int(trained.sent[0])  # 2 x (1 + 2 floats)
  ([1.0, 1.0], 24)

  FedAvg https://arxiv.org/abs/1602.05629, DiLoCo
  https://arxiv.org/abs/2311.08105, NoLoCo https://arxiv.org/abs/2506.10911,
  FedPEFT https://arxiv.org/abs/2210.01708.
  """
  count = trees.size(stack)
  data, sizes = _sizes(data, counts, count, shared_data)
  schedule = schedule or schedules.everyone(rounds, count)
  _check(stack, data, schedule, (rounds, steps, batch_size), shared_data, mesh)
  stack, data = jax.tree.map(jnp.asarray, (stack, data))
  if sizes is not None:
    data = data, jnp.asarray(sizes, jnp.int32)
    weighed = method.counted and method.counted(sizes)
    method = weighed or method
  paths = tuple(trees.names(stack)), jax.tree.structure(stack)
  settings = (steps, batch_size, *paths, _chosen(stack, only), shared_data)
  plan = compiled.Plan(closures.fixed(loss), tx, method, *settings, mesh)
  plan = plan._replace(counted=sizes is not None)
  volume = traffic.volume(method, compiled.trained(plan, stack))
  carry, frozen, data = compiled.begin(plan, stack, data)
  losses, sent = [], []
  lost: list[tuple[int, int]] = []
  for turn in range(rounds):
    matrix = topology(method, key, turn, count)
    if mesh is not None and matrix is not None:
      plan = plan._replace(routes=mixing.plan(matrix))
    taking = schedule.present[turn], schedule.share[turn]
    words = np.asarray(jax.random.key_data(jax.random.fold_in(key, turn)))
    table = np.eye(count) if matrix is None else matrix
    given = (words, *taking, np.float32(table))
    carry, found = compiled.advance(plan, carry, frozen, data, *given)
    values, fine = (np.asarray(x) for x in compiled.whole(plan, found))
    lost += _lost(np.flatnonzero(taking[0] & ~fine), turn, lost)
    losses.append(values.T)
    sent.append(traffic.sent(volume, taking[0] & fine, table))
    if on_round is not None:
      on_round(turn + 1, _joined(plan, stack, carry))
  params = _joined(plan, stack, carry)
  return Replicated(params, np.stack(losses), np.array(sent), lost)


def _sizes(
  data: Data, counts: Sequence[int] | None, count: int, shared: bool
) -> tuple[Data, np.ndarray | None]:
  """Return data padded to one size, and how many examples each replica has."""
  listed = isinstance(data, list) and len(data) == count and not shared
  if listed and counts is None:
    return _padded(data)
  if counts is None:
    return data, None
  sizes = np.asarray(counts)
  shortest = min((np.shape(x)[1] for x in jax.tree.leaves(data)), default=0)
  fits = sizes.shape == (count,) and sizes.dtype.kind in "iu" and not shared
  bad = np.flatnonzero((sizes < 1) | (sizes > shortest)) if fits else [0]
  if len(bad):
    raise ValueError(
      f"counts: {sizes.tolist()}, expected {count} whole numbers from 1 to"
      f" {shortest}, of data [M, N, ...]"
    )
  return data, sizes


def _padded(clients: list[Data]) -> tuple[Data, np.ndarray]:
  """Return the data of clients [M, N, ...] of the largest, and their counts."""
  for index, client in enumerate(clients):
    first, own = (
      jax.tree.map(lambda x: np.zeros((0, *np.shape(x)[1:])), tree)
      for tree in (clients[0], client)
    )
    trees.check_same(first, own, f"data: client {index}")
  sizes = [{np.shape(x)[:1] for x in jax.tree.leaves(c)} for c in clients]
  for index, lengths in enumerate(sizes):
    if len(lengths) != 1 or lengths & {(), (0,)}:
      raise ValueError(
        f"data: client {index} has leading axes {sorted(lengths)}, expected one"
        " number of examples, at least 1"
      )
  counts = np.array([next(iter(lengths))[0] for lengths in sizes])

  def join(*leaves: Any) -> np.ndarray:
    arrays = [np.asarray(x) for x in leaves]
    whole = np.zeros((len(arrays), counts.max(), *arrays[0].shape[1:]))
    whole = whole.astype(arrays[0].dtype)
    for row, array in zip(whole, arrays):
      row[: len(array)] = array
    return whole

  return jax.tree.map(join, *clients), counts


def topology(
  method: servers.Method, key: Key, turn: int, count: int
) -> np.ndarray | None:
  """Return the matrix of a round, checked to be doubly stochastic."""
  if method.topology is None:
    return None
  matrix = np.asarray(method.topology(key, turn, count))
  matrices.check(matrix, "doubly", f"round {turn}")
  return matrix


def _lost(
  missing: np.ndarray, turn: int, before: list[tuple[int, int]]
) -> list[tuple[int, int]]:
  """Return (round, replica) of those not finite; warn of each once."""
  known = {replica for _, replica in before}
  for replica in set(missing.tolist()) - known:
    warnings.warn(
      f"replica {replica} is not finite after round {turn}: left out of it",
      stacklevel=3,
    )
  return [(turn, replica) for replica in missing.tolist()]


def _joined(plan: compiled.Plan, stack: Stack, carry: compiled.Carry) -> Stack:
  """Return the replicas, in memory of their own."""
  now = jax.tree.map(jnp.copy, compiled.whole(plan, carry.trained))
  leaves = trees.named(stack) | now
  return jax.tree.unflatten(plan.structure, [leaves[n] for n in plan.names])


def _chosen(stack: Stack, only: str | Sequence[str] | None) -> tuple[str, ...]:
  """Return the paths that are trained, refusing patterns without any."""
  floats = [p for p, x in trees.named(stack).items() if trees.inexact(x)]
  if only is None:
    return tuple(floats)
  patterns = [only] if isinstance(only, str) else list(only)
  for pattern in patterns:
    if not any(fnmatch.fnmatch(path, pattern) for path in floats):
      raise ValueError(
        f"only: {pattern!r} matches no path of {', '.join(floats)}"
      )
  return tuple(
    path for path in floats if any(fnmatch.fnmatch(path, p) for p in patterns)
  )


def _check(
  stack: Stack,
  data: Data,
  schedule: schedules.Schedule,
  sizes: tuple[int, int, int],
  shared_data: bool,
  mesh: Any,
) -> None:
  """Refuse what does not fit together."""
  count = trees.size(stack)
  for name, size in zip(("rounds", "steps", "batch_size"), sizes):
    if size < 1:
      raise ValueError(f"replicate: {name} is {size}, expected at least 1")
  if np.shape(schedule.present) != (sizes[0], count):
    raise ValueError(
      f"replicate: a schedule of shape {np.shape(schedule.present)}, expected"
      f" ({sizes[0]}, {count}): rounds and replicas"
    )
  trees.check_finite(stack, "replicate", stacked=True)
  lead = () if shared_data else (count,)
  for path, x in trees.named(data).items():
    shape = np.shape(x)
    if len(shape) <= len(lead) or shape[: len(lead)] != lead or 0 in shape:
      want = f"[{', '.join(map(str, (*lead, 'N')))}, ...]"
      raise ValueError(f"data: {path!r} has shape {shape}, expected {want}")
  if mesh is not None and (
    AXIS not in mesh.axis_names or count % mesh.shape[AXIS]
  ):
    raise ValueError(
      f"mesh: {dict(mesh.shape)}, expected an axis {AXIS!r} that divides"
      f" {count} replicas"
    )
