"""Contenders: processes that do the same work in turns, timed alike.

Each has a process of its own, so its CPU seconds and its peak memory are its
own, and it may run in another Python.  Turns alternate, so that what else the
machine does falls on all.

>>> code = "from benchmarks import contenders; contenders.serve(lambda: None)"
>>> turns = alternate({"idle": [sys.executable, "-c", code]}, repeats=2)
>>> len(turns["idle"])
2
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from typing import NamedTuple


class Turn(NamedTuple):
  """What one repetition took."""

  cpu: float  # seconds, of all threads
  wall: float  # seconds
  peak: float  # MiB, since the process began


def serve(run: Callable[[], object]) -> None:
  """Be a contender: run once for every line that comes in."""
  print(json.dumps("ready"), flush=True)
  for _ in sys.stdin:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([cpu, wall, peak]), flush=True)


def alternate(
  commands: dict[str, list[str]], repeats: int, once: Collection[str] = ()
) -> dict[str, list[Turn]]:
  """Let contenders take turns; leave out those that do not start.

  Args:
    commands: argument lists by name; each program ends in `serve`.
    repeats: turns of each.
    once: names of those that take the first turn only.

  Returns:
    The turns of each contender that started.
  """
  started = {name: _start(command) for name, command in commands.items()}
  try:
    ready = {name: ask for name, (_, ask) in started.items() if ask("")}
    turns: dict[str, list[Turn]] = {name: [] for name in ready}
    for turn in range(repeats):
      for name, ask in ready.items():
        if turn and name in once:
          continue
        turns[name].append(Turn(*json.loads(ask("go\n"))))
    return turns
  finally:
    for process, _ in started.values():
      process.kill()
      process.communicate()


def _start(
  command: list[str],
) -> tuple[subprocess.Popen[str], Callable[[str], str]]:
  """Start a program; return it and a way to write to it and read a line."""
  pipe = subprocess.PIPE
  process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
  source, sink = process.stdout, process.stdin

  def ask(line: str) -> str:
    if source is None or sink is None:
      raise ValueError(f"{command[0]!r} has no pipes")
    sink.write(line)
    sink.flush()
    return source.readline()

  return process, ask


def median(turns: list[Turn]) -> Turn:
  """Return the median of each number.

  >>> median([Turn(1.0, 2.0, 3.0), Turn(3.0, 4.0, 5.0)])
  Turn(cpu=2.0, wall=3.0, peak=4.0)
  """
  return Turn(*map(statistics.median, zip(*turns)))
