"""The local launcher: units as processes of this machine, so many at a time.

Each worker has cores of its own.
"""

import os
from collections.abc import Sequence

from experiments.sweeping import jobs
from experiments.sweeping.jobs import Job, Outcome
from experiments.sweeping.launchers import Options, Tell, turns


def launch(queue: Sequence[Job], options: Options, tell: Tell) -> None:
  """Run jobs on this machine; tell how each stands."""
  if options.hosts > 1:
    raise ValueError(f"--hosts: {options.hosts}, expected 1 for the local one")
  workers = options.workers
  slots = shares(workers) if options.pin else [None] * workers

  def run(job: Job, cores: list[int] | None) -> Outcome:
    return jobs.execute(job, _threads(cores), cores, begun=tell)

  turns.take(queue, slots, run, options.retries, tell)


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
