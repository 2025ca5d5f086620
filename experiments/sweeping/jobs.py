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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from experiments.run import binding, runs

LOG = "log.txt"
LOG_OF = "log.{}.txt"  # of a further process of a unit on several hosts
LOCK = "lock"
ATTEMPTS = "attempts.jsonl"
LAST_LINES = 5


class Job(NamedTuple):
  """A unit as its command, and the folder that is its own."""

  id: str
  argv: list[str]
  folder: str
  overrides: Mapping[str, Any] | None = None  # what is its own


class Outcome(NamedTuple):
  """How an attempt at a unit ended; or, told by launchers, that it began.

  What `execute` returns is "done", "failed", or "busy": another process is at
  the unit.  Launchers tell of two more: "running", where an attempt begins, and
  "again", where it failed and another will be made.
  """

  id: str
  state: str
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
  bound: bool = False,
  begun: Callable[[Outcome], None] | None = None,
) -> Outcome:
  """Run a unit to its end, unless it is done or another process is at it.

  A folder that cannot be written to is a failure of the unit, with its reason.

  Args:
    job: the unit.
    environment: variables to add to this process's.
    cores: the only ones that it may use.
    bound: whether the unit is to die with the process that calls this.
    begun: told that it is running, once it is.
  """
  began = time.monotonic()
  try:
    os.makedirs(job.folder, exist_ok=True)
    with open(os.path.join(job.folder, LOCK), "ab") as lock:
      if not _take(lock):
        return Outcome(job.id, "busy", 0.0)
      if is_done(job.folder):
        return Outcome(job.id, "done", 0.0)
      _describe(job)
      if begun:
        begun(Outcome(job.id, "running", 0.0))
      argv = binding.bind(job.argv) if bound else job.argv
      code = _run(argv, job.folder, LOG, environment, cores, lock=lock)
      return _end(job, code, time.monotonic() - began)
  except OSError as error:
    return Outcome(job.id, "failed", time.monotonic() - began, str(error))


def follow(job: Job, environment: Mapping[str, str], process: int) -> Outcome:
  """Run a further process of a unit on several hosts, bound to the caller.

  The first process has the lock, and writes the result.
  """
  began, log = time.monotonic(), LOG_OF.format(process)
  try:
    os.makedirs(job.folder, exist_ok=True)
    code = _run(binding.bind(job.argv), job.folder, log, environment)
    said = "" if code == 0 else last_lines(job.folder, log)
  except OSError as error:
    code, said = 1, str(error)
  state = "failed" if code else "done"
  return Outcome(job.id, state, time.monotonic() - began, said)


def gang(address: str, processes: int, process: int) -> dict[str, str]:
  """Return what tells a unit's process which of several it is.

  Args:
    address: host:port of process 0, for `jax.distributed.initialize`.
    processes: how many there are.
    process: which this is.
  """
  return {
    "WEIGHTSPACE_COORDINATOR": address,
    "WEIGHTSPACE_PROCESSES": str(processes),
    "WEIGHTSPACE_PROCESS": str(process),
  }


def is_busy(job: Job) -> bool:
  """Tell whether a process is at a unit now."""
  try:
    with open(os.path.join(job.folder, LOCK), "ab") as lock:
      return not _take(lock)
  except FileNotFoundError:
    return False


def _take(lock: IO[bytes]) -> bool:
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def _end(job: Job, code: int, seconds: float) -> Outcome:
  """Note how an attempt ended; what is done stays so on a full disk too."""
  done = is_done(job.folder)
  record = {"code": code, "seconds": round(seconds, 3)}
  path = pathlib.Path(job.folder, ATTEMPTS)
  try:
    runs.append(path, json.dumps(record) + "\n")
  except OSError:
    if not done:
      raise
  if code == 0 and done:
    return Outcome(job.id, "done", seconds)
  said = last_lines(job.folder)
  if code == 0:
    said = f"{said}\nended without a result".strip()
  if code < 0 and not said:
    said = f"killed by signal {-code}"
  return Outcome(job.id, "failed", seconds, said)


def _run(
  argv: Sequence[str],
  folder: str,
  log: str,
  environment: Mapping[str, str] | None = None,
  cores: Sequence[int] | None = None,
  *,
  lock: IO[bytes] | None = None,
) -> int:
  """Start a process that inherits the lock, and wait for it."""
  with open(os.path.join(folder, log), "ab") as file:
    process = subprocess.Popen(
      argv,
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      env={**os.environ, **(environment or {})},
      pass_fds=(lock.fileno(),) if lock else (),
    )
    if cores and hasattr(os, "sched_setaffinity"):
      try:
        os.sched_setaffinity(process.pid, cores)
      except ProcessLookupError:  # it has ended already
        pass
    return process.wait()


def last_lines(folder: str, log: str = LOG) -> str:
  """Return the end of what a unit's process printed."""
  with open(os.path.join(folder, log), encoding="utf-8", errors="replace") as f:
    return "".join(collections.deque(f, LAST_LINES)).strip()


def tail(text: str) -> str:
  """Return the last lines of a text that are not empty.

  >>> tail("first\\n\\nthe reason\\n")
  'first\\nthe reason'
  """
  lines = [line for line in text.splitlines() if line.strip()]
  return "\n".join(lines[-LAST_LINES:])


def _describe(job: Job) -> None:
  """Write what a unit is into its folder, once."""
  path = pathlib.Path(job.folder, "unit.json")
  if not path.exists():
    mine = dict(job.overrides or {})
    about = {"id": job.id, "overrides": mine, "command": job.argv}
    runs.write(path, runs.dump(runs.plain(about)))
