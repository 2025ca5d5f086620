"""Sweeps: what launchers, scans and sharding cost, as ratios in one run.

The local launcher against bare interpreters; two workers of one thread against
one of two on 16 units; the expansion and scan of 10,000 units; the collection
of 1,000 runs; and one unit on 1 to 8 simulated devices of one and two
processes, which must find the same.

  python -m benchmarks.sweep [--data_dir=...]
"""

import argparse
import contextlib
import pathlib
import statistics
import tempfile

from benchmarks import report, sweep_work

UNITS = 20  # of a bare start each, in a turn
SMALL = ("--config.seeds=1", "--config.members.count=4")
SOUP = ["-m", "experiments.soup", "--config=configs/model_soups.py"]
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 8))


def overhead(folder: pathlib.Path, repeats: int) -> str:
  """Race the launcher against bare starts, in turns."""
  turns = []
  for turn in range(repeats):
    at = folder / str(turn)
    pair = sweep_work.bare(at, UNITS), sweep_work.launched(at, UNITS)
    turns.append(pair)
  plain, unit = (statistics.median(row) for row in zip(*turns))
  ratio = statistics.median(b / a for a, b in turns)
  head = ["", "ms a unit", "ratio"]
  rows = [
    ("bare interpreter", f"{1000 * plain:.1f}", "1.00"),
    ("`local`, one worker", f"{1000 * unit:.1f}", f"{ratio:.2f}"),
  ]
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
  sweep_work.swept(folder / "warm", config, rest, 2, seeds=1)
  rows = []
  for count, label in ((2, "two workers, a core each"), (1, "one, both cores")):
    seconds, each = sweep_work.swept(folder / str(count), config, rest, count)
    row = (label, f"{seconds:.1f}", f"{statistics.median(each):.1f}")
    rows.append((seconds, row))
  best = min(seconds for seconds, _ in rows)
  table = report.table(
    ["", "s in all", "s a unit", "ratio"],
    [(*row, f"{seconds / best:.2f}") for seconds, row in rows],
  )
  source = "MNIST, 2,000 images" if data_dir else "digits"
  return (
    f"16 units (a soup of 4 MLPs, {source}), compiled programs warm; a worker"
    f" for each core is the default.\n\n{table}"
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
  """Run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", help="holds MNIST; else digits")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--out", default="BENCHMARKS.md")
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    parts = ["## Sweeps", overhead(folder / "start", options.repeats)]
    parts.append(workers(folder / "workers", options.data_dir))
    sharing = shares(folder)
    parts += [bulk(folder), sharing, report.conditions("jax", "jaxlib")]
  section = "\n\n".join(parts)
  print(section)
  report.write_section(options.out, "sweep", section)


if __name__ == "__main__":
  main()
