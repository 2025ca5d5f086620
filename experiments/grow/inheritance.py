"""Studies of networks that inherit: from a teacher, and from shared stages.

>>> sorted(STUDIES)
['learngene', 'tinyclip']
"""

from typing import Any

import jax
import numpy as np

import weightspace as ws
from experiments.bench import text
from experiments.grow import bed
from experiments.run import runs
from weightspace import grow
from weightspace.types import Data, Stack

UNTUNED, TUNED, STEPS = "untuned (%)", "accuracy (%)", "steps to the loss"
LOSS = "distillation loss"


def teacher(run: runs.Run, train: Data) -> tuple[Stack, Data]:
  """Train the teachers; return them, and the images with their logits."""
  config, features = run.config, train["x"].shape[-1]
  start = bed.starts(
    run, lambda key: bed.residual(key, features, **config.teacher), 0
  )
  loss = bed.labelled(bed.apply_residual)
  stack = bed.fit(run, loss, start, train, config.taught).params
  logits = bed.outputs(bed.apply_residual, stack, train["x"])
  return stack, train | {"t": logits}


def tinyclip(run: runs.Run) -> text.Lines:
  """Distil a teacher into students that begin anew, or as parts of it.

  Steps are counted until the smoothed training loss is that of the student from
  scratch at its end; all students see the same batches.
  """
  config = run.config
  train, test = bed.pictures(run)
  teachers, train = teacher(run, train)
  features = train["x"].shape[-1]
  axes = bed.axes_of(bed.apply_residual, teachers, train["x"])
  sizes = grow.sizes(axes, config.student.width / config.teacher.width)
  order = grow.spaced(config.teacher.blocks, config.student.blocks)

  def cut(params: Any, index: Any) -> Any:
    return grow.inherit(axes, params, index, bed.PATTERN, order)

  def scored(params: Any) -> Any:
    squares = jax.tree.map(lambda x: np.square(np.asarray(x)), params)
    return grow.best(axes, grow.unit_scores(axes, squares), sizes)

  students = {
    "scratch": bed.starts(
      run, lambda key: bed.residual(key, features, **config.student), 1
    ),
    "inherited": jax.vmap(lambda params: cut(params, sizes))(teachers),
    "inherited and aligned": ws.stack(
      [cut(params, scored(params)) for params in ws.unstack(teachers)]
    ),
  }
  target = None
  for name, start in students.items():
    before = bed.accuracy(bed.apply_residual, start, test)
    loss = bed.distilled(bed.apply_residual)
    fitted = bed.fit(run, loss, start, train, config.distilled, 1)
    smooth = smoothed(fitted.losses, config.window)
    target = smooth[:, -1] if target is None else target
    reached = smooth <= target[:, None]
    steps = np.where(
      reached.any(1), reached.argmax(1) + config.window, smooth.shape[1] * 10
    )
    after = bed.accuracy(bed.apply_residual, fitted.params, test)
    yield from text.lines(name, {STEPS: steps, UNTUNED: before, TUNED: after})
    for at in range(0, smooth.shape[1], config.stride):
      yield from text.lines(name, {LOSS: smooth[:, at]}, at=at + config.window)


def smoothed(losses: np.ndarray, window: int) -> np.ndarray:
  """Return means over `window` steps, [M, T - window + 1].

  >>> smoothed(np.arange(4.0).reshape(1, 4, 1), 2).tolist()
  [[0.5, 1.5, 2.5]]
  """
  steps = losses.reshape(-1, losses.shape[-1]).astype(np.float64)
  total = np.cumsum(np.concatenate([0 * steps[:1], steps]), 0)
  return ((total[window:] - total[:-window]) / window).T


def learngene(run: runs.Run) -> text.Lines:
  """Distil stages whose blocks are shared; expand them to other depths."""
  config, pattern = run.config, bed.PATTERN
  train, test = bed.pictures(run)
  _, train = teacher(run, train)
  features = train["x"].shape[-1]
  shape = {"width": config.teacher.width, "hidden": config.teacher.hidden}

  def make(blocks: int) -> Any:
    return lambda key: bed.residual(key, features, blocks=blocks, **shape)

  def order(depth: int) -> list[int]:
    return [k // (depth // config.stages) for k in range(depth)]

  def shared(params: Any, batch: Any) -> jax.Array:
    whole = grow.restack(params, pattern, order(config.shared))
    return bed.distilled(bed.apply_residual)(whole, batch)

  start = bed.starts(run, make(config.stages), 1)
  genes = bed.fit(run, shared, start, train, config.distilled, 1).params
  for depth in config.depths:
    expanded = grow.restack(genes, pattern, order(depth))
    scratch = bed.starts(run, make(depth), 1 + depth)
    for name, stack in (("expanded", expanded), ("scratch", scratch)):
      before = bed.accuracy(bed.apply_residual, stack, test)
      loss = bed.labelled(bed.apply_residual)
      tuned = bed.fit(run, loss, stack, train, config.tuned, 2).params
      after = bed.accuracy(bed.apply_residual, tuned, test)
      yield from text.lines(
        f"{name}, {depth} blocks", {TUNED: after, UNTUNED: before}
      )


STUDIES = {"learngene": learngene, "tinyclip": tinyclip}
