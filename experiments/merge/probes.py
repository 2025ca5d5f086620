"""Probes: what single claims look at on the models of the bed.

Each is `probe(bed, seed)` and logs lines of its own kind; those with a `row`
are rows of the table too.

>>> sorted(PROBES)[:3]
['aligned', 'continual', 'descent']
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import task_vectors
from experiments.bench.task_vectors import Bed
from experiments.merge import methods, patches
from weightspace import trees
from weightspace.types import Params, Stack

RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
STEPS = (1, 100, 300)  # of the descent; 300 is the papers'
RANK = 16  # of the adapters that experts are cut to


def accuracies(bed: Bed, seed: int, models: list[list[Params]]) -> np.ndarray:
  """Return test accuracies [K, T] in percent: K models for each of T tasks."""
  sets = list(task_vectors.sets(bed, seed, "test").values())
  columns = []
  for data, row in zip(sets, models):
    eye = np.eye(len(row), dtype=np.float32)
    found = ws.merge.evaluate_mixes(
      ws.stack(row), eye, bed.score, data, mesh=bed.run.mesh
    )
    columns.append(100 * np.asarray(found, np.float64))
  return np.stack(columns, 1)


def models_of(bed: Bed, seed: int) -> tuple[Params, list[Params]]:
  """Return the base of a seed and its experts, one for each task."""
  count = len(bed.run.config.tasks)
  base, experts = bed.seed(seed, count)
  return base, ws.unstack(experts)


def drop(bed: Bed, seed: int) -> None:
  """Drop entries of each expert's task vector, or of its weights.

  The lines have the mean over tasks of accuracy over the expert's.
  """
  base, experts = models_of(bed, seed)
  zeros = jax.tree.map(jnp.zeros_like, base)
  key = jax.random.fold_in(bed.run.key, 2**24 + seed)
  kinds = {
    "deltas, rescaled": (base, "inverse"),
    "deltas": (base, "none"),
    "weights, rescaled": (zeros, "inverse"),
    "weights": (zeros, "none"),
  }
  for kind, (start, rescale) in kinds.items():
    recipes = [ws.merge.dare(rate, rescale=rescale) for rate in RATES]
    dropped = [
      [recipe(ws.stack([e]), base=start, key=key) for recipe in recipes]
      for e in experts
    ]
    found = accuracies(bed, seed, dropped)
    for rate, row in zip(RATES, found / found[0]):
      share = {"normalised": 100 * float(row.mean())}
      name = f"{100 * rate:.0f} % of {kind}"
      bed.run.log(seed=seed, row=name, dropped=kind, rate=f"{rate:g}", **share)


def kept(bed: Bed, seed: int) -> None:
  """Count what Breadcrumbs keeps of each leaf, and what it should."""
  base, experts = models_of(bed, seed)
  method = bed.run.config.methods["Breadcrumbs"]
  options = methods.settings(method.options)[0]
  recipe = ws.merge.breadcrumbs(**options, scale=1.0)
  merged = recipe(ws.stack(experts[:1]), base=base)
  found = trees.named(ws.merge.delta(merged, base))
  for path, moved in trees.named(ws.merge.delta(experts[0], base)).items():
    size = moved.shape[-1]
    keep, top = (int(options[n] * size + 1e-6) for n in ("keep", "top"))
    # What fine-tuning never moved cannot be told from what was dropped.
    there = np.count_nonzero(np.asarray(moved), -1)
    want = np.clip(there - top, 0, max(1, keep))
    wrong = np.abs(np.count_nonzero(np.asarray(found[path]), -1) - want).max()
    size = jnp.linalg.norm(found[path]) / jnp.linalg.norm(moved)
    norm = {"norm kept": 100 * float(size)}
    bed.run.log(seed=seed, leaf=path, wrong=float(wrong), **norm)


def reversible(bed: Bed, seed: int) -> None:
  """Cut task vectors to adapters, keep p basis vectors, and come back."""
  base, experts = models_of(bed, seed)
  deltas = [ws.merge.delta(expert, base) for expert in experts]
  flat = [
    {p: x for p, x in trees.named(d).items() if x.ndim == 2} for d in deltas
  ]
  factors = ws.stack([_factors(d) for d in flat])

  def models(stack: Stack) -> list[Params]:
    return [_adapted(base, part) for part in ws.unstack(stack)]

  count = len(experts)
  rows = {"adapters": models(factors)}
  mean = jax.tree.map(lambda x: x.mean(0, keepdims=True), factors)
  rows["mean of factors"] = models(mean) * count
  summed = [_product(part) for part in ws.unstack(factors)]
  total = jax.tree.map(lambda *x: sum(x) / count, *summed)
  rows["mean of products"] = [_moved(base, total)] * count
  for basis in range(1, count + 1):
    made = ws.merge.rmm(basis)(factors)
    back = ws.merge.reconstruct(made)
    name = f"RMM, p = {basis}"
    rows[name] = models(back)
    said = _errors(made, back, factors)
    bed.run.log(seed=seed, reversible=name, **said)
  rows["experts"], rows["base"] = experts, [base] * count
  found = accuracies(bed, seed, list(map(list, zip(*rows.values()))))
  for name, row in zip(rows, found):
    own = {"row": name} if name not in ("experts", "base") else {}
    bed.run.log(seed=seed, adapted=name, **own, accuracy=float(row.mean()))


def _errors(made: Any, back: Stack, factors: Stack) -> dict[str, float]:
  """Return what a basis stores, what it loses, and how far it says otherwise.

  The loss is a share of the squares of the factors.
  """
  error = sum(
    float(jnp.sum((x - y) ** 2))
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(factors))
  )
  lost = sum(float(x) for x in jax.tree.leaves(made.lost))
  whole = sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(factors))
  return {
    "stored": 100 * ws.merge.stored_share(made),
    "error": error / whole,
    "mismatch": abs(error - lost) / whole,
  }


def _factors(delta: dict[str, Any]) -> dict[str, jax.Array]:
  """Return A [in, r] and B [r, out] of each matrix, of equal weight."""
  made = {}
  for path, x in delta.items():
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    root = jnp.sqrt(s[:RANK])
    made[f"{path}_a"] = u[:, :RANK] * root[None]
    made[f"{path}_b"] = vt[:RANK] * root[:, None]
  return made


def _product(factors: dict[str, jax.Array]) -> dict[str, jax.Array]:
  paths = [path[:-2] for path in factors if path.endswith("_a")]
  return {p: factors[f"{p}_a"] @ factors[f"{p}_b"] for p in paths}


def _moved(base: Params, delta: dict[str, jax.Array]) -> Params:
  return trees.map_named(lambda p, x: x + delta[p] if p in delta else x, base)


def _adapted(base: Params, factors: dict[str, jax.Array]) -> Params:
  return _moved(base, _product(factors))


def descent(bed: Bed, seed: int) -> None:
  """Follow the interaction loss over the steps of the papers' optimiser."""
  base, experts = models_of(bed, seed)
  stack = ws.stack(experts)
  matrices = {p: x for p, x in trees.named(stack).items() if x.ndim == 3}
  body = {p: trees.named(base)[p] for p in matrices}
  deltas = {p: x - body[p][None] for p, x in matrices.items()}
  first = None
  for steps in (0, *STEPS):
    recipe = (
      ws.merge.wudi("adam", steps=steps)
      if steps
      else ws.merge.task_arithmetic(1.0)
    )
    merged = recipe(matrices, base=body)
    loss = sum(
      float(ws.merge.interference(merged[p] - body[p], deltas[p]))
      for p in matrices
    )
    first = loss if first is None else first
    bed.run.log(seed=seed, steps=steps, interaction=loss / first)


def continual(bed: Bed, seed: int) -> None:
  """Merge experts one by one: what stays constant, and what is orthogonal."""
  base, experts = models_of(bed, seed)
  fold = ws.merge.opcm(bed.run.config.methods["OPCM"].options.alpha)
  state, sizes = fold.init(base), []
  for place, expert in enumerate(experts):
    before = state
    state = fold.update(state, expert)
    sizes.append(float(_norm(ws.merge.delta(expert, base))))
    # What was added is stretch_new * after - stretch_old * before.
    overlap = 0.0
    for path, after in trees.named(state.delta).items():
      old = trees.named(before.delta)[path]
      if old.ndim == 2 and place:
        added = state.stretch * after - before.stretch * old
        scale = jnp.linalg.norm(added) * jnp.linalg.norm(old)
        overlap = max(overlap, float(jnp.abs(jnp.sum(added * old)) / scale))
    bed.run.log(
      seed=seed,
      seen=place + 1,
      overlap=overlap,
      length=float(_norm(state.delta)) / float(np.mean(sizes)),
      bytes=float(sum(x.nbytes for x in jax.tree.leaves(state))),
    )


def _norm(tree: Params) -> jax.Array:
  return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))


PROBES: dict[str, Callable[[Bed, int], None]] = {
  "aligned": patches.aligned,
  "continual": continual,
  "descent": descent,
  "drop": drop,
  "kept": kept,
  "reversible": reversible,
  "signatures": patches.signatures,
}
