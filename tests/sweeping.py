"""What the tests of sweeps share: flags, commands, and what units left."""

import collections
import contextlib
import glob
import json
import os
import pathlib
import subprocess
import sys
import time
import types

from experiments.run import runs

ROOT = pathlib.Path(__file__).parents[1]
SQUARES = str(ROOT / "tests/sweeps/squares.py")
TROUBLE = str(ROOT / "tests/sweeps/trouble.py")
PAIR = str(ROOT / "tests/sweeps/pair.py")
STEPS = "--experiment=tests.sweeps.steps"
GANG = "--experiment=tests.sweeps.gang", "--hosts=2"
REAL = "--experiment=tests.sweeps.real", "--workers=1"
SAME = ("measured", "numbers", "holds", "name", "seed")
ON_ALL = "--", "--config.mesh.population=-1"


def flags(workdir, **values):
  """Return what `sweep.run` reads, for a sweep of four quick units."""
  defaults = {
    "config": SQUARES,
    "experiment": None,
    "launcher": "local",
    "workers": 2,
    "data_dir": None,
    "workdir": str(workdir),
  }
  return types.SimpleNamespace(**(defaults | values))


def command(workdir, *more, config=SQUARES, python=sys.executable):
  """Return the command line of a sweep of four units in steps."""
  words = [python, "-m", "experiments.sweep", f"--config={config}", STEPS]
  return [*words, f"--workdir={workdir}", "--workers=2", *more]


def sweep(workdir, *more, env=None, **options):
  """Run a sweep's command to its end."""
  return subprocess.run(
    command(workdir, *more, **options),
    cwd=ROOT,
    env=env,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    timeout=300,
  )


def start(workdir, *more, env=None, **options):
  """Start a launcher; it prints nowhere."""
  return subprocess.Popen(
    command(workdir, *more, **options),
    cwd=ROOT,
    env=env,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def completed(workdir) -> collections.Counter:
  """How often each unit ran to its end."""
  return collections.Counter(
    {
      path.parts[-4]: len(path.read_text().splitlines())
      for path in workdir.glob("*/*/run/completed.txt")
    }
  )


def results(workdir) -> list[bytes]:
  """Return the results of all units, in order of their names."""
  return [path.read_bytes() for path in sorted(workdir.glob("*/*/run/result*"))]


def left(workdir) -> dict[str, bytes]:
  """Return what the units in steps left: results, checkpoints, metrics."""
  names = "result.json", "checkpoint.json", "metrics.jsonl"
  return {
    f"{path.parts[-4]}/{path.name}": path.read_bytes()
    for path in workdir.glob("*/steps/run/*")
    if path.name in names
  }


def attempts(workdir) -> list[int]:
  """Return the exit codes of all attempts that a launcher saw the end of."""
  return [
    json.loads(line)["code"]
    for path in workdir.glob("*/attempts.jsonl")
    for line in path.read_text().splitlines()
  ]


def processes(workdir, module="tests.sweeps.steps") -> list[int]:
  """Return the processes of units at work in a sweep's folder."""
  found = []
  for process in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(OSError):
      words = pathlib.Path("/proc", process, "cmdline").read_text().split("\0")
      # The name stands behind -m: a starter has it further on.
      if words[1:3] == ["-m", module]:
        if any(word.startswith(f"--workdir={workdir}/") for word in words):
          found.append(int(process))
  return found


def parent(process: int) -> int:
  """Return who started a process."""
  text = pathlib.Path("/proc", str(process), "stat").read_text()
  return int(text.rpartition(")")[2].split()[1])


def until(condition, seconds=180):
  """Wait for what a test is about; return it."""
  end = time.monotonic() + seconds
  while not (found := condition()):
    assert time.monotonic() < end, "it does not come"
    time.sleep(0.005)
  return found


def settled(workdir, whole, *more, **options):
  """Check that the command ends with every unit done once, the same."""
  done = sweep(workdir, *more, **options)
  assert done.returncode == 0, done.stdout
  assert left(workdir) == whole
  assert max(completed(workdir).values()) == 1
  assert not list(workdir.glob("*/*/run/clash"))
  return done.stdout


def gangs(workdir) -> list[float]:
  """Return what each of the units on several hosts found, done once."""
  assert max(completed(workdir).values()) == 1
  found = [json.loads(path) for path in results(workdir)]
  return [one["found"] for one in found]


def found(folder):
  """Return what the runs of a sweep found, but for the clock."""
  results = [
    json.loads(p.read_text()) for p in folder.glob("*/real/*/result.*")
  ]
  lines = [runs.read_lines(p) for p in folder.glob("*/real/*/metrics.jsonl")]
  rest = [p for p in folder.rglob(".*") if "writing" in p.name]
  assert len(results) == len(lines) == 2 and not rest
  return (
    sorted([r[name] for name in SAME] for r in results),
    sorted([line.get("total") for line in one] for one in lines),
  )


def saves(workdir, stage="members") -> set[str]:
  """Return what runs below a folder have saved within a stage's training."""
  at = f"*/*/checkpoints/.*{stage}.training/epoch-*"
  return {os.path.basename(path) for path in glob.glob(f"{workdir}/{at}")}


def newest(workdir) -> str:
  """Return the last of the saves; nothing where there is none."""
  return max(saves(workdir), default="")


def watched(started, workdir) -> set[str]:
  """Wait for processes to end; return the saves that came meanwhile."""
  before, seen = saves(workdir), set()
  while any(process.poll() is None for process in started):
    seen |= saves(workdir)
    time.sleep(0.005)
  return seen - before
