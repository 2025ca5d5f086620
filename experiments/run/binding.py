"""Processes that do not outlive the one that started them.

>>> bind(["true"])[-1]
'true'
"""

import os
import sys
from collections.abc import Sequence

# PR_SET_PDEATHSIG is 1; getppid shows a parent that died before it was set.
BOUND = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): sys.exit("its starter has died")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def bind(argv: Sequence[str]) -> list[str]:
  """Return a command that is killed when the process that starts it dies.

  Engines that count resources by their own processes need it: a unit that
  outlives its actor would hold the accelerator against the next.
  """
  if not sys.platform.startswith("linux"):
    return list(argv)
  return [sys.executable, "-c", BOUND, str(os.getpid()), *argv]
