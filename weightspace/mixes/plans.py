"""Plans: in which pieces a set of mixes is scored.

What a score costs is read off its jaxpr once; blocks of examples, batches of
mixes and the use of the shared first layer follow from it and from the memory
that is allowed.

>>> shapes = {"w": jnp.ones((2, 3))}
>>> made = plan(shapes, jnp.eye(2), lambda p, x: x @ p["w"], jnp.ones((5, 3)))
>>> made.examples, made.stem
(5, False)
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import graph
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
  ahead: bool  # mix the other parameters for all mixes, before the blocks


class Work(NamedTuple):
  """What a score costs on one model and all examples."""

  examples: int | None  # N, or None where the score is one number
  params: int  # values of one model
  frontier: int  # values of its stem
  plain: int  # of them, those that are parameters
  flops: int  # of the products in the stem
  width: int  # bytes of the largest value


def shapes_of(data: Data) -> Any:
  """Return the shapes of the data."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), data
  )


def split(score: Score, stack: Stack, data: Data) -> graph.Split:
  """Return the stem and the trunk of a score of one model of a Stack."""
  return graph.split_linear(score, trees.one_model(stack), shapes_of(data))


def plan(
  stack: Stack,
  weights: Weights,
  score: Score,
  data: Data,
  max_memory: int = MEMORY,
) -> Plan:
  """Choose blocks, batches and the use of the stem for these shapes."""
  shapes = (trees.one_model(stack), shapes_of(data))
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
  parts = graph.split_linear(score, model, data)
  return Work(
    int(out.shape[0]) if per_example else None,
    sum(math.prod(x.shape) for x in jax.tree.leaves(model)),
    sum(math.prod(x.shape) for x in parts.frontier),
    sum(
      math.prod(x.shape)
      for x, leaf in zip(parts.frontier, parts.leaves)
      if leaf is not None
    ),
    parts.flops,
    parts.width,
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
  ahead = stem and 8 * mixes * work.plain < max_memory
  return Plan(work.examples, block, batch, stem, ahead)
