"""Replicas that meet a few others: NoLoCo, gossip with its correction.

There is no server and no mean of all: each round's matrix says who meets whom,
and every replica keeps a model of its own.

>>> noloco().topology(jax.random.key(0), 0, 4).sum(1).tolist()
[1.0, 1.0, 1.0, 1.0]
"""

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from weightspace.average.workers import matrices, mixing, outer_steps, servers
from weightspace.average.workers.servers import Method, Topology
from weightspace.types import Key, Stack, State


def noloco(
  learning_rate: float = 0.7,
  momentum: float = 0.5,
  consensus: float | None = None,
  group: int = 2,
  outer: Any = None,
) -> Method:
  """Return NoLoCo: an outer step that pulls small random groups together.

  d_i <- a d_i + b mean_G(D_j) - c (phi_i - mean_G phi_j); phi_i <- phi_i + d_i,
  with D_j = theta_j - phi_j and G the group of replica i in this round.  Among
  all at once and from one start the last term is zero: DiLoCo with heavy ball.

  Args:
    learning_rate: b.
    momentum: a, of a heavy ball, as printed.
    consensus: c; b by default, as in the code.  Outside of the paper's interval
      (its equation 74) a warning says so: it is neither necessary nor
      sufficient.
    group: replicas in a group, 2 in the paper.
    outer: an optax transformation for the two terms in their place; it is given
      their negative over b.

  Returns:
    Method.

  Raises:
    ValueError: for a group below 2, a learning rate that is not above 0, or a
      momentum outside [0, 1).

  >>> noloco(0.7, 0.5).topology(jax.random.key(0), 0, 2).tolist()
  [[0.5, 0.5], [0.5, 0.5]]

  "NoLoCo: No-all-reduce low communication training method for large models",
  2025, https://arxiv.org/abs/2506.10911, section 3.2.  The sign before b is
  that of its appendix and code, with which it descends.
  """
  if group < 2:
    raise ValueError(f"noloco: group is {group}, expected at least 2")
  outer_steps.check("noloco", learning_rate, momentum)
  pull = learning_rate if consensus is None else consensus
  _check_pull(pull, momentum, group)
  tx = outer or optax.sgd(learning_rate, momentum)

  def update(
    state: State,
    params: Stack,
    anchor: Stack,
    present: jax.Array,
    talk: mixing.Talk,
  ) -> tuple[State, Stack]:
    begun = outer_steps.wide(anchor)
    change = jax.tree.map(jnp.subtract, outer_steps.wide(params), begun)
    near, middle = talk.mix((change, begun), present)
    gradient = jax.tree.map(
      lambda d, x, m: (pull / learning_rate) * (x - m) - d,
      near,
      begun,
      middle,
    )
    after, moved = outer_steps.take(tx, gradient, state, anchor)
    here = present > 0
    return servers.where(here, after, state), servers.where(here, moved, anchor)

  def topology(key: Key, turn: int, count: int) -> np.ndarray:
    return matrices.groups(key, turn, count, min(group, count))

  def init(anchor: Stack) -> State:
    return outer_steps.begin(tx, anchor)

  return Method(init, update, topology)


def gossip(
  matrix: npt.ArrayLike | None = None,
  group: int = 2,
  correct_variance: bool = True,
) -> Method:
  """Return gossip averaging, theta_i <- sum_j W_ij theta_j, with its variance.

  Averaging unrelated networks shrinks the variance of their weights.  The
  correction scales each leaf around its own mean so that its variance is sum_j
  W_ij var(theta_j): m + (x - m) sqrt(v / var(x)).

  Args:
    matrix: W [M, M], doubly stochastic, for all rounds; None for random groups.
    group: replicas in a random group.
    correct_variance: of leaves with two axes or more, where there is variance.

  Returns:
    Method.

  Raises:
    ValueError: for a matrix that is not doubly stochastic.

  >>> gossip(matrices.ring(4)).topology(jax.random.key(0), 5, 4)[0, 2].item()
  0.0

  "Vanishing variance problem in fully decentralized neural-network systems",
  2024, https://arxiv.org/abs/2404.04616: the correction; which leaves and how a
  node mixes in what it gets are ours.
  """
  if matrix is not None:
    matrices.check(matrix, "doubly", "gossip")

  def update(
    state: State,
    params: Stack,
    anchor: Stack,
    present: jax.Array,
    talk: mixing.Talk,
  ) -> tuple[State, Stack]:
    if not correct_variance:
      return state, _like(talk.mix(params, present), params)
    mixed, before = talk.mix((params, _variances(params)), present)

    scaled = jax.tree.map(_scaled, mixed, before, _variances(mixed))
    return state, _like(scaled, params)

  def topology(key: Key, turn: int, count: int) -> np.ndarray:
    if matrix is None:
      return matrices.groups(key, turn, count, min(group, count))
    if len(np.asarray(matrix)) != count:
      shape = np.shape(matrix)
      raise ValueError(f"gossip: matrix of shape {shape} for {count} replicas")
    return np.asarray(matrix, np.float64)

  chosen: Topology = topology
  return Method(_nothing, update, chosen)


def alone() -> Method:
  """Return the method of replicas that never meet: the control.

  >>> alone().topology is None
  True
  """

  def update(
    state: State, params: Stack, anchor: Stack, present: Any, talk: Any
  ) -> tuple[State, Stack]:
    return state, params

  return Method(_nothing, update)


def _variances(tree: Stack) -> Any:
  """Return the variance of each leaf of each replica, [m]."""
  return jax.tree.map(
    lambda x: x.astype(jnp.float32).var(axis=tuple(range(1, x.ndim))), tree
  )


def _scaled(x: jax.Array, wanted: jax.Array, now: jax.Array) -> jax.Array:
  """Give matrices [m, ...] the variances [m] that are wanted."""
  if x.ndim < 3:
    return x
  centre = x.mean(tuple(range(1, x.ndim)), keepdims=True)
  ratio = jnp.where(now > 0, wanted / jnp.where(now > 0, now, 1.0), 1.0)
  return centre + (x - centre) * mixing.column(jnp.sqrt(ratio), x)


def _nothing(anchor: Stack) -> State:
  return ()


def _like(tree: Stack, params: Stack) -> Stack:
  return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, params)


def _check_pull(pull: float, momentum: float, group: int) -> None:
  scale = group / (2 * (group - 1))
  low = math.sqrt(scale) * momentum
  high = math.sqrt(scale * (2 + momentum**2))
  if not low < pull < high:
    warnings.warn(
      f"noloco: consensus is {pull:g}, outside of the paper's interval"
      f" ({low:.2g}, {high:.2g}): replicas may drift apart",
      stacklevel=3,
    )
