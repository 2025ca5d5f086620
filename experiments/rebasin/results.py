"""What the re-basin experiments measure, and the table made of it.

Every number is one line of metrics.jsonl; the rest is made from the lines.

>>> label("weights", "REPAIR")
'weights + REPAIR'
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench.population import Problem
from experiments.rebasin import methods
from experiments.run import runs
from experiments.run.claims import percent, rows
from weightspace import intervals, paths
from weightspace.types import Params, Stack


def label(method: str, merge: str) -> str:
  """Return what a merged model is called."""
  return method if merge == "mean" else f"{method} + {merge}"


def cases(run: runs.Run) -> list[str]:
  """Return the names of the cases, by size where they have one."""
  sizes = run.config.get("sizes") or {}
  return sorted(run.config.cases, key=lambda case: sizes.get(case, 0))


def measure(
  run: runs.Run, problem: Problem, stack: Stack, case: str, seed: int
) -> None:
  """Align the members by every method, and log what becomes of them."""
  config, models = run.config, ws.unstack(stack)
  x = jnp.asarray(problem.train["x"][: config.statistics])
  axes = ws.match.trace_axes(problem.model.apply, models[0], x[:1])
  key = jax.random.fold_in(run.key, seed)
  apply = problem.model.apply
  given = methods.Setting(
    axes,
    apply,
    models,
    x,
    key,
    problem.loss,
    problem.train,
    problem.model,
    config.get("straight"),
  )
  score(run, problem, case, seed, "ends", models=models)
  for method in config.methods:
    perms = methods.ALIGN[method](given)
    aligned = [ws.match.permute(axes, p, m) for p, m in zip(perms, models)]
    own = given._replace(models=aligned)
    along(run, problem, case, seed, method, models=aligned)
    if config.get("others"):
      along(run, problem, case, seed, f"{method}, others", models=aligned[1:])
    for merge in config.merges:
      merged = methods.MERGE[merge](own)
      score(run, problem, case, seed, label(method, merge), models=[merged])
    if config.singular:
      directions(run, case, seed, method, own)


def data(run: runs.Run, problem: Problem, split: str) -> Any:
  """Return the first examples of a split, as many as the config says."""
  whole = getattr(problem, split)
  return jax.tree.map(lambda v: jnp.asarray(v[: run.config.examples_of]), whole)


def along(
  run: runs.Run,
  problem: Problem,
  case: str,
  seed: int,
  method: str,
  *,
  models: list[Params],
) -> None:
  """Log barriers, in every convention, between the first two models."""
  at = {"case": case, "seed": seed, "method": method}
  for split in ("train", "test"):
    found = paths.barrier(
      problem.loss,
      data(run, problem, split),
      models[0],
      models[1],
      run.config.points,
    )
    kinds = ("chord", "mean", "half", "connectivity")
    numbers = {kind: getattr(found, kind) for kind in kinds}
    run.log(**at, split=split, **numbers)
    for t, value in zip(found.ts, found.losses):
      run.log(**at, split=split, place=f"{t:.2f}", loss=float(value))


def score(
  run: runs.Run,
  problem: Problem,
  case: str,
  seed: int,
  name: str,
  *,
  models: list[Params],
) -> None:
  """Log the mean accuracy and loss of models on the test set."""
  each = np.eye(len(models), dtype=np.float32)
  stack, test = ws.stack(models), data(run, problem, "test")
  right, loss = (
    ws.merge.evaluate_mixes(stack, each, f, test, mesh=problem.mesh)
    for f in (problem.score, problem.loss)
  )
  numbers = {"accuracy": 100 * float(right.mean()), "loss": float(loss.mean())}
  run.log(case=case, seed=seed, merged=name, **numbers)


def directions(
  run: runs.Run, case: str, seed: int, method: str, own: Any
) -> None:
  """Log distances and singular directions of the first two models."""
  a, b = own.models[:2]
  found = ws.match.singular_alignment(own.apply, a, b, own.x[:1])
  distance = np.linalg.norm([layer.distance for layer in found])
  norm = np.linalg.norm([layer.norm for layer in found])
  run.log(
    case=case,
    seed=seed,
    singular=method,
    distance=float(distance / norm),
    left=float(np.mean([layer.left for layer in found])),
    right=float(np.mean([layer.right for layer in found])),
  )


def table(run: runs.Run) -> runs.Table:
  """Return accuracy, loss and barriers of every method in every case."""
  made: runs.Table = {}
  for case in cases(run):
    start = f"{case}: " if len(run.config.cases) > 1 else ""
    merged = rows(run, "accuracy", "merged", case=case)
    loss = rows(run, "loss", "merged", case=case)
    lines = {
      split: rows(run, "mean", "method", case=case, split=split)
      for split in ("train", "test")
    }
    for name in merged:
      row: dict[str, Any] = {
        "test (%)": percent(merged[name]),
        "test loss": intervals.mean_interval(loss[name]),
      }
      for split, found in lines.items():
        values = found.get(name)
        row[f"{split} barrier"] = (
          None if values is None else intervals.mean_interval(values)
        )
      made[start + name] = row
  return made
