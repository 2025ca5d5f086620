"""Searches over coefficients: many mixes of task vectors, as ratios in one run.

Both score K random coefficient vectors of six task vectors and their base:
`together` by one `evaluate_mixes`, `one_by_one` by building and scoring each
mix through compiled functions, as a search by checkpoints does without even
the writing.  On an MLP, a convolutional network and a language model, for small
and larger batches.

  python -m benchmarks.search
"""

import argparse
import sys
from typing import Any

import numpy as np

from benchmarks import contenders, report

VECTORS = 6
CASES = {  # examples
  "mlp": (32, 1000),
  "cnn": (1, 8, 128),
  "lm": (1, 16),
}
NUMBERS = (10, 100, 1000)  # of mixes, in the figure
START = ["-m", "benchmarks.search", "--contender"]


def problem(case: str, examples: int, mixes: int) -> tuple[Any, ...]:
  """Return base and models as one stack, weights, score and data."""
  import jax

  import weightspace as ws
  from weightspace import losses

  key = jax.random.key(0)
  if case == "lm":
    model = ws.models.build("lm", vocab=64, width=64, layers=2)
    x = jax.random.randint(key, (examples, 32), 0, 64)
    y = x
  elif case == "cnn":
    model = ws.models.build("vgg", widths=(16, 32), depths=(1, 1))
    x = jax.random.normal(key, (examples, 28, 28, 1))
    y = jax.numpy.zeros(examples, int)
  else:
    model = ws.models.build("mlp", hidden=(256, 256))
    x = jax.random.normal(key, (examples, 784))
    y = jax.numpy.zeros(examples, int)
  keys = jax.random.split(key, VECTORS + 1)
  stack = ws.stack([model.init(k, x[:1]) for k in keys])
  weights = np.random.default_rng(0).uniform(0, 1, (mixes, VECTORS))
  weights = np.concatenate([weights, 1 - weights.sum(1, keepdims=True)], 1)
  score = losses.of(model.apply, losses.accuracy)
  return stack, jax.numpy.asarray(weights, "float32"), score, {"x": x, "y": y}


def together(case: str, examples: int, mixes: int) -> None:
  """Score all mixes by one call."""
  import weightspace as ws

  stack, weights, score, data = problem(case, examples, mixes)

  def run() -> None:
    ws.merge.evaluate_mixes(stack, weights, score, data).block_until_ready()

  run()
  contenders.serve(run)


def one_by_one(case: str, examples: int, mixes: int) -> None:
  """Build and score each mix in a Python loop over compiled functions."""
  import jax

  import weightspace as ws

  stack, weights, score, data = problem(case, examples, mixes)
  mix = jax.jit(ws.weighted_sum)
  scored = jax.jit(lambda params, data: score(params, data).mean())

  def run() -> None:
    values = [float(scored(mix(stack, row), data)) for row in weights]
    assert len(values) == mixes

  run()
  contenders.serve(run)


RUNS = {"together": together, "one_by_one": one_by_one}


def race(case: str, examples: int, mixes: int, repeats: int) -> Any:
  """Return the median turn of each contender."""
  work = [case, str(examples), str(mixes)]
  commands = {name: [sys.executable, *START, name, *work] for name in RUNS}
  turns = contenders.alternate(commands, repeats)
  return {name: contenders.median(all_) for name, all_ in turns.items()}


def scoring(mixes: int, repeats: int) -> str:
  """Race both in each case; return a section."""
  rows = []
  for case, sizes in CASES.items():
    for examples in sizes:
      found = race(case, examples, mixes, repeats)
      own = found["together"]
      other = found["one_by_one"]
      rows.append(
        (
          f"{case}, {examples}",
          f"{1e3 * own.wall / mixes:.2f}",
          f"{1e3 * other.wall / mixes:.2f}",
          f"{other.cpu / own.cpu:.2f}",
          f"{other.wall / own.wall:.2f}",
        )
      )
  columns = ["model, examples", "together, ms a mix", "one by one, ms a mix"]
  columns += ["CPU ratio", "wall ratio"]
  return (
    f"## Searching coefficients\n\n{mixes} mixes of {VECTORS} task vectors,"
    " accuracy per example; no checkpoint is written by either. Ratios"
    " are one by one over together; the target is 3 where the first layer is"
    " linear in the parameters or the batch is small. Where layers after the"
    " first take the time, both do the same products, and the ratio goes to"
    f" one. Medians of {repeats} alternated turns of warm processes.\n\n"
    f"{report.table(columns, rows)}\n\n{report.conditions('jax', 'jaxlib')}"
  )


def draw(path: str) -> None:
  """Draw cost against the number of mixes, on log axes."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(figsize=(5.5, 4.0), layout="constrained")
  for case, examples in (("mlp", 32), ("cnn", 1), ("lm", 1)):
    found = [race(case, examples, n, 3) for n in NUMBERS]
    for name, style in (("together", "-o"), ("one_by_one", "--s")):
      wall = [turn[name].wall for turn in found]
      label = f"{case}, {examples}: {name.replace('_', ' ')}"
      axes.loglog(NUMBERS, wall, style, label=label)
  axes.grid(which="both", alpha=0.3)
  axes.legend(fontsize=8)
  axes.set(
    xlabel="coefficient vectors",
    ylabel="seconds",
    title=f"Scoring mixes of {VECTORS} task vectors",
  )
  figure.savefig(path, dpi=120)


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--mixes", type=int, default=1000)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--figure", default="docs/search_cost.png")
  parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    name, case, *sizes = options.contender
    return RUNS[name](case, *map(int, sizes))
  section = scoring(options.mixes, options.repeats)
  print(section)
  report.write_section(options.out, "search", section)
  draw(options.figure)


if __name__ == "__main__":
  main()
