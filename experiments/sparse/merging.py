"""A study of merging: densities of task vectors by what trimming does.

Experts of digits that are turned in different ways are merged by TIES and DARE,
with one density for every leaf, a global one, or those that the distortion
curves of each task vector ask for.

>>> [int(task(np.arange(4).reshape(2, 2, 1), n)[0, 0, 0]) for n in range(4)]
[1, 3, 2, 1]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import runs
from experiments.sparse import bed
from weightspace import sparse
from weightspace.types import Data, Params, Stack

TASKS = ("90 degrees", "180 degrees", "270 degrees", "mirrored")
WAYS = ("equal", "global", "allocated")


def task(x: np.ndarray, number: int) -> np.ndarray:
  """Return images [..., H, W, C] as a task shows them."""
  if number == 3:
    return x[..., :, ::-1, :]
  return np.rot90(x, number + 1, (-3, -2))


def merging(run: runs.Run) -> text.Lines:
  """Merge experts by trimmed and by dropped task vectors of equal size."""
  problem, config = bed.begin(run), run.config
  part, fine = config.base, config.fine
  tx = optax.adam(part.learning_rate)
  begun = bed.starts(run, problem)
  base = bed.fit(run, problem.loss, begun, tx, problem.train, part, 0)[-1]
  deltas, curves, right = [], [], []
  apply = functools.partial(_moved, problem.model.apply)
  for number in range(len(TASKS)):
    data, tx = _shown(problem.train, number), optax.adam(fine.learning_rate)
    tuned = bed.fit(run, problem.loss, base, tx, data, fine, 1 + number)[-1]
    deltas.append(jax.tree.map(jnp.subtract, tuned, base))
    seen = data["x"][:, : config.calibration]
    curves.append(_curves(apply, base, deltas[-1], seen, config.amounts))
    test = _shown(problem.test, number)
    right.append(bed.percent(problem.score, tuned, test))
  yield from text.lines("experts", {"accuracy (%)": np.mean(right, 0)})
  held = bed.images(
    run, run.data().validation, jax.random.fold_in(run.key, 5), config.held
  )
  for density in config.densities:
    for way in WAYS:
      masks = [_masks(*pair, density, way) for pair in zip(deltas, curves)]
      for method, merge in (("TIES", _ties), ("DARE", _dare)):
        vector = merge(run, deltas, masks)
        found = _tuned(problem, config.scales, base, vector, held)
        yield from text.lines(f"{method}, {way}, {density:.0%}", found)


def _shown(data: Data, number: int) -> Data:
  return {**data, "x": task(data["x"], number)}


def _moved(apply: Any, tree: Params, x: Any) -> jax.Array:
  return apply(jax.tree.map(jnp.add, tree["base"], tree["delta"]), x)


def _curves(
  apply: Any, base: Stack, delta: Stack, x: np.ndarray, amounts: int
) -> list[dict[str, np.ndarray]]:
  """Return what trimming each kernel's change alone does, seed by seed."""
  only = "delta/*kernel"
  trees = ws.unstack({"base": base, "delta": delta})
  found = [
    sparse.curves(apply, tree, images, amounts, only=only)
    for tree, images in zip(trees, x)
  ]
  return [
    {path.removeprefix("delta/"): curve for path, curve in one.items()}
    for one in found
  ]


def _masks(
  delta: Stack, curves: list[dict[str, np.ndarray]], density: float, way: str
) -> Stack:
  """Return what is kept of each seed's task vector; biases are whole."""
  kept = []
  for vector, curve in zip(ws.unstack(delta), curves):
    sizes = {path: ws.trees.named(vector)[path].size for path in curve}
    amounts = dict.fromkeys(sizes, 1 - density)
    if way == "allocated":
      split = sparse.allocate(curve, sizes, 1 - density)
      amounts = {p: i / (len(curve[p]) - 1) for p, i in split.items()}
    if way == "global":
      kept.append(sparse.magnitude_mask(vector, density))
    else:
      kept.append(sparse.by_layer(vector, amounts))
  return ws.stack(kept)


def _ties(run: runs.Run, deltas: list[Stack], masks: list[Stack]) -> Stack:
  """Return the merge of trimmed task vectors by elected signs, [S, ...]."""
  cut = [jax.vmap(sparse.apply)(d, m) for d, m in zip(deltas, masks)]
  stack = jax.tree.map(lambda *xs: jnp.stack(xs, 1), *cut)
  recipe = ws.merge.ties(density=1.0)

  def one(vectors: Stack) -> Params:
    zero = jax.tree.map(lambda x: jnp.zeros_like(x[0]), vectors)
    return recipe(vectors, base=zero)

  return jax.vmap(one)(stack)


def _dare(run: runs.Run, deltas: list[Stack], masks: list[Stack]) -> Stack:
  """Return the sum of task vectors that keep as many random entries a leaf.

  What is kept is scaled up, so that the expectation stays.
  """

  def one(key: Any, delta: Params, mask: Params) -> Params:
    drawn = sparse.shuffled(key, mask)
    return jax.tree.map(
      lambda x, keep: jnp.where(keep, x, 0) / jnp.maximum(keep.mean(), 1e-9),
      delta,
      drawn,
    )

  total: Any = None
  for number, pair in enumerate(zip(deltas, masks)):
    key = jax.random.fold_in(run.key, 60 + number)
    keys = jax.random.split(key, run.config.seeds)
    dropped = jax.vmap(one)(keys, *pair)
    total = dropped if total is None else jax.tree.map(jnp.add, total, dropped)
  return total


def _tuned(
  problem: bed.Bed, scales: Any, base: Stack, vector: Stack, held: Data
) -> dict[str, np.ndarray]:
  """Return test accuracy at each seed's best scale on held-out images."""
  models = [
    jax.tree.map(lambda b, v, s=scale: b + s * v, base, vector)
    for scale in scales
  ]

  def over_tasks(stack: Stack, data: Data) -> np.ndarray:
    shown = [_shown(data, number) for number in range(len(TASKS))]
    return np.mean([bed.percent(problem.score, stack, d) for d in shown], 0)

  chosen = np.argmax([over_tasks(model, held) for model in models], 0)
  tested = np.array([over_tasks(model, problem.test) for model in models])
  seeds = np.arange(len(chosen))
  return {
    "accuracy (%)": tested[chosen, seeds],
    "scale": np.array(scales)[chosen].astype(float),
  }


STUDIES = {"merging": merging}
