"""Task vectors put together by coefficients, as a function to train.

>>> models, base = {"w": jnp.array([[2.0], [4.0]])}, {"w": jnp.ones(1)}
>>> held, structure = hold("demo", models, base)
>>> found = start(held, "task", 0.5, 1)
>>> rule = Rule((), structure, "labels", False, adam(0.1), 0.0)
>>> made = result(
...   "demo", held, found, rule, base=base, history=np.zeros(1)
... )
>>> made.params["w"].item()
3.0
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import losses, means, trees
from weightspace.types import Apply, Data, Key, Params, Stack, Weights


class Coefficients(NamedTuple):
  """What was found: params = base + weighted_sum(stack - base, weights)."""

  weights: Weights  # [M], a tree of [M], or a Stack (random parts)
  params: Params
  history: np.ndarray  # loss, one per step (AdaMerging) or epoch (aTLAS)


class Held(NamedTuple):
  """The arrays of a search, by path: what is merged, and random parts."""

  base: dict[str, jax.Array]
  deltas: dict[str, jax.Array]  # [M, ...]
  parts: dict[str, jax.Array]  # [...] of whole numbers below K; none for K = 1


class Rule(NamedTuple):
  """What a step does, apart from arrays."""

  applies: tuple[Apply, ...]
  structure: Any
  objective: str
  clamp: bool
  optimiser: optax.GradientTransformation
  penalty: float


@functools.cache  # one object for one setting: a step is compiled for it
def adam(
  learning_rate: float, weight_decay: float = 0.0, clip: float = 0.0
) -> optax.GradientTransformation:
  """Return AdamW behind a bound on the gradient's norm (0: none).

  >>> adam(0.1) is adam(0.1)
  True
  """
  adamw = optax.adamw(learning_rate, weight_decay=weight_decay)
  if not clip:
    return adamw
  return optax.chain(optax.clip_by_global_norm(clip), adamw)


def hold(
  what: str,
  stack: Stack,
  base: Params,
  deltas: Stack | None = None,
  *,
  parts: int = 1,
  key: Key | None = None,
) -> tuple[Held, Any]:
  """Check the models and return what is merged, by path."""
  trees.check_same(trees.one_model(stack), base, f"{what}: base")
  trees.check_finite(stack, what, stacked=True)
  trees.check_finite(base, f"{what}: base")
  start = {p: jnp.asarray(b) for p, b in trees.named(base).items()}
  if deltas is not None:
    shapes = [
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), bool), tree)
      for tree in (stack, deltas)
    ]
    trees.check_same(shapes[0], shapes[1], f"{what}: deltas")
  found = trees.named(stack if deltas is None else deltas)
  moved, random = {}, {}
  for path, x in found.items():
    if not trees.inexact(start[path]):
      continue
    wide = jnp.asarray(x, jnp.float32)
    moved[path] = wide if deltas is not None else wide - start[path][None]
    if key is not None and parts > 1:
      own = jax.random.fold_in(key, hash_shape(start[path].shape))
      shape = start[path].shape
      # Arrays that are no matrix are in no part.
      drawn = jax.random.randint(own, shape, 0, parts)
      random[path] = drawn if len(shape) == 2 else jnp.full(shape, parts)
  return Held(start, moved, random), jax.tree.structure(base)


def hash_shape(shape: Sequence[int]) -> int:
  """Return a number that arrays of one shape share.

  >>> hash_shape((2, 3)) == hash_shape((2, 3)) != hash_shape((3, 2))
  True
  """
  number = len(shape)
  for size in shape:
    number = (number * 1_000_003 + size) % 2**31
  return number


def start(held: Held, by: str, value: float, parts: int) -> Any:
  """Return the first coefficients."""
  count = len(next(iter(held.deltas.values())))
  if by == "task" and not held.parts:
    return jnp.full(count, value)
  if not held.parts:
    return {path: jnp.full(count, value) for path in held.deltas}
  rows = jnp.full((count, parts), value)
  return rows if by == "task" else {path: rows for path in held.deltas}


def _weights(held: Held, found: Any, clamp: bool) -> dict[str, jax.Array]:
  """Return the weights of each leaf, [M] or [M, ...]."""
  found = (
    jax.tree.map(lambda c: jnp.clip(c, 0.0, 1.0), found) if clamp else found
  )
  weights = {}
  for path in held.deltas:
    own = found[path] if isinstance(found, dict) else found
    if held.parts:
      own = jnp.take(own, held.parts[path], axis=1, mode="fill", fill_value=0.0)
    weights[path] = own
  return weights


def _merged(held: Held, found: Any, rule: Rule) -> Params:
  weights = _weights(held, found, rule.clamp)
  leaves = dict(held.base)
  for path, x in held.deltas.items():
    moved = means.contract(x, weights[path])
    leaves[path] = (leaves[path] + moved).astype(held.base[path].dtype)
  return jax.tree.unflatten(rule.structure, list(leaves.values()))


@functools.partial(jax.jit, static_argnames="rule")
def step(
  found: Any,
  state: Any,
  held: Held,
  batches: list[Data],
  rule: Rule,
  *,
  control: Sequence[Data] = (),
) -> tuple[Any, Any, jax.Array]:
  """Take one step on a batch of every task."""

  def loss(found: Any) -> jax.Array:
    params = _merged(held, found, rule)
    total = jnp.zeros(())
    for apply, batch in zip(rule.applies, batches):
      total += _objective(apply(params, batch["x"]), batch, rule.objective)
    for batch in control:  # negation: the loss is raised, but not here
      kept = _objective(rule.applies[0](params, batch["x"]), batch, "labels")
      total = kept - total
    sizes = [jnp.abs(c).mean() for c in jax.tree.leaves(found)]
    return total + rule.penalty * jnp.stack(sizes).mean()

  value, gradient = jax.value_and_grad(loss)(found)
  updates, state = rule.optimiser.update(gradient, state, found)
  return optax.apply_updates(found, updates), state, value


def _objective(logits: jax.Array, batch: Data, objective: str) -> jax.Array:
  if objective == "entropy":
    return losses.entropy(logits).mean()
  return losses.cross_entropy(logits, batch["y"]).mean()


def result(
  what: str,
  held: Held,
  found: Any,
  rule: Rule,
  *,
  base: Params,
  history: np.ndarray,
) -> Coefficients:
  """Return learned coefficients with the model that they make."""
  if not np.isfinite(history).all():
    first = int(np.argmin(np.isfinite(history)))
    raise ValueError(f"{what}: the loss is {history[first]} at {first}")
  params = _merged(held, found, rule)
  weights = _weights(held, found, rule.clamp)
  if not isinstance(found, dict) and not held.parts:
    return Coefficients(next(iter(weights.values())), params, history)
  count = len(next(iter(held.deltas.values())))
  spread = trees.map_named(
    lambda path, _: weights.get(path, jnp.zeros(count)), base
  )
  return Coefficients(spread, params, history)
