"""Matching: weight matching against the published loop, as ratios in one run.

`match_weights`; the published algorithm as a faithful host loop, one array
operation after the other; its authors' code, where a Python that runs it is
given; and the floor: the arithmetic of the products and the assignments of
`match_weights`, and nothing else.  Then many pairs in one call, the time of
tracing, and cost against size.

  python -m benchmarks.matching [--peer_python=... --peer_source=.../src]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import contenders, matching_cost, matching_work, report

TARGETS = {"mlp": 1.5, "resnet20x4": 3.0, "resnet20x8": 2.0}
START = ["-m", "benchmarks.matching", "--contender"]


def commands(
  names: list[str], model: str, options: argparse.Namespace, folder: str
) -> dict[str, list[str]]:
  """Return the command of each contender; the peer's, where it is given."""
  found = {n: [sys.executable, *START, n, model] for n in names}
  if options.peer_python and "published" in names:
    path = os.path.join(folder, f"{model}.npz")
    write_problem(path, model)
    peer = ["-m", "benchmarks.matching_peer", path, options.peer_source]
    found["peer"] = [options.peer_python, *peer]
  return found


def write_problem(path: str, model: str) -> None:
  """Write two models and their axes, for a Python without this package."""
  from weightspace import trees

  axes, a, b = matching_work.problem(model)
  held = {f"a:{n}": x for n, x in trees.named(a).items()}
  held |= {f"b:{n}": x for n, x in trees.named(b).items()}
  rows = {
    path: [n if n in axes.sizes and n not in axes.pins else None for n in row]
    for path, row in (
      (path, text.split()) for path, text in trees.named(axes.tree).items()
    )
  }
  np.savez(path, axes=json.dumps(rows), **held)


def first(command: list[str]) -> float:
  """Return the seconds of the first call in a fresh process."""
  done = subprocess.run(
    [*command, "--first"], capture_output=True, text=True, check=True
  )
  return float(done.stdout.split()[-1])


def share(model: str) -> float:
  """Return the share of a warm call that the assignments take."""
  run = matching_work.weightspace(model)
  run()
  began = time.perf_counter()
  taken = run().seconds["assignment"]
  return float(taken / (time.perf_counter() - began))


def rows(
  model: str, options: argparse.Namespace, folder: str
) -> list[tuple[str, ...]]:
  """Race on one model; return a row for each contender."""
  starts = commands(
    ["weightspace", "published", "floor"], model, options, folder
  )
  turns = contenders.alternate(starts, options.repeats)
  found = {name: contenders.median(all_) for name, all_ in turns.items()}
  own = found["weightspace"]
  result: list[tuple[str, ...]] = []
  for name, turn in found.items():
    cold = "" if name == "floor" else f"{first(starts[name]):.2f}"
    target = (
      str(TARGETS.get(model, "")) if name in ("published", "peer") else ""
    )
    result.append(
      (
        model,
        name,
        f"{turn.wall:.3f}",
        f"{turn.cpu:.3f}",
        f"{turn.wall / own.wall:.2f}",
        f"{turn.cpu / own.cpu:.2f}",
        target,
        f"{own.wall / turn.wall:.2f}" if name == "floor" else "",
        cold,
        f"{100 * share(model):.0f} %" if name == "weightspace" else "",
      )
    )
  return result


def pairs(model: str, repeats: int) -> str:
  """Race many pairs in one call against as many calls."""
  starts = {
    n: [sys.executable, *START, n, model] for n in ("together", "one_by_one")
  }
  turns = contenders.alternate(starts, repeats)
  found = {name: contenders.median(all_) for name, all_ in turns.items()}
  saved = found["one_by_one"].wall / found["together"].wall
  hidden = matching_work.MODELS[model][1]["hidden"]
  return f"{saved:.2f} (MLPs 784-{hidden[0]}x{len(hidden)}-10)"


def objectives(seeds: int) -> str:
  """Compare objectives with the loop's, in its order and in ours."""
  import weightspace as ws

  same, gain = 0, []
  for seed in range(seeds):
    axes, a, b = matching_work.problem("small", seed)
    _, reached = matching_work.loop(axes, a, b, matching_work.order)
    ours = ws.match.match_weights(
      axes, a, b, order=matching_work.order
    ).objective
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


def section(options: argparse.Namespace) -> str:
  """Measure all; return the section of BENCHMARKS.md."""
  head = ["model", "who", "wall s", "CPU s", "wall / ours", "CPU / ours"]
  head += ["aimed at", "ours / floor", "first call s", "in assignment"]
  table = []
  with tempfile.TemporaryDirectory() as folder:
    for model in options.models.split(","):
      table += rows(model, options, folder)
  saved = " and ".join(pairs(m, options.repeats) for m in ("mlp", "small"))
  matching_cost.draw(matching_cost.costs(), options.figure)
  peer = (
    "Peer: its authors' `weight_matching.py` in a JAX of its time (0.4.23)."
    if options.peer_python
    else "The authors' code runs on no current JAX: left out."
  )
  return (
    "## Matching weights\n\nTwo Gaussian models, drawn orders, medians of"
    f" {options.repeats} alternated turns of warm processes; the first call of"
    " a fresh process apart. Published: the loop of Git Re-Basin's algorithm 1,"
    f" an array operation at a time. {peer} Floor: the arithmetic of our"
    " products and our assignments, and nothing else; at most 1.3 is aimed at."
    f"\n\n{report.table(head, table)}\n\n"
    f"{matching_work.PAIRS} pairs in one call against as many calls, in wall"
    f" time: {saved}; 1.5 is aimed at. {objectives(options.seeds)}"
    f" {matching_cost.tracing()}\n\n"
    f"![Cost of matching by width and depth]({options.figure})\n\n"
    f"{report.conditions('jax', 'jaxlib', 'numpy', 'scipy')}"
  )


def contender(name: str, model: str, once: bool) -> None:
  """Take turns, or say how long the first call takes."""
  run = matching_work.RUNS[name](model)
  began = time.perf_counter()
  run()
  if once:
    return print(time.perf_counter() - began)
  contenders.serve(run)


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--models", default=",".join(TARGETS))
  parser.add_argument("--peer_python", help="has a JAX that runs the peer")
  parser.add_argument("--peer_source", help="the folder src of git-re-basin")
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--seeds", type=int, default=20)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--figure", default="docs/matching_cost.png")
  parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
  parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    name, model = options.contender
    return contender(name, model, options.first)
  text = section(options)
  print(text)
  report.write_section(options.out, "matching", text)


if __name__ == "__main__":
  main()
