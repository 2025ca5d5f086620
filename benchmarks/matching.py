"""Matching: weight matching against the published loop, as ratios in one run.

Both match Gaussian models, the hardest there are: `match_weights`; the
published algorithm as a faithful host loop, one array operation after the
other; and the floor, the same products and assignments as `match_weights` and
nothing else.
Then many pairs in one call, the time of tracing, and cost against size.

  python -m benchmarks.matching [--models=mlp,resnet20x4]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

from benchmarks import contenders, report

MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
  "mlp": ("mlp", {"hidden": (512, 512, 512)}, (28, 28, 1)),
  "resnet20x4": ("resnet", {"width": 4}, (32, 32, 3)),
  "resnet20x8": ("resnet", {"width": 8}, (32, 32, 3)),
  "small": ("mlp", {"hidden": (128, 128, 128)}, (28, 28, 1)),
}
TARGETS = {"mlp": 1.5, "resnet20x4": 3.0, "resnet20x8": 2.0}
START = ["-m", "benchmarks.matching", "--contender"]


def problem(name: str, seed: int = 0) -> tuple[Any, Any, Any]:
  """Return the axes and two Gaussian models."""
  import jax

  import weightspace as ws

  kind, hyper, image = MODELS[name]
  model = ws.models.build(kind, **hyper)
  x = jax.ShapeDtypeStruct((1, *image), np.float32)
  shapes = jax.eval_shape(model.module.init, jax.random.key(0), x)["params"]
  axes = ws.match.trace_axes(model.apply, shapes, x)

  def draw(seed: int) -> Any:
    stream = np.random.default_rng(seed)
    return jax.tree.map(
      lambda s: stream.normal(
        scale=np.prod(s.shape[:-1]) ** -0.5, size=s.shape
      ).astype(np.float32),
      shapes,
    )

  return axes, draw(2 * seed), draw(2 * seed + 1)


def weightspace(name: str) -> Callable[[], Any]:
  """Match by `match_weights`, in drawn orders."""
  import jax

  import weightspace as ws

  axes, a, b = problem(name)
  return lambda: ws.match.match_weights(axes, a, b, jax.random.key(0))


def published(name: str) -> Callable[[], Any]:
  """Match by the published loop, in the same orders."""
  axes, a, b = problem(name)
  return lambda: loop(axes, a, b, drawn)


def drawn(names: list[str], sweep: int) -> list[str]:
  """Return the names in the order that `match_weights` draws for key 0."""
  import jax

  words = np.asarray(jax.random.key_data(jax.random.key(0))).ravel().tolist()
  stream = np.random.Generator(np.random.Philox([*words, sweep]))
  return [names[k] for k in stream.permutation(len(names))]


def loop(axes: Any, a: Any, b: Any, order: Any) -> tuple[Any, float]:
  """Match as algorithm 1 of Git Re-Basin is published, step by step.

  Every sweep solves for every permutation; each term takes the second model
  along all its other axes; the gain is read off products with an identity.

  Returns:
    The permutations, and the objective of the last solve of each.
  """
  import jax.numpy as jnp

  from weightspace import trees

  left, right = trees.named(a), trees.named(b)
  words = {p: text.split() for p, text in trees.named(axes.tree).items()}
  names = [n for n in axes.sizes if n not in axes.pins]
  perms = {n: jnp.arange(axes.sizes[n]) for n in names}

  def permuted(path: str, skip: int) -> Any:
    w = jnp.asarray(right[path])
    for axis, word in enumerate(words[path]):
      if word in perms and axis != skip:
        w = jnp.take(w, perms[word], axis=axis)
    return w

  for sweep in range(100):
    progress = False
    for name in order(names, sweep):
      n = axes.sizes[name]
      gains = jnp.zeros((n, n))
      for path, row in words.items():
        for axis, word in enumerate(row):
          if word == name:
            u = jnp.moveaxis(jnp.asarray(left[path]), axis, 0).reshape(n, -1)
            v = jnp.moveaxis(permuted(path, axis), axis, 0).reshape(n, -1)
            gains += u @ v.T
      _, found = scipy.optimize.linear_sum_assignment(
        np.asarray(gains), maximize=True
      )
      before = jnp.vdot(gains, jnp.eye(n)[perms[name]])
      after = jnp.vdot(gains, jnp.eye(n)[found, :])
      progress = progress or bool(after > before + 1e-12)
      perms[name] = jnp.asarray(found)
    if not progress:
      break
  total = sum(
    float(np.vdot(np.asarray(left[p], np.float64), np.asarray(permuted(p, -1))))
    for p in words
  )
  return perms, total


def floor(name: str) -> Callable[[], Any]:
  """Do the products and the assignments of `match_weights`, recorded before."""
  from weightspace.match import assignment, grams

  products: list[Any] = []
  problems: list[Any] = []
  gram, solve = grams.gram, assignment.solve

  def record_gram(a: Any, b: Any, axis: int, batch: Any) -> Any:
    products.append((a, b, axis, batch))
    return gram(a, b, axis, batch)

  def record_solve(gains: Any, solver: str = "scipy") -> Any:
    problems.append(np.array(gains))
    return solve(gains, solver)

  run = weightspace(name)
  grams.gram, assignment.solve = record_gram, record_solve
  run()
  grams.gram, assignment.solve = gram, solve

  def again() -> None:
    for item in products:
      gram(*item)
    for gains in problems:
      solve(gains)

  return again


def together(name: str) -> Callable[[], Any]:
  """Match sixteen pairs in one call."""
  import weightspace as ws

  axes, a, models = _pairs(name)
  return lambda: ws.match.match_pairs(axes, a, models)


def one_by_one(name: str) -> Callable[[], Any]:
  """Match sixteen pairs in sixteen calls."""
  import weightspace as ws

  axes, a, models = _pairs(name)
  return lambda: [ws.match.match_weights(axes, a, b) for b in models]


def _pairs(name: str) -> Any:
  axes, a, _ = problem(name)
  return axes, a, [problem(name, seed)[2] for seed in range(16)]


RUNS = {
  "weightspace": weightspace,
  "published": published,
  "floor": floor,
  "together": together,
  "one_by_one": one_by_one,
}


def race(names: list[str], model: str, repeats: int) -> dict[str, Any]:
  """Return the median turn of each contender."""
  commands = {n: [sys.executable, *START, n, model] for n in names}
  turns = contenders.alternate(commands, repeats)
  return {name: contenders.median(all_) for name, all_ in turns.items()}


def first(name: str, model: str) -> float:
  """Return the seconds of the first call in a fresh process."""
  command = [sys.executable, *START, name, model, "--first"]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return float(done.stdout.split()[-1])


def section(options: argparse.Namespace) -> str:
  """Race on each model; return the section of BENCHMARKS.md."""
  rows = []
  for model in options.models.split(","):
    found = race(["weightspace", "published", "floor"], model, options.repeats)
    own, other, least = (
      found[n] for n in ("weightspace", "published", "floor")
    )
    cold = [first(n, model) for n in ("weightspace", "published")]
    rows.append(
      (
        model,
        f"{own.wall:.3f}",
        f"{other.wall / own.wall:.2f}",
        TARGETS.get(model, "-"),
        f"{own.wall / least.wall:.2f}",
        f"{own.cpu:.3f}",
        f"{other.cpu / own.cpu:.2f}",
        f"{cold[0]:.2f}",
        f"{cold[1]:.2f}",
      )
    )
  head = ["", "wall s", "published / ours", "target", "ours / floor", "CPU s"]
  head += ["CPU published / ours", "first call s", "published first call s"]
  pairs = race(["together", "one_by_one"], "small", options.repeats)
  saved = pairs["one_by_one"].wall / pairs["together"].wall
  return (
    "## Matching weights\n\nGaussian models, drawn orders, medians of"
    f" {options.repeats} alternated turns of warm processes. Published: the"
    " loop of Git Re-Basin's algorithm 1, an array operation at a time. Floor:"
    " the products and assignments of our run and nothing else; target 1.3."
    f"\n\n{report.table(head, rows)}\n\n"
    f"Sixteen pairs of MLPs 784-128x3-10 in one call: {saved:.2f} times less"
    f" wall time than sixteen calls (target 1.5). {objectives(options.seeds)}"
    f" {tracing()}\n\n{report.conditions('jax', 'numpy', 'scipy')}"
  )


def objectives(seeds: int) -> str:
  """Compare objectives with the loop's, in its order and in ours."""
  import weightspace as ws

  same, gain = 0, []
  for seed in range(seeds):
    axes, a, b = problem("small", seed)
    _, reached = loop(axes, a, b, drawn)
    ours = ws.match.match_weights(axes, a, b, order=drawn).objective
    plain = ws.match.match_weights(axes, a, b).objective
    same += abs(ours - reached) < 1e-5 * abs(reached)
    gain.append((plain - reached) / reached)
  found = ws.intervals.mean_interval(gain)
  return (
    f"Objective of MLPs 784-128x3-10 in the loop's order: equal on {same} of"
    f" {seeds} seeds; in the default order its share more is"
    f" {100 * found.mean:+.2f} % [{100 * found.low:+.2f},"
    f" {100 * found.high:+.2f}]."
  )


def tracing() -> str:
  """Time the tracing of the axes of models of real size."""
  import jax

  import weightspace as ws

  parts = []
  tokens = jax.ShapeDtypeStruct((1, 64), np.int32)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  wide = {"vocab": 50_000, "width": 2048, "heads": 16, "kv_heads": 4}
  for label, name, hyper, x in (
    ("ResNet20", "resnet", {}, image),
    ("a transformer of 12 layers", "lm", {"layers": 12}, tokens),
    (
      "one of 10^9 parameters, from shapes",
      "lm",
      wide | {"layers": 21},
      tokens,
    ),
  ):
    model = ws.models.build(name, **hyper)
    shapes = jax.eval_shape(model.module.init, jax.random.key(0), x)["params"]
    began = time.perf_counter()
    ws.match.trace_axes(model.apply, shapes, x)
    parts.append(f"{label} {time.perf_counter() - began:.2f} s")
  return f"Tracing axes: {', '.join(parts)} (target 2 s)."


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--models", default="mlp,resnet20x4,resnet20x8")
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--seeds", type=int, default=20)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
  parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    run = RUNS[options.contender[0]](options.contender[1])
    if options.first:
      began = time.perf_counter()
      run()
      return print(time.perf_counter() - began)
    run()
    return contenders.serve(run)
  text = section(options)
  print(text)
  report.write_section(options.out, "matching", text)


if __name__ == "__main__":
  main()
