"""What the tests of sweeps share: flags, commands, and what units left."""

import collections
import json
import pathlib
import subprocess
import sys
import types

ROOT = pathlib.Path(__file__).parents[1]
SQUARES = str(ROOT / "tests/sweeps/squares.py")
TROUBLE = str(ROOT / "tests/sweeps/trouble.py")
STEPS = "--experiment=tests.sweeps.steps"


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


def command(workdir, *more, config=SQUARES):
  """Return the command line of a sweep of four units in steps."""
  words = [sys.executable, "-m", "experiments.sweep", f"--config={config}"]
  return [*words, STEPS, f"--workdir={workdir}", "--workers=2", *more]


def sweep(workdir, *more, config=SQUARES, **options):
  """Run a sweep's command to its end."""
  return subprocess.run(
    command(workdir, *more, config=config),
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    **options,
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
