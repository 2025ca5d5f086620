"""How a run ends: every end is one clear line and an exit code.

>>> guard(lambda: None, pathlib.Path("runs"))
0
"""

import errno
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

from experiments.run import command_line, lost

USAGE = command_line.USAGE  # exit codes: a wrong command line,
NO_INPUT = getattr(os, "EX_NOINPUT", 66)  # missing data,
INTERRUPTED = 130  # and Ctrl-C, as shells have it


def fail(reason: str, code: int) -> int:
  """Say why a run ends, and return its exit code."""
  print(f"error: {reason}", file=sys.stderr, flush=True)
  return code


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
  except Exception as error:
    lost.check(error, str(at), show)
    if not isinstance(error, ValueError | OSError | FloatingPointError):
      raise
    if show:
      traceback.print_exc()
    if _full(error):
      kept = "what was written is kept; free some space and run this again"
      return fail(f"the disk of {at} is full; {kept}", 1)
    missing = isinstance(error, FileNotFoundError)
    hint = "" if show or missing else " (--traceback shows where)"
    return fail(f"{error}{hint}", NO_INPUT if missing else 1)


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
