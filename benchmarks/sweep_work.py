"""The pieces that `benchmarks.sweep` times: launchers, scans, shares of hosts.

>>> spread([{"a": 1.0}, {"a": 1.5}], [{"a": 1.0}, {"a": 1.25}])
0.25
"""

import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import collect
from experiments.run import runs
from experiments.sweeping import jobs, launchers, units
from experiments.sweeping.launchers import local

DONE = (
  "import os, sys; at = sys.argv[1] + '/a/b'; os.makedirs(at);"
  "open(at + '/result.json', 'w').write('{}')"
)


def clocks() -> np.ndarray:
  """Return the CPU seconds of this process and its children, and the time."""
  both = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
  used = [resource.getrusage(who) for who in both]
  cpu = sum(one.ru_utime + one.ru_stime for one in used)
  return np.array([cpu, time.perf_counter()])


def bare(folder: pathlib.Path, count: int) -> np.ndarray:
  """Start interpreters one after another; return each one's seconds [2]."""
  began = clocks()
  for number in range(count):
    at = folder / f"bare{number}"
    subprocess.run([sys.executable, "-c", DONE, str(at)], check=True)
  return (clocks() - began) / count


def launched(folder: pathlib.Path, count: int) -> np.ndarray:
  """Run the same as units of the local launcher; return as `bare`."""
  queue = [
    jobs.Job(str(number), [sys.executable, "-c", DONE, str(at)], str(at))
    for number in range(count)
    for at in [folder / f"unit{number}"]
  ]
  ends: list[jobs.Outcome] = []
  began = clocks()
  local.launch(queue, launchers.Options(1), ends.append)
  seconds = (clocks() - began) / count
  ends = [end for end in ends if end.state != "running"]
  if [end.state for end in ends] != ["done"] * count:
    raise ValueError(f"a unit failed: {ends}")
  return seconds


def scans(folder: pathlib.Path, count: int) -> tuple[float, float]:
  """Expand so many units, and look which of them are done, as half are."""
  import ml_collections

  config: Any = types.ModuleType("many")
  config.get_config = lambda arg: ml_collections.ConfigDict({"seed": 0})
  config.sweep = lambda add: [add(seed=seed) for seed in range(count)]
  began = time.perf_counter()
  found = units.expand(config)
  expanded = time.perf_counter() - began
  queue = [jobs.Job(u.id, [], str(folder / u.id)) for u in found]
  for job in queue[::2]:
    at = pathlib.Path(job.folder, "soup", "a-0123")
    at.mkdir(parents=True)
    (at / "result.json").touch()
  began = time.perf_counter()
  left = len(jobs.left(queue))
  seconds = time.perf_counter() - began
  if left != count // 2:
    raise ValueError(f"{left} units are left, expected {count // 2}")
  return expanded, seconds


def collected(folder: pathlib.Path, example: pathlib.Path, count: int) -> float:
  """Collect so many copies of a run, each of a seed of its own."""
  names = ("result.json", "config.json", "metrics.jsonl")
  texts = {name: (example / name).read_text() for name in names}
  config = json.loads(texts["config.json"])
  for number in range(count):
    at = folder / f"u{number:04d}" / "soup" / "a-0123"
    texts["config.json"] = runs.dump(config | {"seed": number})
    at.mkdir(parents=True)
    for name, text in texts.items():
      (at / name).write_text(text)
  began = time.perf_counter()
  collect.collect(str(folder))
  return time.perf_counter() - began


def swept(
  folder: pathlib.Path,
  config: str,
  rest: Sequence[str],
  workers: int,
  seeds: range,
) -> tuple[float, list[float]]:
  """Run a sweep of seeds; return its seconds, and each unit's."""
  points = [{"seed": seed} for seed in seeds]
  found = [units.Unit(units.identify(point), point) for point in points]
  sweep = units.Sweep("soup", config, found)
  queue = [
    jobs.Job(u.id, units.command(sweep, u, at, tuple(rest)), at)
    for u in found
    for at in [str(folder / u.id)]
  ]
  ends: list[jobs.Outcome] = []
  began = time.perf_counter()
  local.launch(queue, launchers.Options(workers), ends.append)
  seconds = time.perf_counter() - began
  ends = [end for end in ends if end.state != "running"]
  for end in ends:
    if end.state != "done":
      raise ValueError(f"unit {end.id}: {end.said}")
  return seconds, [end.seconds for end in ends]


def shared_out(
  folder: pathlib.Path, words: Sequence[str], hosts: int, devices: int
) -> tuple[float, list[dict[str, Any]], dict[str, Any]]:
  """Run a unit on simulated devices of so many processes.

  Returns:
    Its seconds, what it logged, and its result.
  """
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  command = [sys.executable, *words, f"--workdir={folder}"]
  command.append("--config.mesh.population=-1")
  env = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices // hosts)}
  began = time.perf_counter()
  started = [
    subprocess.Popen(
      command,
      env=env | (jobs.gang(address, hosts, process) if hosts > 1 else {}),
      stdout=subprocess.DEVNULL,
    )
    for process in range(hosts)
  ]
  codes = [process.wait() for process in started]
  seconds = time.perf_counter() - began
  if any(codes):
    raise ValueError(f"a process of {hosts} ended with one of {codes}")
  (at,) = folder.glob("*/*/result.json")
  lines = runs.read_lines(at.parent / "metrics.jsonl")
  return seconds, lines, runs.load(at)


def spread(
  first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]
) -> float:
  """Return the largest difference of what two runs measured."""
  gaps = [
    abs(value - b[name])
    for a, b in zip(first, second, strict=True)
    for name, value in a.items()
    if isinstance(value, float) and name != "seconds"
  ]
  return max(gaps)
