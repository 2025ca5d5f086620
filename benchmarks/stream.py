"""Merges from files to files, against mergekit's own command and the floor.

Random Llamas in bfloat16 on disk; every contender is a whole process that
reads them and writes the merged one, and turns alternate.  The floor reads
every input once and writes one output.  mergekit is left out where it is not
installed.

  python -m benchmarks.stream [--mergekit_python=...] [--params=300e6]
    [--scaling]
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

import yaml

from benchmarks import report, stream_figure, stream_work

COUNTS = (2, 4, 8, 16)  # models, for the scaling
# method: (mergekit's parameters, models, how many times fewer CPU seconds)
ROWS: dict[str, tuple[dict[str, float], int, int]] = {
  "linear": ({"weight": 1.0}, 3, 3),
  "task_arithmetic": ({"weight": 0.3}, 3, 3),
  "slerp": ({"t": 0.4}, 1, 1),
  "ties": ({"weight": 1.0, "density": 0.2}, 3, 12),
  "dare_ties": ({"weight": 1.0, "density": 0.5}, 3, 6),
}
FOLDING = ("linear", "task_arithmetic")
WHO = ("weightspace", "mergekit", "floor")
Costs = dict[str, stream_work.Cost]


def configure(folder: pathlib.Path, method: str, models: int) -> pathlib.Path:
  """Write the configuration of a merge, and the list of its inputs."""
  names = [f"m{number + 1}" for number in range(models)]
  config: dict[str, Any] = {"merge_method": method}
  config["parameters"] = ROWS[method][0]
  config["models"] = [{"model": str(folder / name)} for name in names]
  config["dtype"] = "bfloat16"
  if method != "linear":
    config["base_model"] = str(folder / "base")
    names.append("base")
  path = folder / f"{method}.yml"
  path.write_text(yaml.safe_dump(config))
  inputs = [str(folder / name / "model.safetensors") for name in names]
  path.with_suffix(".json").write_text(json.dumps(inputs))
  return path


def race(
  options: argparse.Namespace,
  folder: pathlib.Path,
  method: str,
  models: int,
  names: tuple[str, ...] = WHO,
) -> tuple[Costs, stream_work.Cost]:
  """Return the median cost of each contender, and our first turn's.

  mergekit has one turn: it takes minutes where the others take seconds.
  """
  config = configure(folder, method, models)
  turns: dict[str, list[stream_work.Cost]] = {name: [] for name in names}
  for turn in range(options.repeats):
    for name in names:
      if turn and name == "mergekit":
        continue
      words = stream_work.command(
        name, options.mergekit_python, config, folder / f"out-{name}"
      )
      turns[name].append(stream_work.measured(words, options.environment))
  medians = {
    name: stream_work.Cost(*map(statistics.median, zip(*costs)))
    for name, costs in turns.items()
  }
  return medians, turns["weightspace"][0]


def ready(options: argparse.Namespace) -> Costs:
  """Return what it costs each contender to get ready."""
  found = {}
  for name in options.who:
    words = stream_work.imports(name, options.mergekit_python)
    costs = [stream_work.measured(words, options.environment) for _ in "ab"]
    found[name] = costs[-1]
  return found


def methods(
  options: argparse.Namespace, folder: pathlib.Path, start: Costs
) -> list[list[str]]:
  """Return the table's lines, and print them as they come."""
  lines = []
  for method in options.rows:
    _, models, aim = ROWS[method]
    costs, first = race(options, folder, method, models, options.who)
    inputs = json.loads((folder / f"{method}.json").read_text())
    moved = sum(map(os.path.getsize, [*inputs, inputs[0]])) / 1e9
    net = {n: max(c.cpu - start[n].cpu, 0.01) for n, c in costs.items()}
    wall = {n: max(c.wall - start[n].wall, 0.01) for n, c in costs.items()}
    for name, cost in costs.items():
      numbers = [f"{net[name]:.2f}", f"{wall[name]:.2f}", f"{cost.peak:.0f}"]
      numbers += [f"{moved / wall[name]:.2f}"]
      numbers += [f"{wall[name] / wall['floor']:.1f}"]
      peer = f"{net['mergekit'] / net[name]:.1f}" if "mergekit" in net else "-"
      numbers += [peer, f"{aim}" if name == "weightspace" else ""]
      lines.append([method, str(models), name, *numbers])
      print(*lines[-1], flush=True)
    print("first turn", method, first, flush=True)
    if method != "dare_ties":  # its masks are other draws
      for line, share in zip(
        lines[-len(costs) :], agreement(options, folder, method)
      ):
        line.append(f"{share:.1e}")
        print(method, line[2], "beyond one ulp", line[-1], flush=True)
  return lines


def agreement(
  options: argparse.Namespace, folder: pathlib.Path, method: str
) -> list[float]:
  """Return the share of entries beyond one ulp of the float32 answer."""
  config = folder / f"{method}.yml"
  text = config.read_text().replace("dtype: bfloat16", "dtype: float32")
  config = config.with_stem("float32")
  config.write_text(text)
  out = folder / "out-float32"
  words = stream_work.command("weightspace", None, config, out)
  stream_work.measured(words, options.environment)
  names = [name for name in options.who if name != "floor"]
  return [
    float(stream_work.apart("compare", folder / f"out-{name}", out))
    for name in names
  ]


def scaling(options: argparse.Namespace) -> dict[str, Any]:
  """Return our cost by number of models and of parameters."""
  found: dict[str, list[Any]] = {"models": [], "parameters": []}
  whole = int(options.params)
  with tempfile.TemporaryDirectory(dir=options.scratch) as name:
    folder = pathlib.Path(name)
    stream_work.apart("write", folder, whole // 5, COUNTS[-1])
    for method in FOLDING:
      for count in COUNTS:
        costs, _ = race(
          options, folder, method, count, ("weightspace", "floor")
        )
        found["models"].append((method, count, costs))
        print(method, count, costs, flush=True)
  for params in (whole // 100, whole // 30, whole // 10, whole // 3):
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
      folder = pathlib.Path(name)
      stream_work.apart("write", folder, params, 3)
      for method in ("linear", "ties"):
        costs, _ = race(options, folder, method, 3, options.who)
        found["parameters"].append((method, params, costs))
        print(method, params, costs, flush=True)
  return found


HEAD = ["method", "models", "who", "CPU s", "wall s", "peak MiB", "GB/s"]
HEAD += ["wall / floor's", "mergekit's CPU / this", "aimed at"]
HEAD += ["beyond one ulp of float32"]


def main() -> None:
  """Run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--mergekit_python", default=sys.executable)
  parser.add_argument("--params", type=float, default=300e6)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--rows", nargs="*", default=list(ROWS))
  parser.add_argument("--scaling", action="store_true")
  parser.add_argument("--scratch", help="where the models are written")
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--figure", default="docs/stream_cost.png")
  options = parser.parse_args()
  there = pathlib.Path(options.mergekit_python).parent / "mergekit-yaml"
  options.who = WHO if there.exists() else ("weightspace", "floor")
  with tempfile.TemporaryDirectory(dir=options.scratch) as name:
    folder = pathlib.Path(name)
    root = str(pathlib.Path(__file__).parents[1])
    options.environment = dict(os.environ) | {
      "XDG_CACHE_HOME": name,
      "JAX_COMPILATION_CACHE_DIR": f"{name}/xla",
      "PYTHONPATH": root,
      "HF_HUB_OFFLINE": "1",
    }
    start = ready(options)
    stream_work.apart("write", folder, int(options.params), 3)
    lines = methods(options, folder, start)
    more = ""
    if options.scaling:
      found = scaling(options)
      more = f"\n\n{stream_figure.memory(found)}"
      if stream_figure.draw(found, start, options.figure):
        more += f"\n\n![Cost of streamed merges]({options.figure})"
  lines = [line + [""] * (len(HEAD) - len(line)) for line in lines]
  before = ", ".join(f"{n} {c.cpu:.1f} CPU s" for n, c in start.items())
  text = (
    f"## Merging files\n\nLlamas of {options.params / 1e6:g}M parameters in"
    " bfloat16, from disk to disk, whole processes, medians of"
    f" {options.repeats} alternated turns (one of mergekit's). Excluded:"
    f" imports ({before}). Included: reading, writing to disk (ours and the"
    " floor with fsync), compiling (cached from the second turn on), the"
    f" parents' sha256 (as compiling).\n\n{report.table(HEAD, lines)}{more}\n\n"
    f"{report.conditions('jax', 'jaxlib')}"
  )
  print(text)
  report.write_section(options.out, "stream", text)


if __name__ == "__main__":
  main()
