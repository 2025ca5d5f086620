"""Probes that edit single experts: weight signatures and aligned classifiers.

>>> callable(signatures)
True
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import task_vectors, tasks
from experiments.bench.task_vectors import Bed
from experiments.merge.results import SPLITS
from weightspace import trees
from weightspace.types import Data, Params

SCALES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.3)  # 1: as it was extracted
CLEAN = "clean"


def _score(bed: Bed, models: list[Params], data: Data) -> np.ndarray:
  """Return the accuracy of each model, in percent."""
  eye = np.eye(len(models), dtype=np.float32)
  found = ws.merge.evaluate_mixes(
    ws.stack(models), eye, bed.score, data, mesh=bed.run.mesh
  )
  return 100 * np.asarray(found, np.float64)


def signatures(bed: Bed, seed: int) -> None:
  """Extract what robust training added, and patch another clean model.

  Tasks are named "<corruption>, a" and "<corruption>, b", one of them clean:
  signatures come from the models a, and those of b are patched.
  """
  config = bed.run.config
  base, experts = bed.seed(seed, len(config.tasks))
  models = dict(zip(config.tasks, ws.unstack(experts)))
  kinds = sorted({name.rpartition(", ")[0] for name in models} - {CLEAN})
  clean = models[f"{CLEAN}, b"]
  sets = {split: task_vectors.sets(bed, seed, split) for split in SPLITS}
  layers = {"all layers": ("*",), "shallow layers": tuple(config.shallow)}
  for where, patterns in layers.items():
    found = {
      (kind, group): ws.merge.signatures.extract(
        models[f"{kind}, {group}"], models[f"{CLEAN}, {group}"], base, patterns
      )
      for kind in kinds
      for group in ("a", "b")
    }
    for kind in kinds:
      patched = [clean, *_patched(clean, kind, found[kind, "a"])]
      for split in SPLITS:
        names = (f"{kind}, b", f"{CLEAN}, b")
        hard, easy = (_score(bed, patched, sets[split][n]) for n in names)
        for place, scale in enumerate((0.0, *SCALES)):
          bed.run.log(
            seed=seed,
            corruption=kind,
            layers=where,
            split=split,
            scale=f"{scale:g}",
            corrupted=float(hard[place]),
            clean=float(easy[place]),
          )
      for other in kinds:
        value = _cosine(found[kind, "a"].added, found[other, "b"].added)
        said = {"corruption": kind, "layers": where, "other": other}
        bed.run.log(seed=seed, **said, cosine=float(value))


def _patched(clean: Params, kind: str, signature: Any) -> list[Params]:
  """Return a clean model with a signature at each scale."""
  edit = ws.merge.signatures
  start = edit.Patched(clean)
  return [edit.patch(edit.add(start, kind, signature, s)) for s in SCALES]


def _cosine(a: dict[str, jax.Array], b: dict[str, jax.Array]) -> jax.Array:
  def dot(x: dict[str, jax.Array], y: dict[str, jax.Array]) -> jax.Array:
    return sum((jnp.sum(x[p] * y[p]) for p in x), jnp.zeros(()))

  return dot(a, b) / jnp.sqrt(dot(a, a) * dot(b, b))


def aligned(bed: Bed, seed: int) -> None:
  """Align the new classes of each expert with the old ones, and test it.

  The base knows the old classes, and the expert learned the new ones with a
  small memory of the old.
  """
  config = bed.run.config
  _, experts = bed.seed(seed, len(config.tasks))
  old = len(config.base.task.classes)
  path, data = config.classifier, config.base.task.data
  parts = {
    "all": {"data": data},
    "old": dict(config.base.task),
    "new": {"data": data, "classes": list(range(old, 10))},
  }
  key = jax.random.fold_in(bed.run.key, 2**25 + seed)
  recipe = ws.merge.weight_aligned(path, old)
  for task, expert in zip(config.tasks, ws.unstack(experts)):
    after = ws.unstack(recipe(ws.stack([expert])))[0]
    found = {}
    for place, (name, part) in enumerate(parts.items()):
      own = jax.random.fold_in(key, place)
      count = config.shown.test
      test = tasks.draw(bed.run, part, "test", own, count)
      found[name] = _score(bed, [expert, after], test)
    moved = _moved(expert, after, path, old)
    for place, state in enumerate(("before", "aligned")):
      kernel = trees.named((expert, after)[place])[path]
      norms = jnp.linalg.norm(kernel, axis=0)
      bed.run.log(
        seed=seed,
        row=f"{task}, {state}",
        aligned=state,
        **{f"{name} (%)": float(x[place]) for name, x in found.items()},
        norms=float(norms[old:].mean() / norms[:old].mean()),
        **({"moved": moved} if place else {}),
      )


def _moved(before: Params, after: Params, path: str, old: int) -> float:
  """Return the largest change of what alignment is to leave as it is."""
  start = trees.named(before)
  changes = {p: x - start[p] for p, x in trees.named(after).items()}
  changes[path] = changes[path][..., :old]
  return max(float(jnp.abs(x).max()) for x in changes.values())
