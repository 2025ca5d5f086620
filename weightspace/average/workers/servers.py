"""Replicas that meet at a server: FedAvg, FedAU, DiLoCo.

All start a round from one model phi and take steps of their own; the server
moves phi by an outer optimiser along the mean of what they did, D_i = theta_i -
phi.  The methods differ in the weights of the mean and in the optimiser.

>>> fedavg().topology is None
True
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace.average.workers import mixing, outer_steps
from weightspace.types import Key, Params, Stack, State

ABSENT = ("participating", "all")
KINDS = ("nesterov", "heavy_ball")
Topology = Callable[[Key, int, int], np.ndarray]  # (key, round, M) -> [M, M]


class Method(NamedTuple):
  """How replicas meet after a round of steps of their own.

  `update(state, params, anchor, present, talk) -> (state, params)` on the
  replicas [m, ...] of one device: `params` after the steps, `anchor` before
  them, `present` [m] flags.  `topology` gives the matrix of each round for
  `talk.mix`, None where only `talk.mean` is used.  `counted(counts)` gives the
  method that weighs replicas by their numbers of examples [M].
  """

  init: Callable[[Stack], State]
  update: Callable[..., tuple[State, Stack]]
  topology: Topology | None = None
  counted: Callable[[np.ndarray], Any] | None = None


class Intervals(NamedTuple):
  """What FedAU knows of each client, [m] each."""

  closed: jax.Array  # intervals between rounds with it
  mean: jax.Array  # their mean length
  missed: jax.Array  # rounds since the last


def fedavg(
  learning_rate: float = 1.0,
  weights: Sequence[float] | None = None,
  absent: str = "participating",
  outer: Any = None,
) -> Method:
  """Return FedAvg, phi <- phi + eta sum_n w_n D_n / sum_n w_n.

  Args:
    learning_rate: eta of the server, where there is no `outer`.
    weights: [M] counts of examples; by default those that `replicate` knows of
      data of unequal size, else equal.
    absent: divide by the weights of those "participating", or of "all" (the
      absent count as zero change).
    outer: an optax transformation for the server; it is given -D as gradient.

  Returns:
    Method.

  Raises:
    ValueError: for another `absent`, a learning rate that is not above 0, or
      weights below zero or all zero.

  >>> fedavg(weights=[1.0, 3.0]).init({"w": jnp.zeros((2, 1))})[0].tolist()
  [0.5, 1.5]

  McMahan et al. 2017, https://arxiv.org/abs/1602.05629; with an outer
  optimiser, Reddi et al. 2021, https://arxiv.org/abs/2003.00295; both ways of
  counting the absent are in the code of FedAU.
  """
  if absent not in ABSENT:
    raise ValueError(f"fedavg: absent is {absent!r}, expected {ABSENT}")
  outer_steps.check("fedavg", learning_rate)
  shares = None if weights is None else np.asarray(weights, np.float32)
  if shares is not None and not (
    shares.ndim == 1
    and np.isfinite(shares).all()
    and (shares >= 0).all()
    and shares.sum() > 0
  ):
    raise ValueError(f"fedavg: weights {weights}, expected [M] of sum above 0")

  def init(anchor: Stack) -> jax.Array:
    count = len(jax.tree.leaves(anchor)[0])
    if shares is None:
      return jnp.ones(count)
    if len(shares) != count:
      raise ValueError(f"fedavg: {len(shares)} weights for {count} replicas")
    return jnp.asarray(shares / shares.mean())

  def weigh(own: jax.Array, present: jax.Array) -> Any:
    weight = own * present
    return own, weight, weight if absent == "participating" else own

  method = _server(init, weigh, outer or optax.sgd(learning_rate))
  if weights is not None:
    return method

  def counted(counts: np.ndarray) -> Method:
    return fedavg(learning_rate, counts.tolist(), absent, outer)

  return method._replace(counted=counted)


def fedau(
  learning_rate: float = 1.0, cutoff: int | None = 50, outer: Any = None
) -> Method:
  """Return FedAU: FedAvg that weighs a client by how seldom it takes part.

  phi <- phi + eta (1/M) sum_n w_n D_n over those present, with w_n the mean
  length of the client's intervals between participations so far, 1 before the
  first: an estimate of 1 / p_n that needs no knowledge of p_n.  An interval
  that reaches `cutoff` is closed there.

  Args:
    learning_rate: eta.
    cutoff: K, or None for no cut-off.
    outer: as in `fedavg`.

  Returns:
    Method.

  Raises:
    ValueError: for a cut-off below 1, or a learning rate that is not above 0.

  >>> method = fedau(cutoff=2)
  >>> state = method.init({"w": jnp.zeros((1, 1))})
  >>> state[0].mean.tolist()
  [1.0]

  Wang and Ji 2024, "A lightweight method for tackling unknown participation
  statistics in federated averaging", https://arxiv.org/abs/2306.03401; the
  order of events (weight first, then the new interval) is from its code.
  """
  if cutoff is not None and cutoff < 1:
    raise ValueError(f"fedau: cutoff is {cutoff}, expected at least 1")
  outer_steps.check("fedau", learning_rate)
  most = np.inf if cutoff is None else float(cutoff)

  def init(anchor: Stack) -> Intervals:
    count = len(jax.tree.leaves(anchor)[0])
    return Intervals(jnp.zeros(count), jnp.ones(count), jnp.zeros(count))

  def weigh(known: Intervals, present: jax.Array) -> Any:
    length = known.missed + 1.0
    over = (present > 0) | (length >= most)
    closed = known.closed + over
    step = (length - known.mean) / jnp.maximum(closed, 1.0)
    mean = known.mean + jnp.where(over, step, 0.0)
    missed = jnp.where(over, 0.0, length)
    after = Intervals(closed, mean, missed)
    return after, known.mean * present, jnp.ones_like(present)

  return _server(init, weigh, outer or optax.sgd(learning_rate))


def diloco(
  learning_rate: float = 0.7,
  momentum: float = 0.9,
  kind: str = "nesterov",
  outer: Any = None,
) -> Method:
  """Return DiLoCo: the mean change as gradient of an outer optimiser.

  g = mean_i (phi - theta_i); v <- mu v + g; phi <- phi - eta (g + mu v) for
  "nesterov", phi - eta v for "heavy_ball".

  Args:
    learning_rate: eta.
    momentum: mu.
    kind: "nesterov", as in the paper, or "heavy_ball", as in the code that was
      released with NoLoCo (there with mu = 0.3).
    outer: an optax transformation in their place.

  Returns:
    Method.

  Raises:
    ValueError: for another kind, a learning rate that is not above 0, or a
      momentum outside [0, 1).

  >>> diloco(kind="heavy_ball", momentum=0.3).topology is None
  True

  Douillard et al. 2023, "DiLoCo: distributed low-communication training of
  language models", https://arxiv.org/abs/2311.08105, algorithm 1; the form of
  Nesterov's buffer is that of optax and torch.
  """
  if kind not in KINDS:
    raise ValueError(f"diloco: kind is {kind!r}, expected {KINDS}")
  outer_steps.check("diloco", learning_rate, momentum)
  nesterov = kind == "nesterov"
  chosen = outer or optax.sgd(learning_rate, momentum, nesterov=nesterov)
  return fedavg(outer=chosen)


def where(flags: jax.Array, a: Any, b: Any) -> Any:
  """Choose between two trees [m, ...], replica by replica."""
  return jax.tree.map(
    lambda x, y: jnp.where(flags.reshape((-1,) + (1,) * (x.ndim - 1)), x, y),
    a,
    b,
  )


def _server(
  init: Callable[[Stack], State],
  weigh: Callable[[State, jax.Array], Any],
  tx: Any,
) -> Method:
  """Return the method of a weighted mean and an outer optimiser.

  `weigh(known, present)` gives what is known next, the weights [m], and those
  that they are divided by.
  """

  def begin(anchor: Stack) -> State:
    return init(anchor), outer_steps.begin(tx, anchor)

  def update(
    state: State,
    params: Stack,
    anchor: Stack,
    present: jax.Array,
    talk: mixing.Talk,
  ) -> tuple[State, Params]:
    flags = present.astype(jnp.float32)
    known, weight, whole = weigh(state[0], flags)
    change = jax.tree.map(
      lambda x, y: mixing.column(weight, x) * (x - y),
      outer_steps.wide(params),
      outer_steps.wide(anchor),
    )
    # One exchange: a mean of changes, and of the weights.
    change, mass, some = talk.mean((change, whole, flags))
    gradient = jax.tree.map(
      lambda d, x: jnp.broadcast_to(
        -d / jnp.where(mass > 0, mass, 1.0), x.shape
      ),
      jax.tree.map(lambda d: d[None], change),
      anchor,
    )
    outer, moved = outer_steps.take(tx, gradient, state[1], anchor)
    met = jnp.broadcast_to(some > 0, present.shape)  # else nothing happens
    return (known, where(met, outer, state[1])), where(met, moved, anchor)

  return Method(begin, update)
