"""Sweeps: run every unit of a config's `sweep(add)`, here or elsewhere.

The same command again runs what is left; any launcher may be killed, changed
for another, or started twice.

python -m experiments.sweep --config=FILE --workdir=DIR \\
  [--launcher=local] [--workers=2]
"""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import absl.app
from absl import flags

from experiments import app, jobs, launchers, sweep_board, units
from experiments.jobs import Job
from experiments.units import expand

__all__ = ["expand", "plan", "run"]


def plan(
  sweep: units.Sweep, workdir: str, rest: tuple[str, ...] = ()
) -> list[Job]:
  """Return the jobs of a sweep, in order; nothing is written."""
  folders = [str(pathlib.Path(workdir, unit.id)) for unit in sweep.units]
  return [
    Job(unit.id, units.command(sweep, unit, folder, rest), folder)
    for unit, folder in zip(sweep.units, folders)
  ]


def main(argv: Sequence[str]) -> None:
  """Run the sweep that the flags describe."""
  try:
    if len(argv) > 1:
      raise ValueError(f"unexpected argument {argv[1]!r}, expected flags only")
    sys.exit(run(flags.FLAGS))
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(app.USAGE)
  except KeyboardInterrupt:
    print("\nstopped; the same command goes on", file=sys.stderr)
    sys.exit(app.INTERRUPTED)


def run(values: Any) -> int:
  """Expand a sweep, hand what is left of it to a launcher; return 0 or 1.

  Raises:
    ValueError: before any unit starts, for whatever is wrong with the flags,
      the config or the folder.
  """
  launch = launchers.find(values.launcher)
  experiment = units.find_experiment(
    values.config, values.experiment, _experiments
  )
  sweep = units.Sweep(experiment, values.config, expand(values.config))
  rest = (f"--data_dir={values.data_dir}",) if values.data_dir else ()
  queue = plan(sweep, values.workdir, rest)
  options = launchers.Options(values.workers, values.retries, values.pin)
  if values.launcher == "print":
    launch(queue, options, lambda outcome: None)
    return 0
  for job, unit in zip(queue, sweep.units):
    jobs.describe(job, unit.overrides)
  waiting = jobs.left(queue)
  board = sweep_board.Board(len(queue), len(waiting), options.workers)
  launch(waiting, options, board.tell)
  return board.summary()


def _experiments() -> dict[str, str]:
  """Return {config: experiment} of the claims."""
  from experiments import reproduce

  return {
    claim.config.__name__.rpartition(".")[2]: claim.experiment
    for claim in reproduce.CLAIMS
  }


if __name__ == "__main__":
  flags.DEFINE_string("config", None, "FILE[:argument] with sweep(add).")
  flags.DEFINE_string("experiment", None, "Which experiment runs the units.")
  flags.DEFINE_enum(
    "launcher", "local", list(launchers.LAUNCHERS), "Where units run."
  )
  flags.DEFINE_integer("workers", os.cpu_count() or 1, "Units at a time.")
  flags.DEFINE_integer("retries", 1, "Further attempts at a unit that fails.")
  flags.DEFINE_bool("pin", True, "Give each worker cores of its own.")
  flags.DEFINE_string("data_dir", None, "Folder with the data sets' files.")
  flags.DEFINE_string("workdir", "runs/sweep", "Folder of the sweep.")
  flags.mark_flag_as_required("config")
  absl.app.run(main)
