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
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import graph, means, trees
from weightspace.types import Data, Score, Stack, Weights

CACHE = 2**22  # bytes of members' first-layer outputs per block of examples
MIX_COST = 8  # flops that mixing one value of one model is worth (measured)


class Plan(NamedTuple):
  """How a set of mixes is scored: what the compiled program depends on."""

  examples: int | None  # N, or None where the score is one number
  block: int  # examples at a time
  batch: int  # mixes at a time under vmap; 1 maps them in sequence
  stem: bool  # mix the first layer's outputs instead of its parameters


def evaluate_mixes(
  stack: Stack,
  weights: Weights,
  score: Score,
  data: Data,
  *,
  per_example: bool = False,
  max_memory: int = 2**28,
) -> jax.Array:
  """Return the score of K mixes, f_k = score(sum_m w_km theta_m, data).

  Args:
    stack: M models, leaves [M, ...].
    weights: [K, M] coefficients, used as they are, or a prefix tree of such
      arrays (one per layer or leaf).
    score: `score(params, data)`, one number or one per example [N].  With [N]
      each example must be scored by itself; blocks of examples are then scored
      apart and averaged exactly.  Pass the same function object again to reuse
      the compiled program.
    data: a pytree of arrays, [N, ...] where the score is per example.
    per_example: return [K, N] instead of the mean over examples.
    max_memory: bytes that the values in flight may take, approximately.

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
  weights = check_mixes(stack, weights)
  made = plan(stack, weights, score, data, max_memory)
  if per_example and made.examples is None:
    raise ValueError(
      "evaluate_mixes: per_example needs a score that returns [N], got one"
      " number"
    )
  values = _evaluate(stack, weights, data, score, made)
  return values if per_example or made.examples is None else values.mean(1)


def check_mixes(stack: Stack, weights: Weights) -> Weights:
  """Return the coefficients as arrays [K, M] (or a tree of them).

  Raises:
    ValueError: when an array is not [K, M] or they disagree on K.
  """
  count = trees.size(stack)
  if isinstance(weights, list | tuple):
    weights = np.asarray(weights, np.float32)
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


def _model(stack: Stack) -> Any:
  """Return the shapes of one model of a Stack."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[1:], jnp.result_type(x)), stack
  )


def _shapes(data: Data) -> Any:
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), data
  )


def plan(
  stack: Stack, weights: Weights, score: Score, data: Data, max_memory: int
) -> Plan:
  """Choose blocks, batches and the use of the stem for these shapes."""
  model, shapes = _model(stack), _shapes(data)
  out = jax.eval_shape(score, model, shapes)
  lengths = {x.shape[:1] for x in jax.tree.leaves(shapes)}
  examples = out.shape[0] if out.ndim == 1 else None
  if out.ndim > 1 or (out.ndim == 1 and lengths != {out.shape}):
    raise ValueError(
      f"score: returned shape {out.shape}, expected one number or one per"
      f" example of data with leading axes {sorted(lengths)}"
    )
  split = graph.split_linear(score, model, shapes)
  count, mixes = trees.size(stack), len(jax.tree.leaves(weights)[0])
  frontier = sum(math.prod(x.shape) for x in split.frontier)
  params = sum(math.prod(x.shape) for x in jax.tree.leaves(model))
  extra = MIX_COST * count * max(frontier - params, 0)
  shared = isinstance(weights, jax.Array)  # one coefficient for every leaf
  stem = shared and (mixes - count) * split.flops > mixes * extra
  width = graph.widest(graph.trace(score, model, shapes))
  block = examples or 1
  if examples:
    block = max(1, min(examples, max_memory * examples // (4 * width + 1)))
    if stem:
      per = max(1, 4 * count * max(frontier - params, 0) // examples)
      block = min(block, max(64, CACHE // per))
  accelerator = jax.default_backend() != "cpu"
  one = 4 * (params + frontier) + width * block // (examples or 1)
  batch = max(1, min(mixes, max_memory // max(one, 1))) if accelerator else 1
  return Plan(examples, block, batch, stem)


@functools.partial(jax.jit, static_argnames=("score", "made"))
def _evaluate(
  stack: Stack, weights: Weights, data: Data, score: Score, made: Plan
) -> jax.Array:
  """Return [K], or [K, N] where the score is per example."""

  def on_block(block: Data) -> jax.Array:
    of_mix = _mixer(stack, score, block, made.stem)
    return jax.lax.map(of_mix, weights, batch_size=made.batch)

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


def _mixer(
  stack: Stack, score: Score, data: Data, stem: bool
) -> Callable[[Weights], jax.Array]:
  """Return the function from one row of coefficients to its score."""
  if not stem:
    return lambda w: score(means.weighted_sum(stack, w), data)
  split = graph.split_linear(score, _model(stack), _shapes(data))
  members = jax.lax.map(lambda p: split.stem(p, data), stack)

  def of_mix(w: jax.Array) -> jax.Array:
    mixed = [means.contract(x, w).astype(x.dtype) for x in members]
    return split.trunk(mixed, data)

  return of_mix
