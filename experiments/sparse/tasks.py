"""A study of tasks that share weights: supermasks with exclusive parts.

Tasks are MNIST with the pixels in other orders.  Weights are one magnitude with
random signs; each task has a mask of its own over them.

>>> sorted(STUDIES)
['exclusive']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import text
from experiments.run import runs
from experiments.sparse import bed
from weightspace import sparse, trees
from weightspace.types import Data, Params, Stack

WAYS = {"ExSSNeT": True, "SupSup": False}


def exclusive(run: runs.Run) -> text.Lines:
  """Train a mask for each task, and what of it no earlier task uses."""
  problem, config = bed.begin(run), run.config
  weights = jax.vmap(lambda p, k: _signed(k, p))(
    bed.starts(run, problem), jax.random.split(run.key, config.seeds)
  )
  for density in config.densities:
    for way, trains in WAYS.items():
      found = _learned(run, problem, weights, density, trains)
      yield from text.lines(f"{way}, {density:.0%}", found)


def _signed(key: Any, params: Params) -> Params:
  """Return kernels of one magnitude and random signs; all else is 0."""

  def leaf(path: str, x: jax.Array) -> jax.Array:
    if not path.endswith("kernel"):
      return jnp.zeros_like(x)
    place = list(trees.named(params)).index(path)
    signs = jax.random.rademacher(jax.random.fold_in(key, place), x.shape)
    return signs * np.sqrt(2 / x.shape[0]).astype(np.float32)

  return trees.map_named(leaf, params)


def _scores(key: Any, params: Params) -> dict[str, jax.Array]:
  """Return scores of the kernels, drawn evenly (Kaiming, a = sqrt 5)."""
  kernels = {p: x for p, x in trees.named(params).items() if x.ndim > 1}
  keys = jax.random.split(key, len(kernels))
  return {
    path: jax.random.uniform(one, x.shape, x.dtype, -1, 1) / x.shape[0] ** 0.5
    for one, (path, x) in zip(keys, kernels.items())
  }


def _gated(params: Params, gates: dict[str, jax.Array]) -> Params:
  return trees.map_named(lambda p, x: x * gates[p] if p in gates else x, params)


def _task(data: Data, number: int, key: Any) -> Data:
  """Return images with their pixels in the order of a task, [S, N, ...]."""
  x = data["x"].reshape(*data["x"].shape[:2], -1)
  order = jax.random.permutation(jax.random.fold_in(key, number), x.shape[-1])
  return {**data, "x": x[..., np.asarray(order)]}


def _learned(
  run: runs.Run, problem: bed.Bed, weights: Stack, density: float, trains: bool
) -> dict[str, np.ndarray]:
  """Return the mean accuracy after all tasks, and what was forgotten, [S]."""
  config = run.config
  masks: list[Stack] = []
  first: list[np.ndarray] = []
  for number in range(config.tasks):
    data = _task(problem.train, number, run.key)
    scores = _searched(run, problem, weights, data, density, number, trains)
    mask = jax.vmap(lambda s: sparse.top(jax.tree.map(jnp.abs, s), density))(
      scores
    )
    if trains:
      free = sparse.exclusive(mask, masks)
      weights = _trained(run, problem, weights, data, mask, free, number)
    masks.append(mask)
    first.append(_logits(problem, weights, mask, number, run.key))
  last = [
    _logits(problem, weights, mask, n, run.key) for n, mask in enumerate(masks)
  ]
  labels = problem.test["y"]
  right = np.mean([(x.argmax(-1) == labels).mean(1) for x in last], 0)
  moved = np.max([np.abs(a - b).max((1, 2)) for a, b in zip(first, last)], 0)
  used = sparse.union(*masks)
  shares = [x.mean(axis=(1, 2)) for x in used.values()]
  return {
    "accuracy (%)": 100 * right,
    "largest change of a logit": moved.astype(float),
    "weights used (%)": 100 * np.mean(shares, 0).astype(float),
  }


def _searched(
  run: runs.Run,
  problem: bed.Bed,
  weights: Stack,
  data: Data,
  density: float,
  number: int,
  trains: bool,
) -> Stack:
  """Return the scores of a task; who trains no weights searches as long."""

  def loss(tree: Any, batch: Data) -> jax.Array:
    frozen = jax.lax.stop_gradient(tree["weights"])
    gates = sparse.supermask(tree["scores"], density)
    return problem.loss(_gated(frozen, gates), batch)

  keys = jax.random.split(jax.random.fold_in(run.key, number), len(data["y"]))
  begun = {"weights": weights, "scores": jax.vmap(_scores)(keys, weights)}
  part = run.config.masks.copy_and_resolve_references()
  if not trains:
    part.epochs += run.config.weights.epochs
  tx = optax.multi_transform(
    {"scores": optax.adam(part.learning_rate), "weights": optax.set_to_zero()},
    {"scores": "scores", "weights": "weights"},
  )
  return bed.fit(run, loss, begun, tx, data, part, number)[-1]["scores"]


def _trained(
  run: runs.Run,
  problem: bed.Bed,
  weights: Stack,
  data: Data,
  mask: Stack,
  free: Stack,
  number: int,
) -> Stack:
  """Return the weights with those of the exclusive part trained."""

  def loss(tree: Any, batch: Data) -> jax.Array:
    return problem.loss(_gated(tree["weights"], tree["gates"]), batch)

  def rule(tree: Any) -> Any:
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, bool), tree)
    may = trees.map_named(
      lambda p, x: tree["free"][p] > 0 if p in tree["free"] else x,
      none["weights"],
    )
    return {**none, "weights": may}

  numbers = jax.tree.map(lambda x: x.astype(jnp.float32), (mask, free))
  begun = {"weights": weights, "gates": numbers[0], "free": numbers[1]}
  part = run.config.weights
  tx = sparse.train_only(optax.adam(part.learning_rate), rule)
  return bed.fit(run, loss, begun, tx, data, part, 50 + number)[-1]["weights"]


def _logits(
  problem: bed.Bed, weights: Stack, mask: Stack, number: int, key: Any
) -> np.ndarray:
  """Return the outputs of each seed on a task's test images, [S, T, C]."""
  x = jnp.asarray(_task(problem.test, number, key)["x"])
  gates = jax.tree.map(lambda keep: keep.astype(jnp.float32), mask)
  run = jax.jit(
    lambda w, g, x: jax.lax.map(
      lambda one: problem.model.apply(_gated(one[0], one[1]), one[2]), (w, g, x)
    )
  )
  return np.asarray(run(weights, gates, x))


STUDIES = {"exclusive": exclusive}
