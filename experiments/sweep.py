"""Sweeps: run every unit of a config's `sweep(add)`, here or elsewhere.

The same command again runs what is left; any launcher may be killed, changed
for another, or started twice.

python -m experiments.sweep --config=FILE --workdir=DIR \\
  [--launcher=local|ray|slurm|print] [--workers=2]

What is not said on the command line may be in the config, as LAUNCH, {name:
value}: `LAUNCH = {"hosts": 4, "chips": 4}`.  Flags after `--` are given to
every unit, and are no part of what it is: `-- --config.mesh.population=-1`.
"""

import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import absl.app
from absl import flags

from experiments.run import endings, files
from experiments.sweeping import jobs, launchers, sweep_board, units
from experiments.sweeping.jobs import Job
from experiments.sweeping.units import expand

__all__ = ["expand", "plan", "run"]


def plan(
  sweep: units.Sweep, workdir: str, rest: tuple[str, ...] = ()
) -> list[Job]:
  """Return the jobs of a sweep, in order; nothing is written."""
  files.check_local(workdir)
  folders = [str(pathlib.Path(workdir, unit.id)) for unit in sweep.units]
  return [
    Job(
      unit.id,
      units.command(sweep, unit, folder, rest),
      folder,
      dict(unit.overrides),
    )
    for unit, folder in zip(sweep.units, folders)
  ]


def main(argv: Sequence[str]) -> None:
  """Run the sweep that the flags describe."""
  try:
    sys.exit(run(flags.FLAGS, argv[1:]))
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(endings.USAGE)
  except OSError as error:
    print(f"error: {flags.FLAGS.workdir}: {error}", file=sys.stderr)
    sys.exit(endings.USAGE)
  except KeyboardInterrupt:
    print("\nstopped; the same command goes on", file=sys.stderr)
    sys.exit(endings.INTERRUPTED)


def run(values: Any, more: Sequence[str] = ()) -> int:
  """Expand a sweep, hand what is left of it to a launcher; return 0 or 1.

  Args:
    values: the flags.
    more: further flags of every unit.

  Raises:
    ValueError: before any unit starts, for whatever is wrong with the flags,
      the config or the folder.
  """
  launch = launchers.find(values.launcher)
  experiment = units.find_experiment(values.config, values.experiment)
  sweep = units.Sweep(experiment, values.config, expand(values.config))
  units.check_flags(values.config, more)
  data = (f"--data_dir={values.data_dir}",) if values.data_dir else ()
  queue = plan(sweep, values.workdir, (*data, *more))
  options = launchers.settle(launch, _options(values))
  waiting = jobs.left(queue)
  if not launchers.starts(launch):
    launch(waiting, options, lambda outcome: None)
    return 0
  _try(values.workdir)
  with sweep_board.Board(len(queue), waiting, options.workers) as board:
    launch(waiting, options, board.tell)
  return board.summary()


def _try(workdir: str) -> None:
  """Raise an OSError for a folder that cannot be written to."""
  os.makedirs(workdir, exist_ok=True)
  with tempfile.TemporaryFile(dir=workdir) as file:
    file.write(bytes(4096))


def _options(values: Any) -> launchers.Options:
  """Return what the command line says, or else the config's LAUNCH.

  Raises:
    ValueError: for a name in LAUNCH that is no option, or a --set without `=`.
  """
  known: dict[str, Any] = {"workers": os.cpu_count() or 1}
  config = units.load(values.config.partition(":")[0])
  for name, value in getattr(config, "LAUNCH", {}).items():
    if name not in launchers.Options._fields:
      expected = ", ".join(launchers.Options._fields)
      raise ValueError(f"LAUNCH: {name!r}, expected one of {expected}")
    known[name] = value
  settings = dict(known.pop("settings", {}))
  for word in getattr(values, "set", None) or ():
    name, equals, value = word.partition("=")
    if not (name and equals):
      raise ValueError(f"--set: {word!r}, expected NAME=VALUE")
    settings[name] = value
  for name in launchers.Options._fields:
    value = getattr(values, name, None)
    if name != "settings" and value is not None:
      known[name] = value
  return launchers.Options(**known, settings=settings)


if __name__ == "__main__":
  flags.DEFINE_string("config", None, "FILE[:argument] with sweep(add).")
  flags.DEFINE_string("experiment", None, "Which experiment runs the units.")
  flags.DEFINE_enum(
    "launcher", "local", list(launchers.LAUNCHERS), "Where units run."
  )
  flags.DEFINE_integer("workers", None, "Units at a time; one for each core.")
  flags.DEFINE_integer("retries", None, "Further attempts at what fails; 1.")
  flags.DEFINE_bool("pin", None, "Give each worker cores of its own; yes.")
  flags.DEFINE_integer("hosts", None, "Processes of a unit, on a host each; 1.")
  flags.DEFINE_integer("chips", None, "Accelerators of each host it takes; 0.")
  flags.DEFINE_enum(
    "render", None, ["shell", "gcloud", "jobset", "xmanager"], "What to print."
  )
  flags.DEFINE_multi_string("set", None, "NAME=VALUE of the launcher's own.")
  flags.DEFINE_string("data_dir", None, "Folder with the data sets' files.")
  flags.DEFINE_string("workdir", "runs/sweep", "Folder of the sweep.")
  flags.mark_flag_as_required("config")
  absl.app.run(main)
