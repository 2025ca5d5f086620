"""The shell of every experiment: flags, the run folder, errors, Ctrl-C.

`app.run(main)` reads `--config=FILE[:argument]`, opens the run folder, and
calls `main(run)`.  The same command again goes on where it stopped, or says
that the run is done and where its page is.  Nothing heavy is imported before
that is known, so mains import the library inside `main`.

>>> folder("runs", "soup", "digits", {"seed": 0}).parent.as_posix()
'runs/soup'
"""

import errno
import fcntl
import inspect
import os
import pathlib
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import absl.app
import absl.logging
from absl import flags
from ml_collections import config_flags

from experiments import own, runs

USAGE = 2  # exit codes: a wrong command line,
NO_INPUT = getattr(os, "EX_NOINPUT", 66)  # missing data,
INTERRUPTED = 130  # and Ctrl-C, as shells have it

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
  flags.mark_flag_as_required("config")
  absl.app.run(
    lambda _: sys.exit(_open(main, config)), flags_parser=_parse_flags
  )


def folder(
  workdir: str, experiment: str, name: str, config: dict[str, Any]
) -> pathlib.Path:
  """Return the run folder of a config: `<experiment>/<name>-<hash>`."""
  return pathlib.Path(workdir) / experiment / f"{name}-{runs.digest(config)}"


def _parse_flags(argv: list[str]) -> list[str]:
  """Read the flags; whatever is wrong with them is one line and exit code 2."""
  path = _config_file(argv)
  try:
    if path and not os.path.isfile(path.partition(":")[0]):
      raise ValueError(f"--config: {path!r} is no file")
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise ValueError(f"unexpected argument {rest[1]!r}, expected flags only")
    return rest
  except (AttributeError, KeyError, TypeError):  # of an unknown config key
    reason = _unknown(argv, flags.FLAGS["config"].parser.parse(path))
  except (flags.Error, ValueError) as error:
    reason = str(error).strip().splitlines()[-1]  # a config's own traceback
  sys.exit(_fail(reason, USAGE))


def _config_file(argv: list[str]) -> str:
  """Return what --config names, before the flags can be parsed."""
  words = [word for argument in argv for word in argument.split("=", 1)]
  at = next((i for i, word in enumerate(words) if word == "--config"), -1)
  return words[at + 1] if 0 <= at < len(words) - 1 else ""


def _unknown(argv: list[str], config: Any) -> str:
  """Name the first override whose key the config does not have."""
  for argument in argv:
    name = argument.partition("=")[0]
    known, keys = config, name.removeprefix("--config.").split(".")
    while keys and hasattr(known, "keys") and keys[0] in known:
      known = known[keys.pop(0)]
    if name.startswith("--config.") and keys:
      inner = hasattr(known, "keys")
      expected = f"expected {', '.join(known)}" if inner else "no such level"
      return f"unknown config key {name[9:]!r}, {expected}"
  return "the overrides do not fit the config"


def _fail(reason: str, code: int) -> int:
  print(f"error: {reason}", file=sys.stderr, flush=True)
  return code


def _open(main: Callable[[runs.Run], None], flag: Any) -> int:
  """Find the run folder; answer from it, or begin or go on in it."""
  values = flags.FLAGS
  path = config_flags.get_config_filename(values["config"])
  about = {
    "experiment": pathlib.Path(inspect.getfile(main)).stem,
    "name": pathlib.Path(path.partition(":")[0]).stem,
    "command": _command(),
  }
  try:
    config = runs.plain(flag.value.to_dict(), "config")
    brought = own.functions(path.partition(":")[0])
    if brought:  # another version of the file is another run
      text = pathlib.Path(path.partition(":")[0]).read_text()
      config["own"] = runs.digest({"file": text})
  except ValueError as error:
    return _fail(str(error), USAGE)
  at = folder(values.workdir, about["experiment"], about["name"], config)
  try:
    if (at / "config.json").exists():
      runs.check_config(runs.load(at / "config.json"), config)
    if (at / "result.json").exists():
      measured = runs.load(at / "result.json")["measured"]
      print(f"done: {measured}\npage: {at / 'report.html'}")
      return 0
    begun = begin(at, flag.value, config, about, values.data_dir)
    begun = begun._replace(own=brought, download=values.download)
  except (ValueError, OSError) as error:
    return _fail(f"{at}: {error}", 1)
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  if not values["verbosity"].present:
    # Orbax logs every step, and the traceback of errors that it raises too.
    absl.logging.set_verbosity(absl.logging.FATAL)

  def work() -> None:
    _start_jax()
    main(begun)

  return guard(work, at, values.traceback)


def _command() -> str:
  """Return the command line without the paths of this machine."""
  left = [a for a in sys.argv[1:] if not a.startswith(("--workdir", "--trace"))]
  left = ["--data_dir=DIR" if a.startswith("--data_dir=") else a for a in left]
  spec = sys.modules["__main__"].__spec__
  start = ["-m", spec.name] if spec else [sys.argv[0]]
  return shlex.join(["python", *start, *left])


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


def guard(main: Callable[[], Any], at: pathlib.Path, show: bool = False) -> int:
  """Run a main so that every end is one clear line; return the exit code.

  Args:
    main: called without arguments.
    at: the run folder, for the messages.
    show: print where an error came from.
  """
  try:
    main()
    return 0
  except KeyboardInterrupt:
    print(f"\nstopped; the same command resumes {at}", file=sys.stderr)
    return INTERRUPTED
  except (ValueError, OSError, FloatingPointError) as error:
    if show:
      traceback.print_exc()
    if _full(error):
      kept = "what was written is kept; free some space and run this again"
      return _fail(f"the disk of {at} is full; {kept}", 1)
    missing = isinstance(error, FileNotFoundError)
    hint = "" if show or missing else " (--traceback shows where)"
    return _fail(f"{error}{hint}", NO_INPUT if missing else 1)


def _full(error: BaseException | None) -> bool:
  """Tell whether a full disk is behind an error, whichever tool wrapped it."""
  while error:
    if isinstance(error, OSError) and error.errno in (
      errno.ENOSPC,
      errno.EDQUOT,
    ):
      return True
    if os.strerror(errno.ENOSPC) in str(error):
      return True
    error = error.__cause__ or error.__context__
  return False


def _start_jax() -> None:
  """Keep compiled programs between runs, the quick ones too."""
  import jax

  home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = os.path.join(home, "weightspace", "xla")
    jax.config.update("jax_compilation_cache_dir", cache)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
