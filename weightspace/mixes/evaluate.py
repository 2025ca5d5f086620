"""Score many coefficient vectors in one compiled call.

A mix is sum_m c_m theta_m.  Greedy soups, grids and every search over
coefficients score many mixes of the same few models, so three things are
shared: the models stay on the device and no mix is kept; examples are taken in
blocks that stay in cache; and where the first layer is linear in the parameters
its outputs are computed once per model and mixed (`graph.split_linear`).

>>> models = {"w": jnp.array([0.0, 1.0])}
>>> def score(p, x): return -((p["w"] - x) ** 2)
>>> mixes = jnp.array([[1.0, 0.0], [0.5, 0.5]])
>>> evaluate_mixes(models, mixes, score, jnp.array([0.5, 0.5])).tolist()
[-0.25, 0.0]
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.hosts import multihost
from weightspace.jaxpr import closures
from weightspace.mixes import plans
from weightspace.types import Data, Score, Stack, Weights


def evaluate_mixes(
  stack: Stack,
  weights: Weights,
  score: Score,
  data: Data,
  *,
  per_example: bool = False,
  max_memory: int = plans.MEMORY,
  mesh: Any = None,
) -> jax.Array:
  """Return the score of K mixes, f_k = score(sum_m w_km theta_m, data).

  Args:
    stack: M models, leaves [M, ...].
    weights: [K, M] coefficients, used as they are, or a prefix tree of such
      arrays (one per layer or leaf).
    score: `score(params, data)`, one number or one per example [N].  With [N]
      each example must be scored by itself; blocks of examples are then scored
      apart and averaged exactly.  The compiled program is kept by the function
      and the values that it closes over.
    data: a pytree of arrays, [N, ...] where the score is per example.
    per_example: return [K, N] instead of the mean over examples.
    max_memory: bytes that the values in flight may take, approximately.
    mesh: a mesh whose devices share the mixes; models and data are on each.

  Returns:
    [K], or [K, N].

  Raises:
    ValueError: for weights that are not [K, M], a score that is neither a
      number nor [N], or NaN in the models.

  >>> models = {"w": jnp.array([[1.0, 0.0], [0.0, 1.0]])}
  >>> def error(p, x): return ((p["w"] - x) ** 2).sum()
  >>> evaluate_mixes(models, jnp.eye(2), error, jnp.ones(2)).tolist()
  [1.0, 1.0]

  The shared first layer is ours; the soups are Wortsman et al. 2022,
  https://arxiv.org/abs/2203.05482.
  """
  trees.check_finite(stack, "evaluate_mixes", stacked=True)
  weights, score = check_mixes(stack, weights), closures.fixed(score)
  if mesh is None:
    values = scores(stack, weights, score, data, max_memory)
  else:
    values = _on_mesh(stack, weights, score, data, max_memory, mesh)
  if per_example and values.ndim == 1:
    raise ValueError(
      "evaluate_mixes: per_example needs a score that returns [N], got one"
      " number"
    )
  return values if per_example or values.ndim == 1 else values.mean(1)


def scores(
  stack: Stack,
  weights: Weights,
  score: Score,
  data: Data,
  max_memory: int = plans.MEMORY,
) -> jax.Array:
  """Return [K], or [K, N] for a score per example, of checked models."""
  score = closures.fixed(score)
  made = plans.plan(stack, weights, score, data, max_memory)
  return _evaluate(stack, weights, data, score, made)


def _on_mesh(
  stack: Stack,
  weights: Weights,
  score: Score,
  data: Data,
  max_memory: int,
  mesh: Any,
) -> jax.Array:
  """Return `scores` with the mixes spread over all devices of a mesh."""
  rows, count = len(jax.tree.leaves(weights)[0]), mesh.size
  each = -(-rows // count)
  # Filled with the last mix, whose copies are cut off.
  index = np.minimum(np.arange(each * count), rows - 1)
  filled = jax.tree.map(lambda w: w[index], weights)
  own = jax.tree.map(lambda w: w[:each], filled)
  made = plans.plan(stack, own, score, data, max_memory)
  if multihost.several():
    stack, data = multihost.place(mesh, (stack, data), jax.P())
    filled = multihost.place(mesh, filled, jax.P(mesh.axis_names))
  found = _sharded(stack, filled, data, score, made, mesh)
  return multihost.whole(mesh, found)[:rows]


@functools.partial(jax.jit, static_argnames=("score", "made", "mesh"))
def _sharded(
  stack: Stack,
  weights: Weights,
  data: Data,
  score: Score,
  made: plans.Plan,
  mesh: Any,
) -> jax.Array:
  run = functools.partial(_evaluate, score=score, made=made)
  over = jax.P(mesh.axis_names)
  specs: dict[str, Any] = dict(
    in_specs=(jax.P(), over, jax.P()), out_specs=over
  )
  shared = jax.shard_map(run, mesh=mesh, check_vma=False, **specs)
  return shared(stack, weights, data)


def check_mixes(stack: Stack, weights: Weights) -> Weights:
  """Return the coefficients as arrays [K, M] (or a tree of them).

  Raises:
    ValueError: when an array is not [K, M] or they disagree on K.
  """
  count = trees.size(stack)
  if isinstance(weights, list | tuple):
    # Rows of numbers are an array; a list of arrays [K, M] is a tree.
    if all(np.ndim(leaf) < 2 for leaf in jax.tree.leaves(weights)):
      weights = jnp.asarray(weights, float)
  trees.spread(weights, stack, "evaluate_mixes: weights")
  weights = jax.tree.map(jnp.asarray, weights)
  rows = None
  for path, array in trees.named(weights).items():
    rows = array.shape[0] if rows is None and array.ndim else rows
    if array.shape != (rows, count):
      where = f" of {path!r}" if path else ""
      raise ValueError(
        f"evaluate_mixes: weights{where} have shape {array.shape}, expected"
        f" [K, {count}] with one K"
      )
  trees.check_finite(weights, "evaluate_mixes: weights")
  return weights


@functools.partial(jax.jit, static_argnames=("score", "made"))
def _evaluate(
  stack: Stack, weights: Weights, data: Data, score: Score, made: plans.Plan
) -> jax.Array:
  """Return [K], or [K, N] where the score is per example."""

  rows = weights, _ahead(stack, weights, score, data) if made.ahead else {}

  def on_block(block: Data) -> jax.Array:
    of_mix = _mixer(stack, score, block, made.stem)
    batch = made.batch if made.batch > 1 else None
    values = jax.lax.map(lambda row: of_mix(*row), rows, batch_size=batch)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))

  if made.examples is None or made.block >= made.examples:
    return on_block(data)
  blocks = -(-made.examples // made.block)
  # The last block is filled with the first examples, whose scores are cut off.
  index = jnp.arange(blocks * made.block) % made.examples
  index = index.reshape(blocks, made.block)
  values = jax.lax.map(
    lambda i: on_block(jax.tree.map(lambda x: x[i], data)), index
  )
  values = values.transpose(1, 0, 2).reshape(values.shape[1], -1)
  return values[:, : made.examples]


def _ahead(
  stack: Stack, weights: jax.Array, score: Score, data: Data
) -> dict[int, jax.Array]:
  """Return the parameters that the trunk uses, [K, ...], by leaf number."""
  split = plans.split(score, stack, data)
  leaves = jax.tree.leaves(stack)
  used = {n: leaves[n] for n in split.leaves if n is not None}
  if not used:
    return {}
  return jax.vmap(lambda w: means.weighted_sum(used, w))(weights)


def _mixer(
  stack: Stack, score: Score, data: Data, stem: bool
) -> Callable[..., jax.Array]:
  """Return the function from one row of coefficients to its score.

  The row comes with the parameters that were mixed ahead, by leaf number.
  """
  if not stem:
    return lambda w, ahead: jnp.asarray(
      score(means.weighted_sum(stack, w), data)
    )
  split = plans.split(score, stack, data)
  members = jax.lax.map(lambda p: split.stem(p, data), stack)

  def of_mix(w: jax.Array, ahead: dict[int, jax.Array]) -> jax.Array:
    left = {
      place: x
      for place, (x, leaf) in enumerate(zip(members, split.leaves))
      if leaf not in ahead
    }
    mixed = means.weighted_sum(left, w) if left else {}
    values = [
      mixed[place] if leaf is None or leaf not in ahead else ahead[leaf]
      for place, leaf in enumerate(split.leaves)
    ]
    return jnp.asarray(split.trunk(values, data))

  return of_mix
