"""Many mixes of few models: `evaluate_mixes` against a loop, as ratios.

Both score K random convex mixes of M trained-size MLPs 784-256-256-10 on 10,000
images.  The loop builds a mix and scores it, through the same functions under
jit.  The floor is the matrix products after the first layer, for every mix, and
nothing else.  Run by `python -m benchmarks.population`.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks import contenders, report

WIDTHS = (784, 256, 256, 10)
EXAMPLES = 10_000


def problem(path: str, members: int, mixes: int) -> tuple[Any, ...]:
  """Return the stack, the coefficients [K, M], the score and the data."""
  import jax

  import weightspace as ws
  from weightspace import losses

  data = {k: jax.numpy.asarray(v[:EXAMPLES]) for k, v in np.load(path).items()}
  model = ws.models.build("mlp", hidden=WIDTHS[1:-1], classes=WIDTHS[-1])
  keys = jax.random.split(jax.random.key(0), members)
  stack = ws.stack([model.init(key, data["x"][:1]) for key in keys])
  weights = np.random.default_rng(0).dirichlet(np.ones(members), mixes)
  score = losses.of(model.apply, losses.accuracy)
  return stack, jax.numpy.asarray(weights, np.float32), score, data


def together(path: str, members: int, mixes: int) -> None:
  """Score all mixes by one call of `evaluate_mixes`."""
  import weightspace as ws

  stack, weights, score, data = problem(path, members, mixes)

  def run() -> None:
    ws.merge.evaluate_mixes(stack, weights, score, data).block_until_ready()

  run()
  contenders.serve(run)


def one_by_one(path: str, members: int, mixes: int) -> None:
  """Build and score each mix in a Python loop over compiled functions."""
  import jax

  import weightspace as ws

  stack, weights, score, data = problem(path, members, mixes)
  mix = jax.jit(ws.weighted_sum)
  scored = jax.jit(lambda params, data: score(params, data).mean())

  def run() -> None:
    values = [scored(mix(stack, row), data) for row in weights]
    jax.block_until_ready(values)

  run()
  contenders.serve(run)


def floor(path: str, members: int, mixes: int) -> None:
  """Do the products after the first layer for every mix."""
  import jax

  del path, members
  keys = jax.random.split(jax.random.key(0), 3)
  h = jax.random.normal(keys[0], (EXAMPLES, WIDTHS[1]))
  a = jax.random.normal(keys[1], WIDTHS[1:3])
  b = jax.random.normal(keys[2], WIDTHS[2:4])
  products = jax.jit(lambda h, a, b: (h @ a @ b)[0, 0])

  def run() -> None:
    jax.block_until_ready([products(h, a, b) for _ in range(mixes)])

  run()
  contenders.serve(run)


RUNS = {"together": together, "one_by_one": one_by_one, "mixes_floor": floor}


def section(options: argparse.Namespace, start: list[str], path: str) -> str:
  """Race the three; return a section of BENCHMARKS.md.

  Args:
    options: `models`, `mixes`, `repeats`.
    start: the command line of a contender, up to its name.
    path: an npz file with images x and labels y.
  """
  work = [path, str(options.models), str(options.mixes)]
  commands = {name: [*start, name, *work] for name in RUNS}
  turns = contenders.alternate(commands, options.repeats)
  medians = {name: contenders.median(all_) for name, all_ in turns.items()}
  own = medians["together"]
  rows = [
    (
      name,
      f"{1e3 * t.cpu / options.mixes:.1f}",
      f"{1e3 * t.wall / options.mixes:.1f}",
      f"{t.peak:.0f}",
      f"{t.cpu / own.cpu:.2f}",
      f"{t.wall / own.wall:.2f}",
    )
    for name, t in medians.items()
  ]
  head = ["", "CPU ms a mix", "wall ms a mix", "peak MiB"]
  head += ["CPU / together's", "wall / together's"]
  return (
    f"## Scoring many mixes\n\n{options.mixes} mixes of {options.models} MLPs"
    f" {'-'.join(map(str, WIDTHS))} on {EXAMPLES} images, accuracy per example;"
    f" medians of {options.repeats} alternated turns of warm processes."
    " together: `evaluate_mixes`; one_by_one: the loop; the target is at least"
    " 2. Floor: the matrix products after the first layer.\n\n"
    f"{report.table(head, rows)}\n\n{report.conditions('jax', 'jaxlib')}"
  )
