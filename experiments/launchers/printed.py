"""The print launcher: the exact command of each unit, and nothing is started.

>>> line(Job("a", ["/usr/bin/python", "-m", "m", "--x=(1, 2)"], "d"))
"python -m m '--x=(1, 2)'"
"""

import shlex
from collections.abc import Sequence

from experiments.jobs import Job
from experiments.launchers import Options, Tell


def launch(queue: Sequence[Job], options: Options, tell: Tell) -> None:
  """Print what would run each job, a line for a shell each."""
  for job in queue:
    print(line(job))


def line(job: Job) -> str:
  """Return a unit's command as a line for a shell."""
  return shlex.join(["python", *job.argv[1:]])
