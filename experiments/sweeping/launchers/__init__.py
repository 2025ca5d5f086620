"""Launchers: where the units of a sweep run.

A launcher is one function, `launch(jobs, options, tell)`: it brings every job
to an outcome, "done" or "failed", and calls `tell(outcome)` as each comes in,
from any thread; before, it tells of units that are "running", of failures that
are tried "again", and of those where another launcher is "busy".  All of them
run a unit by `jobs.execute`, so any may be killed, changed for another, or run
twice.
A new one is one file here and one line in LAUNCHERS; what it alone can be told
(`--set=zone=us-west4-a`) is its SETTINGS, {name: default}.  One that only says
what would be run has STARTS = False: nothing is written, and no board is shown.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from experiments.sweeping.jobs import Job, Outcome

LAUNCHERS = {  # name: module
  "local": "local",
  "ray": "ray_cluster",
  "slurm": "slurm",
  "print": "printed",
}
EXTRAS = {"ray": "ray", "slurm": "submitit"}  # name, as of the extra: package

Tell = Callable[[Outcome], None]


class Options(NamedTuple):
  """What the command line says; each launcher looks at what concerns it."""

  workers: int  # units at a time
  retries: int = 1  # further attempts at a unit that fails
  pin: bool = True  # give each worker cores of its own
  hosts: int = 1  # processes of a unit, on a host each
  chips: int = 0  # accelerators of each host that a unit takes
  render: str = "shell"  # what `print` gives
  settings: Mapping[str, str] = types.MappingProxyType({})


Launch = Callable[[Sequence[Job], Options, Tell], None]


def find(name: str) -> Launch:
  """Return the launcher of a name, importing no other.

  Raises:
    ValueError: for an unknown name, or one whose extra is not installed.
  """
  if name not in LAUNCHERS:
    known = ", ".join(LAUNCHERS)
    raise ValueError(f"--launcher: {name!r}, expected one of {known}")
  package = EXTRAS.get(name)
  if package and importlib.util.find_spec(package) is None:
    raise ValueError(
      f"--launcher: {name!r} needs {package}, which is not installed,"
      f" expected after pip install '.[{name}]'"
    )
  module = importlib.import_module(f"{__name__}.{LAUNCHERS[name]}")
  return module.launch


def starts(launch: Launch) -> bool:
  """Tell whether a launcher starts units, which it does unless it says not."""
  return getattr(sys.modules[launch.__module__], "STARTS", True)


def settle(launch: Launch, options: Options) -> Options:
  """Return the options with the launcher's own settings filled in.

  Raises:
    ValueError: for a number out of range, or a setting that it does not have.
  """
  least = {"workers": 1, "retries": 0, "hosts": 1, "chips": 0}
  for name, low in least.items():
    value = getattr(options, name)
    if value < low:
      raise ValueError(f"--{name}: {value}, expected at least {low}")
  known = getattr(sys.modules[launch.__module__], "SETTINGS", {})
  for name in options.settings:
    if name not in known:
      expected = f"one of {', '.join(known)}" if known else "none here"
      raise ValueError(f"--set: {name!r} is unknown, expected {expected}")
  return options._replace(settings={**known, **options.settings})
