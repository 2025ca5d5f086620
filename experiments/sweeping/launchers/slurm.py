"""The SLURM launcher, through submitit: an array of tasks, one for each unit.

SLURM holds the queue, with `--workers` tasks at a time.  A task that is
preempted or out of time is queued again, and its unit goes on where it was; the
launcher may be killed meanwhile, and finds the tasks at work when it is back.
With `--hosts=N` a unit is N processes, on a node each, that are told by
WEIGHTSPACE_COORDINATOR, WEIGHTSPACE_PROCESSES and WEIGHTSPACE_PROCESS how to
find one another.
"""

import pathlib
import shlex
import shutil
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.sweeping import jobs
from experiments.sweeping.jobs import Job, Outcome
from experiments.sweeping.launchers import Options, Tell, turns

SETTINGS = {
  "cluster": "slurm",  # "local": processes here, as tests and trials need them
  "minutes": "60",  # until a task is stopped and queued again
  "sbatch": "",  # more of sbatch's options: "partition=long account=me"
}
TIMES = 99  # that a task may run out of its minutes
POLL = 1.0  # seconds between looks at the tasks


class Task(NamedTuple):
  """What a node does; submitit calls it, and `checkpoint` to queue it again."""

  job: Job
  hosts: int

  def __call__(self) -> Outcome:
    import submitit

    here = submitit.JobEnvironment()
    if self.hosts == 1:
      return jobs.execute(self.job, bound=True)
    # Above the ports that Linux gives out; another for each job.
    port = 61440 + zlib.crc32(here.job_id.encode()) % 4096
    environment = jobs.gang(
      f"{here.hostnames[0]}:{port}", self.hosts, here.global_rank
    )
    if here.global_rank:
      return jobs.follow(self.job, environment, here.global_rank)
    return jobs.execute(self.job, environment, bound=True)

  def checkpoint(self) -> Any:
    import submitit

    return submitit.helpers.DelayedSubmission(self)


def launch(queue: Sequence[Job], options: Options, tell: Tell) -> None:
  """Run jobs as tasks of SLURM; tell how each stands."""
  check(options)
  if not queue:
    return
  executor = _executor(queue, options)
  local = options.settings["cluster"] == "local"  # which has no queue
  at_once = options.workers if local else len(queue)
  waiting, running = {job.id: job for job in queue}, dict[Any, Job]()
  tries = dict.fromkeys(waiting, options.retries)
  begun = set[Any]()
  while waiting or running:
    fresh = _take(waiting, at_once - len(running), tell)
    running.update(zip(_submit(executor, fresh, options.hosts), fresh))
    time.sleep(POLL)
    for task in [task for task in running if task.done()]:
      job = running.pop(task)
      if turns.again(_outcome(task, job), tries, tell):
        waiting[job.id] = job
    for task in [task for task in running if task not in begun]:
      if task.state == "RUNNING":  # and not queued yet
        begun.add(task)
        tell(Outcome(running[task].id, "running", 0.0))


def _take(waiting: dict[str, Job], most: int, tell: Tell) -> list[Job]:
  """Take out what can be submitted.

  What a task of an earlier launcher is at stays until that has ended.
  """
  fresh: list[Job] = []
  for job in list(waiting.values()):
    if len(fresh) == most:
      break
    if jobs.is_busy(job):
      tell(Outcome(job.id, "busy", 0.0))
      continue
    del waiting[job.id]
    if jobs.is_done(job.folder):
      tell(Outcome(job.id, "done", 0.0))
    else:
      fresh.append(job)
  return fresh


def _submit(executor: Any, fresh: Sequence[Job], hosts: int) -> list[Any]:
  """Submit jobs as one array of tasks."""
  if not fresh:
    return []
  with executor.batch():
    return [executor.submit(Task(job, hosts)) for job in fresh]


def _executor(queue: Sequence[Job], options: Options) -> Any:
  """Return submitit's executor for units of these options."""
  import submitit

  cluster, minutes, sbatch = (options.settings[name] for name in SETTINGS)
  folder = pathlib.Path(queue[0].folder).parent / ".submitit" / "%j"
  executor = submitit.AutoExecutor(
    folder=folder,
    cluster=cluster,
    slurm_max_num_timeout=TIMES,
    local_max_num_timeout=TIMES,
  )
  spread = cluster == "slurm"  # the local executor has one node
  executor.update_parameters(
    name="weightspace",
    timeout_min=int(minutes),
    nodes=options.hosts if spread else 1,
    tasks_per_node=1 if spread else options.hosts,
    slurm_array_parallelism=options.workers,
    slurm_additional_parameters=_pairs(sbatch),
  )
  if options.chips:
    executor.update_parameters(gpus_per_node=options.chips)
  return executor


def check(options: Options) -> None:
  """Raise a ValueError for settings that no SLURM would take, or without it."""
  cluster, minutes, sbatch = (options.settings[name] for name in SETTINGS)
  if cluster not in ("slurm", "local"):
    raise ValueError(f"--set=cluster={cluster}, expected slurm or local")
  if not minutes.isdecimal() or not int(minutes):
    raise ValueError(f"--set=minutes={minutes}, expected a whole number")
  _pairs(sbatch)
  if cluster == "slurm" and not shutil.which("sbatch"):
    raise ValueError(
      "--launcher: 'slurm' finds no sbatch here, expected a SLURM login node"
      " (or --set=cluster=local)"
    )


def _pairs(text: str) -> dict[str, str]:
  """Read "partition=long account=me".

  >>> _pairs("partition=long comment='a b'")
  {'partition': 'long', 'comment': 'a b'}
  """
  words = [word.partition("=") for word in shlex.split(text)]
  for name, equals, value in words:
    if not (name and equals and value):
      raise ValueError(f"--set=sbatch: {name!r}, expected NAME=VALUE ...")
  return {name: value for name, _, value in words}


def _outcome(task: Any, job: Job) -> Outcome:
  """Return how a task ended, whose node may be lost."""
  import submitit

  try:
    return task.results()[0]
  except (submitit.core.utils.UncompletedJobError, OSError) as error:
    if jobs.is_done(job.folder):
      return Outcome(job.id, "done", 0.0)
    return Outcome(job.id, "failed", 0.0, jobs.tail(str(error)))
