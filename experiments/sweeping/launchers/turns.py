"""Turns: units run in so many slots, the failed and the busy ones again.

What a slot is, is the launcher's affair: cores of this machine, or a gang of
hosts.

>>> from experiments.sweeping.jobs import Job, Outcome
>>> fails = iter(["failed", "busy", "done"])
>>> job = Job("a", ["true"], "/tmp")
>>> run = lambda job, slot: Outcome(job.id, next(fails), 1.0)
>>> tell = lambda outcome: print(outcome.state)
>>> take([job], [None], run, retries=1, tell=tell, patience=0.0)
again
busy
done
"""

import collections
import concurrent.futures
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.sweeping.jobs import Job, Outcome
from experiments.sweeping.launchers import Tell

PATIENCE = 0.5  # seconds until a busy unit is looked at again


def take(
  queue: Sequence[Job],
  slots: Sequence[Any],
  run: Callable[[Job, Any], Outcome],
  retries: int,
  tell: Tell,
  *,
  patience: float = PATIENCE,
) -> None:
  """Run each job in a slot that is free; tell how each attempt ended.

  A unit that fails is tried again after the others; one that another launcher
  is at is looked at again until it is done.

  Args:
    queue: the jobs.
    slots: as many units as these run at a time.
    run: `run(job, slot)` waits for the end of an attempt.
    retries: further attempts at a unit that fails.
    tell: called with what each attempt came to; once with "done" or "failed".
    patience: seconds to wait where all that ended were busy.
  """
  waiting, free = collections.deque(queue), collections.deque(slots)
  tries = dict.fromkeys((job.id for job in queue), retries)
  running: dict[Any, tuple[Job, Any]] = {}
  with concurrent.futures.ThreadPoolExecutor(len(slots)) as pool:
    while waiting or running:
      while waiting and free:
        job, slot = waiting.popleft(), free.popleft()
        running[pool.submit(run, job, slot)] = job, slot
      ended, _ = concurrent.futures.wait(
        running, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for future in ended:
        job, slot = running.pop(future)
        free.append(slot)
        if again(future.result(), tries, tell):
          waiting.append(job)
      if all(future.result().state == "busy" for future in ended):
        time.sleep(patience)


def again(outcome: Outcome, tries: dict[str, int], tell: Tell) -> bool:
  """Tell an outcome; say whether its unit is to be attempted again."""
  more = outcome.state == "busy"
  if outcome.state == "failed" and tries[outcome.id] > 0:
    tries[outcome.id] -= 1
    outcome, more = outcome._replace(state="again"), True
  tell(outcome)
  return more
