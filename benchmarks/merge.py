"""Merges: CPU seconds against mergekit, in one run, as ratios.

Three fine-tunes and a base in bfloat16, the same bits for all: `ws.merge.run`
over the list of models, the recipe under `jit` over a Stack, mergekit's
`merge_state_dicts` in memory (left out with a message when it is not installed)
and the floor: read every input once, write one output.

  python -m benchmarks.merge [--mergekit_python=...] [--params=300e6] [--sweep]

With `--sweep` also 32 scales in one call, and the cost of TIES against the
number of parameters and of models, as a figure.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import contenders, merge_work, report
from benchmarks.merge_work import ROWS

WHO = ("weightspace", "weightspace_jit", "mergekit", "floor")
SLOW = ("ties_tensor", "ties_global")  # rows in which mergekit has one turn
SCALED = "ties_tensor"
MODELS = (2, 4, 8, 16)
HEAD = ["parameters", "models", "method", "who", "CPU s", "wall s"]
HEAD += ["peak MiB", "CPU / floor's", "mergekit's CPU / this", "aimed at"]
Turns = dict[str, contenders.Turn]  # by contender: its median


def command(options: argparse.Namespace, name: str, *rest: str) -> list[str]:
  """Return the command that is one contender."""
  python = options.mergekit_python if name == "mergekit" else sys.executable
  module = [python, "-m", "benchmarks.merge"]
  return [*module, "--contender", name, *rest]


def race(
  options: argparse.Namespace, folder: str, row: str, names: tuple[str, ...]
) -> Turns:
  """Return the median turn of each contender in one row."""
  slow = ("mergekit",) if row in SLOW else ()
  commands = {name: command(options, name, folder, row) for name in names}
  turns = contenders.alternate(commands, options.repeats, once=slow)
  return {name: contenders.median(t) for name, t in turns.items()}


def lines_of(
  row: str, params: int, models: int, turns: Turns, peer: Any
) -> list[list[object]]:
  """Return the table's lines of one row."""
  lines: list[list[object]] = []
  floor = turns.get("floor")
  for name, turn in turns.items():
    aim = {"weightspace": ROWS[row][3]}.get(name, "")
    aim = 4 if name == "weightspace_jit" and row in SLOW else aim
    line = [f"{params / 1e6:g}M", models, row, name]
    line += [f"{turn.cpu:.2f}", f"{turn.wall:.2f}", f"{turn.peak:.0f}"]
    line.append(f"{turn.cpu / floor.cpu:.1f}" if floor else "")
    line += [f"{peer.cpu / turn.cpu:.1f}" if peer else "-", aim]
    lines.append(line)
    print(*line, flush=True)
  return lines


def methods(
  options: argparse.Namespace,
) -> tuple[list[list[object]], list[str]]:
  """Race every row; return the lines, and how near the results are."""
  lines: list[list[object]] = []
  near: list[str] = []
  peers: dict[Any, contenders.Turn | None] = {}
  params = int(options.params)
  with tempfile.TemporaryDirectory() as folder:
    merge_work.write_models(folder, params, options.models)
    for row in options.rows:
      method, _, theirs, _ = ROWS[row]
      same = (method, *theirs.items())  # mergekit merges once for both scopes
      names = tuple(n for n in WHO if n != "mergekit" or same not in peers)
      turns = race(options, folder, row, names)
      peers.setdefault(same, turns.get("mergekit"))
      lines += lines_of(row, params, options.models, turns, peers[same])
  with tempfile.TemporaryDirectory() as folder:
    merge_work.write_models(folder, min(params, 30_000_000), options.models)
    for row in options.rows:
      done = subprocess.run(
        command(options, "check", folder, row), stdout=-1, check=True
      )
      near.append(f"{row} {100 * json.loads(done.stdout):.3f} %")
      print("within an ulp:", near[-1], flush=True)
  return lines, near


def scales(options: argparse.Namespace) -> str:
  """Race 32 scales in one call against one merge; return a sentence."""
  params = min(int(options.params), 10**7)
  with tempfile.TemporaryDirectory() as folder:
    merge_work.write_models(folder, params, options.models)
    names = ("weightspace", "weightspace_jit", "sweep_of_32")
    turns = race(options, folder, "ties_global", names)
  cpu = {name: turn.cpu for name, turn in turns.items()}
  text = (
    f"TIES of {params / 1e6:g}M parameters with 32 scales in one vmapped call:"
    f" {cpu['sweep_of_32']:.2f} CPU s,"
    f" {cpu['sweep_of_32'] / cpu['weightspace_jit']:.1f} times one merge under"
    f" jit ({cpu['weightspace_jit']:.2f}), aimed at less than 8;"
    f" `run` takes {cpu['weightspace']:.2f}."
  )
  print(text, flush=True)
  return text


def growth(options: argparse.Namespace) -> dict[str, list[tuple[int, Turns]]]:
  """Return the cost of TIES by number of parameters, and of models."""
  whole = int(options.params)
  sizes = [whole // part for part in (100, 30, 10, 3)]
  cases = {
    "parameters": [(size, size, options.models) for size in sizes],
    "models": [(count, whole // 30, count) for count in MODELS],
  }
  found: dict[str, list[tuple[int, Turns]]] = {}
  for axis, points in cases.items():
    for x, params, models in points:
      with tempfile.TemporaryDirectory() as folder:
        merge_work.write_models(folder, params, models)
        names = ("weightspace", "mergekit", "floor")
        found.setdefault(axis, []).append(
          (x, race(options, folder, SCALED, names))
        )
      cpu = {n: round(t.cpu, 3) for n, t in found[axis][-1][1].items()}
      print(axis, x, cpu, flush=True)
  return found


def draw(found: dict[str, list[tuple[int, Turns]]], path: str) -> bool:
  """Draw the cost on log axes; False where matplotlib is not installed."""
  from weightspace import figures

  def panel(axis: str) -> figures.Panel:
    def on(axes: Any) -> None:
      xs = [x for x, _ in found[axis]]
      for name, colour in zip(WHO[::2] + WHO[3:], figures.COLOURS):
        ys = [turns[name].cpu for _, turns in found[axis] if name in turns]
        if len(ys) == len(xs):
          axes.loglog(xs, ys, "o-", color=colour, label=name)
          linear = [ys[-1] * x / xs[-1] for x in xs]
          axes.loglog(xs, linear, ":", color=colour, linewidth=1)
      axes.set(xlabel=axis, ylabel="CPU seconds")
      axes.set_title(f"TIES by number of {axis}")
      axes.set_xticks(xs, [f"{x / 1e6:g}M" if x > 1000 else x for x in xs])
      axes.minorticks_off()
      axes.grid(True)
      axes.legend()

    return on

  drawn = figures.figure(*map(panel, found))
  if drawn is not None:
    pathlib.Path(path).write_bytes(figures.png(drawn))
  return drawn is not None


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--mergekit_python", default=sys.executable)
  parser.add_argument("--params", type=float, default=30e6)
  parser.add_argument("--models", type=int, default=3)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--rows", nargs="*", default=list(ROWS))
  parser.add_argument("--sweep", action="store_true")
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--figure", default="docs/merge_cost.png")
  parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    name, folder, row = options.contender
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return merge_work.CONTENDERS[name](folder, row)
  lines, near = methods(options)
  more = ""
  if options.sweep:
    more = f"\n\n{scales(options)}"
    if draw(growth(options), options.figure):
      more += f"\n\n![Cost of TIES]({options.figure}) Dotted: linear."
  text = (
    "## Merging\n\nFine-tunes and a base in bfloat16, in memory, with the"
    " leaves of a language model; medians of"
    f" {options.repeats} alternated turns of warm processes (one of mergekit's"
    " TIES), imports excluded. weightspace: `ws.merge.run` over the models."
    f"\n\n{report.table(HEAD, lines)}\n\nWithin one bfloat16 ulp of the float32"
    f" answer: {', '.join(near)}.{more}"
    f"\n\n{report.conditions('jax', 'jaxlib')}"
  )
  report.write_section(options.out, "merging", text)


if __name__ == "__main__":
  main()
