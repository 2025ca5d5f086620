"""The local launcher: units as processes of this machine, so many at a time.

Each worker has cores of its own.  A unit that fails is tried again after the
others; one that another launcher is at is looked at again until it is done.
"""

import collections
import concurrent.futures
import os
import time
from collections.abc import Sequence
from typing import Any

from experiments import jobs
from experiments.jobs import Job, Outcome
from experiments.launchers import Options, Tell

PATIENCE = 0.5  # seconds until a busy unit is looked at again


def launch(queue: Sequence[Job], options: Options, tell: Tell) -> None:
  """Run jobs on this machine; tell the outcome of each once."""
  if options.workers < 1:
    raise ValueError(f"--workers: {options.workers}, expected at least 1")
  waiting = collections.deque(queue)
  tries = dict.fromkeys((job.id for job in queue), options.retries)
  slots = shares(options.workers) if options.pin else [None] * options.workers
  free = collections.deque(slots)
  running: dict[Any, tuple[Job, list[int] | None]] = {}
  with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
    while waiting or running:
      while waiting and free:
        job, cores = waiting.popleft(), free.popleft()
        future = pool.submit(jobs.execute, job, _threads(cores), cores)
        running[future] = job, cores
      ended, _ = concurrent.futures.wait(
        running, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for future in ended:
        job, cores = running.pop(future)
        free.append(cores)
        if _again(future.result(), tries):
          waiting.append(job)
        else:
          tell(future.result())
      if all(future.result().state == "busy" for future in ended):
        time.sleep(PATIENCE)


def _again(outcome: Outcome, tries: dict[str, int]) -> bool:
  """Tell whether a unit is to be attempted again."""
  if outcome.state == "busy":
    return True
  if outcome.state == "failed" and tries[outcome.id] > 0:
    tries[outcome.id] -= 1
    return True
  return False


def shares(workers: int) -> list[list[int] | None]:
  """Divide the cores of this process among workers; None where too few.

  >>> len(shares(1))
  1
  """
  if not hasattr(os, "sched_getaffinity"):
    return [None] * workers
  cores = sorted(os.sched_getaffinity(0))
  if workers > len(cores):
    return [None] * workers
  return [cores[w::workers] for w in range(workers)]


def _threads(cores: list[int] | None) -> dict[str, str]:
  return {"OMP_NUM_THREADS": str(len(cores))} if cores else {}
