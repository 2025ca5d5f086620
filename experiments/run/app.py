"""The shell of every experiment: flags, the run folder, errors, Ctrl-C.

`app.run(main)` reads `--config=FILE[:argument]`, opens the run folder, and
calls `main(run)`.  The same command again goes on where it stopped, or says
that the run is done and where its page is.  Nothing heavy is imported before
that is known, so mains import the library inside `main`.

>>> folder("runs", "soup", "digits", {"seed": 0}).parent.as_posix()
'runs/soup'
"""

import fcntl
import inspect
import json
import pathlib
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import absl.app
import absl.logging
from absl import flags
from ml_collections import config_flags

from experiments.run import (
  command_line,
  endings,
  files,
  hosts,
  lost,
  own,
  profiling,
  registration,
  runs,
  trackers,
)

# The flags below belong to the main that calls `run`: --help lists them.
flags.disclaim_key_flags()


def run(main: Callable[[runs.Run], None]) -> None:
  """Run an experiment's main under the flags of the command line.

  Args:
    main: called with the `Run` of this config's folder.
  """
  config = config_flags.DEFINE_config_file(
    "config", None, "FILE[:name=value,...]: the config; --config.a=b overrides."
  )
  flags.DEFINE_string("data_dir", None, "Folder with the data sets' files.")
  flags.DEFINE_bool("download", False, "Fetch a data set that is not there.")
  flags.DEFINE_string("workdir", "runs", "Folder that holds the run folders.")
  flags.DEFINE_bool("traceback", False, "Show where an error came from.")
  flags.DEFINE_bool(
    "distributed", False, "Join the other hosts, as TPU pods and SLURM have it."
  )
  flags.DEFINE_string(
    "profile", "", "Trace all stages, or those computed in a range: 2:4."
  )
  flags.DEFINE_float(
    "save_every", 60.0, "Save training every so many seconds; 0: not.", 0.0
  )
  flags.DEFINE_enum(
    "tracker", None, [*trackers.PACKAGES], "Log to another tool too."
  )
  flags.mark_flag_as_required("config")
  absl.app.run(
    lambda _: sys.exit(_open(main, config)), flags_parser=command_line.parse
  )


def _experiment(main: Callable[[runs.Run], None]) -> str:
  """Return the name of a main's experiment: of its file, or of its package."""
  path = pathlib.Path(inspect.getfile(main))
  return path.parent.name if path.stem == "__main__" else path.stem


def folder(
  workdir: str, experiment: str, name: str, config: dict[str, Any]
) -> pathlib.Path:
  """Return the run folder of a config: `<experiment>/<name>-<hash>`.

  Raises:
    ValueError: for a store, whose files no run can add lines to.
  """
  files.check_local(workdir)
  return pathlib.Path(workdir) / experiment / f"{name}-{runs.digest(config)}"


def _open(main: Callable[[runs.Run], None], flag: Any) -> int:
  """Find the run folder; answer from it, or begin or go on in it."""
  values = flags.FLAGS
  path = config_flags.get_config_filename(values["config"])
  about = {
    "experiment": _experiment(main),
    "name": pathlib.Path(path.partition(":")[0]).stem,
    "command": command_line.again(),
  }
  try:
    profiling.chosen(values.profile)
    trackers.check(values.tracker)
    config, brought = settle(flag.value.to_dict(), path.partition(":")[0])
    at = folder(values.workdir, about["experiment"], about["name"], config)
  except ValueError as error:
    return endings.fail(str(error), endings.USAGE)
  try:
    if (at / "config.json").exists():
      runs.check_config(runs.load(at / "config.json"), config)
    if (at / "result.json").exists():
      measured = runs.load(at / "result.json")["measured"]
      print(f"done: {measured}\npage: {at / 'report.html'}")
      return 0
    if not values.traceback:
      lost.watch(str(at), values.distributed)
    begun = _begin_all(at, flag.value, config, about, values.data_dir)
    begun = begun._replace(
      own=brought, download=values.download, save_every=values.save_every
    )
  except (ValueError, OSError, RuntimeError) as error:
    lost.check(error, str(at), values.traceback)
    if isinstance(error, RuntimeError):
      raise
    return endings.fail(f"{at}: {error}", 1)
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  if not values["verbosity"].present:
    # Orbax logs every step, and the traceback of errors that it raises too.
    absl.logging.set_verbosity(absl.logging.FATAL)
  return endings.guard(lambda: _work(main, begun), at, values.traceback)


def settle(given: dict[str, Any], file: str) -> tuple[dict[str, Any], Any]:
  """Return what a run is, by which its folder is named, and its own functions.

  Args:
    given: a config.
    file: that it is from, which may bring functions (own.py).

  Raises:
    ValueError: for a mesh that cannot be, a value that JSON does not have, or
      a claim that is not registered in full.
  """
  config = runs.plain(given, "config")
  hosts.complete(config.pop("mesh", None))  # where it runs is not what it is
  registered = config.pop("registered", None)  # nor is what is claimed of it
  if registered:
    registration.check(registered)
  brought = own.functions(file)
  if brought:  # another version of the file is another run
    config["own"] = runs.digest({"file": pathlib.Path(file).read_text()})
  return config, brought


def _begin_all(
  at: pathlib.Path,
  flag: Any,
  config: dict[str, Any],
  about: dict[str, str],
  data_dir: str | None,
) -> runs.Run:
  """Begin or go on, with the other hosts where there are any.

  Raises:
    ValueError: in all of them, when they disagree or the first cannot begin.
  """
  from weightspace.hosts import multihost, startup

  given = flag, config, about, data_dir
  startup.start(flags.FLAGS.distributed)
  if not multihost.several():
    return begin(at, *given)
  here = {"at": at.name, "save_every": flags.FLAGS.save_every}
  hosts.agree({**here, "config": config | {"mesh": dict(flag.mesh)}})
  mine: list[runs.Run] = []
  multihost.first(lambda: mine.append(begin(at, *given)))
  known = multihost.share(json.dumps(mine[0].lines) if mine else "")
  if mine:
    return mine[0]
  lines = json.loads(known)
  since = time.monotonic()
  return runs.Run(flag, at, data_dir, about, lines, since, None, writes=False)


def _work(main: Callable[[runs.Run], None], run: runs.Run) -> None:
  """Call a main with its mesh, its meter and its tracker."""
  values = flags.FLAGS
  mesh = hosts.mesh(dict(run.config.mesh))
  meter = profiling.Meter(values.profile)
  meter.listen()
  tracker = None
  if values.tracker and run.writes:
    settings = run.config.to_dict()
    tracker = trackers.begin(values.tracker, run.folder, run.about, settings)
  track = trackers.feed(tracker) if tracker else None
  try:
    main(run._replace(mesh=mesh, meter=meter, track=track))
  finally:
    if tracker:
      tracker.close()


def begin(
  at: pathlib.Path,
  flag: Any,
  config: dict[str, Any],
  about: dict[str, str],
  data_dir: str | None,
) -> runs.Run:
  """Make a run folder, or go on in one of the same config.

  Raises:
    ValueError: when another process is at work in it.
  """
  found = at / "config.json"
  if not found.exists():
    runs.write(found, runs.dump(config))
  lock = open(found, "rb")  # closed by the end of the process, however it ends
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    lock.close()
    raise ValueError("another process runs in this folder") from None
  lines = runs.read_lines(at / "metrics.jsonl")
  before = lines[-1]["seconds"] if lines else 0.0
  if lines:
    print(f"resuming {at} after {before:.0f} s of work", flush=True)
  known = {runs.identity(line): line for line in lines}
  since = time.monotonic() - before
  return runs.Run(flag, at, data_dir, about, known, since, lock)
