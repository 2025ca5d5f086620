"""Sweeps: what launchers, scans and sharding cost, as ratios in one run.

The local launcher against bare interpreters; two workers of one thread against
one of two on 16 units; the expansion and scan of 10,000 units; the collection
of 1,000 runs; and one unit on 1 to 8 simulated devices of one and two
processes, which must find the same.

  python -m benchmarks.sweep [--data_dir=...]
"""

import argparse
import contextlib
import functools
import pathlib
import statistics
import tempfile
from collections.abc import Callable

import numpy as np

from benchmarks import report, sweep_work

UNITS = 20  # of a bare start each, in a turn
SMALL = ("--config.seeds=1", "--config.members.count=4")
SOUP = ["-m", "experiments.soup", "--config=configs/model_soups.py"]
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 8))


def overhead(folder: pathlib.Path, repeats: int) -> str:
  """Race the launcher against bare starts, in turns."""
  turns = []
  for turn in range(repeats):
    at = folder / f"start{turn}"
    pair = sweep_work.bare(at, UNITS), sweep_work.launched(at, UNITS)
    turns.append(pair)
  both = np.median(np.array(turns), axis=0)  # [bare or launched, CPU or wall]
  names = ("bare interpreter", "`local`, one worker")
  rows = [
    (name, *(f"{1000 * x:.1f}" for x in row), *(f"{x:.2f}" for x in ratio))
    for name, row, ratio in zip(names, both, both / both[0])
  ]
  head = ["", "CPU ms a unit", "wall ms a unit", "CPU ratio", "wall ratio"]
  return (
    f"Start of {UNITS} units that only write a result, one after another;"
    f" medians of {repeats} turns. The target is below"
    f" 1.1.\n\n{report.table(head, rows)}"
  )


def workers(folder: pathlib.Path, data_dir: str | None) -> str:
  """Race two workers of a core each against one of both."""
  config, rest = "configs/model_soups.py", [*SMALL]
  if data_dir:
    config = "configs/soups_mnist_uniform.py"
    rest += [f"--data_dir={data_dir}", "--config.examples=2000"]
  run = functools.partial(sweep_work.swept, config=config, rest=rest)
  run(folder / "warm", workers=1, seeds=range(1))
  took: dict[int, list[float]] = {2: [], 1: []}
  each: dict[int, list[float]] = {2: [], 1: []}
  for part in range(4):  # in turns, as what else runs here changes
    for count in took:
      seeds = range(4 * part, 4 * part + 4)
      at = folder / f"{count}-{part}"
      seconds, units = run(at, workers=count, seeds=seeds)
      took[count].append(seconds)
      each[count] += units
  best = min(map(sum, took.values()))
  names = {2: "two workers, a core each", 1: "one worker, both cores"}
  rows = [
    (
      label,
      f"{sum(took[count]):.1f}",
      f"{statistics.median(each[count]):.1f}",
      f"{sum(took[count]) / best:.2f}",
    )
    for count, label in names.items()
  ]
  table = report.table(["", "s in all", "s a unit", "ratio"], rows)
  source = "MNIST, 2,000 images" if data_dir else "digits"
  return (
    f"16 units (a soup of 4 MLPs, {source}), compiled programs warm, in turns"
    f" of 4 units; a worker for each core is the default.\n\n{table}"
  )


def bulk(folder: pathlib.Path) -> str:
  """Time what grows with a sweep; it needs a run that is done."""
  expanded, scanned = sweep_work.scans(folder / "scan", 10_000)
  (example,) = (folder / "1x1").glob("*/*/result.json")
  with contextlib.redirect_stdout(None):
    seconds = sweep_work.collected(folder / "many", example.parent, 1000)
  page = (folder / "many" / "index.html").stat().st_size / 2**20
  rows = [
    ("expand 10,000 units", f"{expanded:.2f}", ""),
    ("scan 10,000 units, half of them done", f"{scanned:.2f}", "2 together"),
    (f"collect 1,000 runs ({page:.0f} MiB page)", f"{seconds:.2f}", "10"),
  ]
  return report.table(["", "s", "target"], rows)


def shares(folder: pathlib.Path) -> str:
  """Run one unit on several devices and processes."""
  found = {}
  for hosts, devices in LAYOUTS:
    words = [*SOUP, "--config.seeds=1"]
    sweep_work.shared_out(folder / f"w{hosts}x{devices}", words, hosts, devices)
    found[hosts, devices] = sweep_work.shared_out(
      folder / f"{hosts}x{devices}", words, hosts, devices
    )
  first = found[1, 1]
  rows = [
    (
      hosts,
      devices,
      f"{seconds:.1f}",
      f"{seconds / first[0]:.2f}",
      f"{result['speed']['step ms']:.2f}",
      f"{sweep_work.spread(first[1], lines):.1e}",
    )
    for (hosts, devices), (seconds, lines, result) in found.items()
  ]
  head = ["processes", "devices", "s", "ratio", "step ms", "largest difference"]
  return (
    "One unit (a soup of 8 MLPs on digits, compiled programs warm)"
    " on simulated devices, which share the cores: the ratio is overhead. The"
    " difference is over all that is logged; accuracies are in"
    f" percent.\n\n{report.table(head, rows)}"
  )


def main() -> None:
  """Run the benchmark and write its sections, each when it is done."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", help="holds MNIST; else digits")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--out", default="BENCHMARKS.md")
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    parts: dict[str, Callable[[], str]] = {
      "Sweeps: starting units": lambda: overhead(folder, options.repeats),
      "Sweeps: a unit on several devices and processes": lambda: shares(folder),
      "Sweeps: many units": lambda: bulk(folder),
      "Sweeps: workers or threads": lambda: workers(folder, options.data_dir),
    }
    for title, part in parts.items():
      text = f"## {title}\n\n{part()}\n\n{report.conditions('jax', 'jaxlib')}"
      print(text, flush=True)
      report.write_section(options.out, title.split(": ")[1], text)


if __name__ == "__main__":
  main()
