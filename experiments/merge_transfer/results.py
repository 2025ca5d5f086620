"""What transferring a fine-tuning gains, against the barrier it has to cross.

For each version of the base: its accuracy on the task, with what fine-tuning
changed in the old version, and fine-tuned itself; and the barrier between the
fine-tuned old version and the fine-tuned new one.

>>> correlation(np.array([0.0, 1.0, 2.0]), np.array([4.0, 2.0, 0.0])).item()
-1.0
"""

from typing import Any

import jax
import numpy as np

import weightspace as ws
from experiments.bench import tasks
from experiments.run import estimates, progress, runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  correlated,
  every,
  gather,
  points,
  said,
)
from weightspace import figures, intervals, losses, paths
from weightspace.figures import COLOURS, Panel
from weightspace.types import Stack

NUMBERS = ("new", "transferred", "fine-tuned")


def measure(
  run: runs.Run, model: Any, name: str, stacks: tuple[Stack, ...]
) -> None:
  """Log one version of the base, for every seed.

  Args:
    run: its config has `task`, and how many examples are `shown`.
    model: what the stacks are models of.
    name: of the version.
    stacks: the old base, its fine-tuned model, the new base, and its, [S, ...].
  """
  score = losses.of(model.apply, losses.accuracy)

  def error(params: Any, data: Any) -> Any:
    return 1.0 - score(params, data)

  config = run.config
  with progress.bar(f"{name}: measured", config.seeds) as advance:
    for seed, four in enumerate(zip(*map(ws.unstack, stacks))):
      old, source, new, target = four
      key = jax.random.fold_in(run.key, 2**22 + seed)
      data = tasks.draw(run, config.task, "test", key, config.shown.test)
      moved = ws.merge.transfer(1.0)(ws.stack([source]), base=old, target=new)
      stack = ws.stack([new, moved, target])
      found = ws.merge.evaluate_mixes(
        stack, np.eye(3), score, data, mesh=run.mesh
      )
      values = dict(zip(NUMBERS, (100 * np.asarray(found)).tolist()))
      barrier = paths.barrier(error, data, source, target, points=11)
      distance = sum(
        float(((x - y) ** 2).sum())
        for x, y in zip(jax.tree.leaves(old), jax.tree.leaves(new))
      )
      run.log(
        seed=seed,
        version=name,
        **values,
        gain=values["transferred"] - values["new"],
        barrier=100 * barrier.chord,
        distance=distance**0.5,
      )
      advance(seed + 1)


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Return Pearson's correlation over the last axis; 0 for a constant."""
  x, y = (z - z.mean(-1, keepdims=True) for z in (x, y))
  size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
  return (x * y).sum(-1) / np.where(size > 0, size, 1.0)


def _table(run: runs.Run, number: str) -> np.ndarray:
  """Return [S, versions] of a number, from the nearest version on."""
  return np.stack(
    [gather(run, number, version=name)[:, 0] for name in versions(run)], 1
  )


def versions(run: runs.Run) -> list[str]:
  """Return the versions, the nearest first."""
  return sorted(
    run.config.versions,
    key=lambda name: gather(run, "distance", version=name).mean(),
  )


def _correlated(values: np.ndarray) -> str:
  return said(estimates.correlation(values), "", 2)


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: transfer helps where versions are connected, and by that."""
  gain, barrier = _table(run, "gain"), _table(run, "barrier")
  related = [not run.config.versions[n].fresh for n in versions(run)]
  near, far = gain[:, related], gain[:, np.logical_not(related)]
  found = correlation(gain, barrier)
  within = correlation(near, barrier[:, related])
  text = (
    f"transfer adds {points(near.mean(1))} to later versions, mean over"
    f" {sum(related)}, {points(near[:, -1])} to the furthest of them and"
    f" {points(far.mean(1))} to an unrelated base; correlation of gain and"
    f" barrier over versions {_correlated(found)}, over later ones alone"
    f" {_correlated(within)}, over {len(gain)} seeds"
  )
  return text, every(*map(above, near.T), correlated(-found))


def table(run: runs.Run) -> runs.Table:
  """Return the numbers of each version, the nearest first."""
  columns = {"new": "base (%)"} | {n: f"{n} (%)" for n in NUMBERS[1:]}
  columns |= {n: n for n in ("gain", "barrier", "distance")}
  return {
    name: {
      label: intervals.mean_interval(gather(run, n, version=name)[:, 0])
      for n, label in columns.items()
    }
    for name in versions(run)
  }


def draw(run: runs.Run) -> Any:
  """Draw accuracies of the versions, and gains against barriers."""
  return figures.figure(_bars(run), _scatter(run), width=11.0, height=4.0)


def _bars(run: runs.Run) -> Panel:
  def draw(axes: Any) -> None:
    names = versions(run)
    for place, number in enumerate(NUMBERS):
      found = list(map(intervals.mean_interval, _table(run, number).T))
      x = np.arange(len(names)) + 0.12 * (place - 1)
      axes.vlines(
        x, [f.low for f in found], [f.high for f in found], COLOURS[place], lw=2
      )
      means = [f.mean for f in found]
      axes.plot(x, means, "o", color=COLOURS[place], label=number)
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.grid(axis="y")
    axes.legend()
    axes.set(ylabel="accuracy on the task (%)", title="Versions of the base")

  return draw


def _scatter(run: runs.Run) -> Panel:
  def draw(axes: Any) -> None:
    for place, name in enumerate(versions(run)):
      x, y = (gather(run, n, version=name)[:, 0] for n in ("barrier", "gain"))
      axes.plot(x, y, "o", color=COLOURS[place % 6], ms=5, label=name)
    axes.axhline(0.0, color=figures.INK, lw=0.7, ls=":")
    axes.grid()
    axes.legend()
    axes.set(
      xlabel="error barrier (points)",
      ylabel="points gained",
      title="Gain against barrier",
    )

  return draw


CLAIM = Claim(
  judge,
  draw,
  "Left: accuracy on the task of each version of the base, as it is, with what"
  " fine-tuning changed in the old version, and fine-tuned itself; bars are"
  " 95 % intervals over seeds. Right: the gain of transfer against the error"
  " barrier between the two fine-tuned models; a dot is a seed.",
)
