"""One unit of a sweep, run safely: a lock, a log, and a result that says done.

Whoever runs a unit (a thread of the local launcher, a SLURM task, a Ray actor)
calls `execute`.  The unit's process inherits the lock, so that it stays taken
while that process lives, whatever becomes of the launcher.

>>> import sys, tempfile
>>> command = [sys.executable, "-c", "raise SystemExit('no')"]
>>> job = Job("a", command, tempfile.mkdtemp())
>>> outcome = execute(job)
>>> outcome.state, outcome.said
('failed', 'no')
"""

import collections
import fcntl
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from experiments import runs

LOG = "log.txt"
LOCK = "lock"
ATTEMPTS = "attempts.jsonl"
LAST_LINES = 5


class Job(NamedTuple):
  """A unit as its command, and the folder that is its own."""

  id: str
  argv: list[str]
  folder: str


class Outcome(NamedTuple):
  """How an attempt at a unit ended."""

  id: str
  state: str  # "done", "failed", or "busy": another process is at it
  seconds: float
  said: str = ""  # the last lines of a unit that failed


def is_done(folder: str) -> bool:
  """Tell whether a unit's run has written its result."""
  try:
    with os.scandir(folder) as experiments:
      for experiment in experiments:
        if experiment.is_dir():
          for run in os.listdir(experiment.path):
            if os.path.exists(
              os.path.join(experiment.path, run, "result.json")
            ):
              return True
  except FileNotFoundError:
    pass
  return False


def left(jobs: Iterable[Job]) -> list[Job]:
  """Return the jobs that are not done."""
  return [job for job in jobs if not is_done(job.folder)]


def execute(
  job: Job,
  environment: Mapping[str, str] | None = None,
  cores: Sequence[int] | None = None,
) -> Outcome:
  """Run a unit to its end, unless it is done or another process is at it.

  Args:
    job: the unit.
    environment: variables to add to this process's.
    cores: the only ones that it may use.
  """
  began = time.monotonic()
  os.makedirs(job.folder, exist_ok=True)
  with open(os.path.join(job.folder, LOCK), "ab") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      return Outcome(job.id, "busy", 0.0)
    if is_done(job.folder):
      return Outcome(job.id, "done", 0.0)
    code = _run(job, lock, environment, cores)
    seconds = time.monotonic() - began
    record = {"code": code, "seconds": round(seconds, 3)}
    runs.append(pathlib.Path(job.folder, ATTEMPTS), json.dumps(record) + "\n")
    if code == 0 and is_done(job.folder):
      return Outcome(job.id, "done", seconds)
    said = _last_lines(job.folder)
    if code == 0:
      said = f"{said}\nended without a result".strip()
    return Outcome(job.id, "failed", seconds, said)


def _run(
  job: Job,
  lock: IO[bytes],
  environment: Mapping[str, str] | None,
  cores: Sequence[int] | None,
) -> int:
  """Start the unit's process with the lock, and wait for it."""
  with open(os.path.join(job.folder, LOG), "ab") as log:
    process = subprocess.Popen(
      job.argv,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env={**os.environ, **(environment or {})},
      pass_fds=(lock.fileno(),),
    )
    if cores and hasattr(os, "sched_setaffinity"):
      try:
        os.sched_setaffinity(process.pid, cores)
      except ProcessLookupError:  # it has ended already
        pass
    return process.wait()


def _last_lines(folder: str) -> str:
  with open(os.path.join(folder, LOG), encoding="utf-8", errors="replace") as f:
    return "".join(collections.deque(f, LAST_LINES)).strip()


def describe(job: Job, overrides: Mapping[str, Any]) -> None:
  """Write what a unit is into its folder, once."""
  path = pathlib.Path(job.folder, "unit.json")
  if not path.exists():
    about = {"id": job.id, "overrides": dict(overrides), "command": job.argv}
    runs.write(path, runs.dump(runs.plain(about)))
