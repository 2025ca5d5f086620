"""Experts weights averaging: a mixture while training, one layer afterwards.

A feed-forward layer becomes N experts of its shape.  There is no router: each
step deals the tokens out to them at random, and after each step every expert
gives up a share of itself for the mean of the others.  At the end their average
is an ordinary layer again.

>>> experts = {"w": jnp.array([0.0, 4.0])}
>>> pull(experts, 0.25)["w"].tolist()
[1.0, 3.0]
"""

import fnmatch
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace import means, trees
from weightspace.types import Apply, Key, Params, Stack

Rate = float | jax.Array | Callable[[jax.Array], jax.Array]


class Shared(NamedTuple):
  """The state of `sharing_experts`."""

  inner: Any
  steps: jax.Array  # [] int32, so far


def deal(key: Key, apply: Apply, experts: Stack, x: jax.Array) -> jax.Array:
  """Let each expert map an equal share of the tokens, dealt out at random.

  Args:
    key: of the deal.
    apply: apply(params, tokens) -> outputs, token by token.
    experts: leaves [N, ...].
    x: [T, D] tokens; N divides T.

  Returns:
    [T, D'], in the order of x.

  Raises:
    ValueError: when N does not divide T.

  >>> experts = {"w": jnp.array([1.0, -1.0])}
  >>> x = jnp.ones((4, 1))
  >>> y = deal(jax.random.key(0), lambda p, x: p["w"] * x, experts, x)
  >>> sorted(y.ravel().tolist())
  [-1.0, -1.0, 1.0, 1.0]

  "Experts weights averaging", 2023, https://arxiv.org/abs/2308.06093: random
  uniform partition of the tokens.
  """
  count = trees.size(experts)
  if len(x) % count:
    raise ValueError(
      f"deal: {len(x)} tokens for {count} experts, expected equal shares"
    )
  order = jax.random.permutation(key, len(x))
  dealt = x[order].reshape(count, -1, *x.shape[1:])
  mapped = jax.vmap(apply)(experts, dealt)
  mapped = mapped.reshape(-1, *mapped.shape[2:])
  return jnp.zeros_like(mapped).at[order].set(mapped)


def pull(experts: Stack, rate: float | jax.Array) -> Stack:
  """Pull experts together: W_i <- (1 - b) W_i + b mean_{j != i} W_j.

  The mean stays; distances to it shrink by 1 - b N / (N - 1).  b = (N - 1) / N
  makes all equal; one expert stays as it is.

  Args:
    experts: leaves [N, ...].
    rate: b.

  Returns:
    Stack; the same as `mix(experts, sharing(N, rate))`, for a traced b too.

  Raises:
    ValueError: for a rate outside [0, 1].

  >>> pull({"w": jnp.array([0.0, 4.0])}, 0.5)["w"].tolist()
  [2.0, 2.0]

  https://arxiv.org/abs/2308.06093; the form of the share is ours.
  """
  if trees.concrete(rate) and not 0.0 <= rate <= 1.0:
    raise ValueError(f"pull: rate is {rate}, expected 0 to 1")
  count = trees.size(experts)

  def leaf(x: jax.Array) -> jax.Array:
    if count == 1 or not trees.inexact(x):
      return x
    mean = means.contract(x, jnp.full(count, 1 / count, jnp.float32))[None]
    return (x + rate * count / (count - 1) * (mean - x)).astype(x.dtype)

  return jax.tree.map(leaf, experts)


def sharing_experts(tx: Any, pattern: str, rate: Rate) -> Any:
  """Wrap an optax transformation so that experts are pulled after each step.

  Args:
    tx: the transformation.
    pattern: of the paths of expert leaves [N, ...], as in `block_*/experts/*`.
    rate: b, or a function of the number of steps before this one (the paper
      raises it linearly; its schedule was not available to us).

  Returns:
    An optax transformation; its update needs the parameters.

  Raises:
    ValueError: from `init`, for a pattern that matches nothing.

  >>> tx = sharing_experts(optax.sgd(1.0), "w", 0.5)
  >>> params = {"w": jnp.array([1.0, 3.0])}
  >>> updates, _ = tx.update({"w": jnp.zeros(2)}, tx.init(params), params)
  >>> updates["w"].tolist()
  [1.0, -1.0]

  https://arxiv.org/abs/2308.06093.
  """
  inner = optax.with_extra_args_support(tx)

  def init(params: Params) -> Shared:
    _check_pattern(params, pattern, "sharing_experts")
    return Shared(inner.init(params), jnp.zeros((), jnp.int32))

  def update(
    updates: Params, state: Shared, params: Any = None, **extra: Any
  ) -> tuple[Params, Shared]:
    if params is None:
      raise ValueError("sharing_experts: params is None, expected them")
    updates, after = inner.update(updates, state.inner, params, **extra)
    now = rate(state.steps) if callable(rate) else rate

    def leaf(path: str, update: jax.Array, x: jax.Array) -> jax.Array:
      if not fnmatch.fnmatch(path, pattern):
        return update
      return pull(x + update, now) - x

    return (
      trees.map_named(leaf, updates, params),
      Shared(after, state.steps + 1),
    )

  return optax.GradientTransformationExtraArgs(init, update)


def merge_experts(params: Params, pattern: str) -> Params:
  """Return the tree with the experts' leaves replaced by their mean.

  Args:
    params: with expert leaves [N, ...].
    pattern: of their paths.

  Returns:
    Params: those leaves lose their first axis.

  Raises:
    ValueError: for a pattern that matches nothing.

  >>> merge_experts({"w": jnp.array([1.0, 3.0]), "b": 0.0}, "w")["w"].item()
  2.0

  https://arxiv.org/abs/2308.06093.
  """
  _check_pattern(params, pattern, "merge_experts")

  def leaf(path: str, x: Any) -> Any:
    if fnmatch.fnmatch(path, pattern):
      return means.weighted_mean({path: x})[path]
    return x

  return trees.map_named(leaf, params)


def _check_pattern(params: Params, pattern: str, what: str) -> None:
  names = trees.names(params)
  if not any(fnmatch.fnmatch(path, pattern) for path in names):
    raise ValueError(
      f"{what}: {pattern!r} matches no path of {', '.join(names)}"
    )
