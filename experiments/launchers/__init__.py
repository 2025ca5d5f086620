"""Launchers: where the units of a sweep run.

A launcher is one function, `launch(jobs, options, tell)`: it brings every job
to an outcome and calls `tell(outcome)` as each one comes in.  All of them run a
unit by `jobs.execute`, so any may be killed, changed for another, or run twice.
A new one is one file here and one line in LAUNCHERS.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.jobs import Job, Outcome

LAUNCHERS = {"local": "local", "print": "printed"}  # name: module

Tell = Callable[[Outcome], None]


class Options(NamedTuple):
  """What the command line says; each launcher looks at what concerns it."""

  workers: int  # units at a time
  retries: int = 1  # further attempts at a unit that fails
  pin: bool = True  # give each worker cores of its own


Launch = Callable[[Sequence[Job], Options, Tell], None]


def find(name: str) -> Launch:
  """Return the launcher of a name, importing no other.

  Raises:
    ValueError: for an unknown name.
  """
  if name not in LAUNCHERS:
    known = ", ".join(LAUNCHERS)
    raise ValueError(f"--launcher: {name!r}, expected one of {known}")
  module = importlib.import_module(f"{__name__}.{LAUNCHERS[name]}")
  return module.launch
