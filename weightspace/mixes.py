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
MEMORY = 2**28  # bytes that values in flight may take, unless told otherwise
MIX_COST = 8  # flops that mixing one value of one model is worth (measured)


class Plan(NamedTuple):
  """How a set of mixes is scored: what the compiled program depends on."""

  examples: int | None  # N, or None where the score is one number
  block: int  # examples at a time
  batch: int  # mixes at a time under vmap; 1 maps them in sequence
  stem: bool  # mix the first layer's outputs instead of its parameters


class Work(NamedTuple):
  """What a score costs on one model and all examples."""

  examples: int | None  # N, or None where the score is one number
  params: int  # values of one model
  frontier: int  # values of its stem
  flops: int  # of the products in the stem
  width: int  # bytes of the largest value


def evaluate_mixes(
  stack: Stack,
  weights: Weights,
  score: Score,
  data: Data,
  *,
  per_example: bool = False,
  max_memory: int = MEMORY,
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
  values = scores(stack, weights, score, data, max_memory)
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
  max_memory: int = MEMORY,
) -> jax.Array:
  """Return [K], or [K, N] for a score per example, of checked models."""
  made = plan(stack, weights, score, data, max_memory)
  return _evaluate(stack, weights, data, score, made)


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
  shapes = (_model(stack), _shapes(data))
  leaves, structure = jax.tree.flatten(shapes)
  mixes = len(jax.tree.leaves(weights)[0])
  shared = isinstance(weights, jax.Array)  # one coefficient for every leaf
  work = _work(score, structure, tuple(leaves))
  return _choose(work, trees.size(stack), mixes, shared, max_memory)


@functools.lru_cache(maxsize=256)  # a search asks again for every mix
def _work(score: Score, structure: Any, leaves: tuple[Any, ...]) -> Work:
  """Trace a score once for its shapes."""
  model, data = jax.tree.unflatten(structure, leaves)
  out = jax.eval_shape(score, model, data)
  shape = getattr(out, "shape", type(out).__name__)
  lengths = {x.shape[:1] for x in jax.tree.leaves(data)}
  per_example = len(shape) == 1 and lengths == {shape}
  if shape != () and not per_example:
    raise ValueError(
      f"score: returned {shape}, expected one number, or one per example of"
      f" data with leading axes {sorted(lengths)}"
    )
  split = graph.split_linear(score, model, data)
  return Work(
    int(out.shape[0]) if per_example else None,
    sum(math.prod(x.shape) for x in jax.tree.leaves(model)),
    sum(math.prod(x.shape) for x in split.frontier),
    split.flops,
    split.width,
  )


def _choose(
  work: Work, count: int, mixes: int, shared: bool, max_memory: int
) -> Plan:
  """Choose for M models and K mixes; `shared` says one [M] for all leaves."""
  examples = work.examples or 1
  more = max(work.frontier - work.params, 0)  # what a mix of stems adds
  cost = mixes * MIX_COST * count * more
  stem = shared and (mixes - count) * work.flops > cost
  block = max(1, min(examples, max_memory * examples // (4 * work.width + 1)))
  if stem and work.examples is None:
    stem = 4 * count * work.frontier < max_memory
  elif stem:
    per = max(1, 4 * count * more // examples)
    block = min(block, max(64, CACHE // per))
  one = 4 * (work.params + work.frontier) + work.width * block // examples
  accelerator = jax.default_backend() != "cpu"
  batch = max(1, min(mixes, max_memory // max(one, 1))) if accelerator else 1
  return Plan(work.examples, block, batch, stem)


@functools.partial(jax.jit, static_argnames=("score", "made"))
def _evaluate(
  stack: Stack, weights: Weights, data: Data, score: Score, made: Plan
) -> jax.Array:
  """Return [K], or [K, N] where the score is per example."""

  def on_block(block: Data) -> jax.Array:
    of_mix = _mixer(stack, score, block, made.stem)
    batch = made.batch if made.batch > 1 else None
    values = jax.lax.map(of_mix, weights, batch_size=batch)
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


def _mixer(
  stack: Stack, score: Score, data: Data, stem: bool
) -> Callable[[Weights], jax.Array]:
  """Return the function from one row of coefficients to its score."""
  if not stem:
    return lambda w: jnp.asarray(score(means.weighted_sum(stack, w), data))
  split = graph.split_linear(score, _model(stack), _shapes(data))
  members = jax.lax.map(lambda p: split.stem(p, data), stack)

  return lambda w: jnp.asarray(
    split.trunk(means.weighted_sum(members, w), data)
  )
